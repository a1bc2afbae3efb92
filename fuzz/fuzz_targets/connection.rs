//! The machine of one connection under anything a peer may send.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::targets;

fuzz_target!(|input: &[u8]| targets::connection(input));
