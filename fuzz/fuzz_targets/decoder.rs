//! Frames in any cut, legal and not, and against two other engines.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::decoder;

fuzz_target!(|input: &[u8]| {
    decoder::any_cut(input);
    decoder::legal_frames(input);
    decoder::differential(input);
    decoder::differential_legal(input);
});
