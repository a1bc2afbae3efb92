//! The stream of terminal sizes.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::text;

fuzz_target!(|input: &[u8]| {
    text::terminal_sizes(input);
});
