//! SPDY. One session under anything a peer may send.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::spdy::session;

fuzz_target!(|input: &[u8]| {
    session::any_cut(input);
});
