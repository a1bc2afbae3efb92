//! Whole frames on the wire, and other engines that read them.

#![no_main]

use libfuzzer_sys::fuzz_target;
use wsstream_testing::property::outbox;

fuzz_target!(|input: &[u8]| {
    outbox::frames_stay_whole(input);
    outbox::understood_by_others(input);
});
