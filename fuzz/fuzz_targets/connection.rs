//! The machine of one connection under anything a peer may send.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::connection;

fuzz_target!(|input: &[u8]| {
    connection::any_cut(input);
    connection::as_the_model_says(input);
});
