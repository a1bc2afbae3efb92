//! The status at the end of a session.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::targets;

fuzz_target!(|input: &[u8]| targets::status(input));
