//! The payloads of the base64 protocols.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::targets;

fuzz_target!(|input: &[u8]| targets::base64(input));
