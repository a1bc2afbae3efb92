//! SPDY. Header blocks beside zlib-rs.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::spdy::inflate;

fuzz_target!(|input: &[u8]| {
    inflate::as_zlib_does(input);
    inflate::round_trip(input);
});
