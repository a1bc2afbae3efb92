//! SPDY. Two sessions joined by random deliveries.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::spdy::linked;

fuzz_target!(|input: &[u8]| {
    linked::each_byte_arrives_once(input);
});
