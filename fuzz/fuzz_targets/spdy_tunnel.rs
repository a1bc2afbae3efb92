//! The stream of bytes inside a WebSocket.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::targets;

fuzz_target!(|input: &[u8]| targets::spdy_tunnel(input));
