//! SPDY. The frame decoder, and legal frames.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::spdy::frames;

fuzz_target!(|input: &[u8]| {
    frames::any_cut(input);
    frames::legal_frames(input);
});
