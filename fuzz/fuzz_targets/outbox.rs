//! Whole frames on the wire, and other engines that read them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::targets;

fuzz_target!(|input: &[u8]| targets::outbox(input));
