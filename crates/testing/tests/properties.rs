//! Every property body under random input; `PROPTEST_CASES` sets how much of it. `fuzz/` runs the same bodies.

use proptest::collection::vec;
use proptest::prelude::*;
use wsstream_testing::property::{cases, connection, decoder, linked, outbox, spdy, spdy_tunnel, text};

/// One test for each body: its name, how many cases, and the longest input.
macro_rules! properties {
    ($($name:ident: $body:path, $cases:expr, $len:expr;)*) => {
        $(proptest! {
            #![proptest_config(cases($cases))]
            #[test]
            fn $name(input in vec(any::<u8>(), 0..$len)) {
                $body(&input);
            }
        })*
    };
}

properties! {
    legal_frames_decode_alike_in_any_cut: decoder::legal_frames, 512, 400;
    any_bytes_decode_alike_in_any_cut: decoder::any_cut, 512, 300;
    three_engines_read_legal_frames_alike: decoder::differential_legal, 256, 300;
    three_engines_differ_only_as_documented: decoder::differential, 1024, 300;
    three_engines_understand_each_others_frames: outbox::understood_by_others, 256, 300;
    frames_stay_whole_in_the_outbox: outbox::frames_stay_whole, 512, 400;
    any_bytes_mean_the_same_in_any_cut: connection::any_cut, 1024, 400;
    legal_frames_mean_what_the_model_says: connection::as_the_model_says, 1024, 400;
    each_byte_arrives_once_between_two_machines: linked::each_byte_arrives_once, 1024, 600;
    sizes_decode_alike_in_any_cut: text::terminal_sizes, 1024, 120;
    requests_survive_a_round_trip: text::requests, 512, 120;
    statuses_survive_a_round_trip: text::statuses, 512, 120;
    base64_decodes_as_go_does: text::base64, 1024, 60;
    spdy_frames_decode_as_they_were_written: spdy::frames::legal_frames, 512, 400;
    spdy_bytes_decode_alike_in_any_cut: spdy::frames::any_cut, 1024, 400;
    header_blocks_come_out_as_they_went_in: spdy::inflate::round_trip, 512, 300;
    header_blocks_are_read_as_zlib_reads_them: spdy::inflate::as_zlib_does, 1024, 300;
    spdy_sessions_tell_the_same_story_in_any_cut: spdy::session::any_cut, 1024, 500;
    each_byte_arrives_once_between_two_spdy_sessions: spdy::linked::each_byte_arrives_once, 1024, 800;
    tunnelled_bytes_mean_the_same_in_any_cut: spdy_tunnel::any_cut, 1024, 400;
    tunnelled_frames_mean_what_the_model_says: spdy_tunnel::as_the_model_says, 1024, 400;
    each_byte_arrives_once_through_a_tunnel: spdy_tunnel::each_byte_arrives_once, 1024, 600;
}

/// The comparison took it for a difference. Found by the fuzzer.
#[test]
fn a_code_without_symbols_is_refused_sooner_than_zlib_does() {
    spdy::inflate::as_zlib_does(&[0xff, 0x30, 0xf8, 0x25, 0x07, 0x00, 0x00]);
}

/// The story expected an echo of each. Found by the fuzzer.
#[test]
fn more_pings_than_a_session_remembers_have_echoes_that_it_does_not_report() {
    let mut story = vec![b'2'; 35];
    story.extend([0xcb, 0x08, 0x00, 0x00, 0x49, 0x27, 0x32, 0xaa]);
    spdy::linked::each_byte_arrives_once(&story);
}
