//! The status at the end of a session.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::text;

fuzz_target!(|input: &[u8]| {
    text::statuses(input);
});
