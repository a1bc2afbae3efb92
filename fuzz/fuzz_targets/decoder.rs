//! Frames in any cut, legal and not, and against two other engines.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::targets;

fuzz_target!(|input: &[u8]| targets::decoder(input));
