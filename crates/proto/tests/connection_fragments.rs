//! Fragments are reassembled (RFC 6455 section 5.4). Upstream takes each one for a message and its first byte for a
//! channel, which corrupts the data of every client that fragments.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests fail as tests do")]

mod end;

use end::*;
use wsstream_proto::connection::{Event, Violation};
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::ws::ProtocolError;

#[test]
fn the_channel_byte_stands_in_the_first_fragment_only() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    assert_eq!(end.frame(false, BINARY, b"\0ab"), Ok(vec![data(0, b"ab")]));
    assert_eq!(end.frame(false, CONTINUATION, b"\x01cd"), Ok(vec![data(0, b"\x01cd")]));
    assert_eq!(end.frame(true, CONTINUATION, b"\x04"), Ok(vec![data(0, b"\x04")]));
    assert_eq!(end.binary(b"\x04next"), [data(4, b"next")]);
}

#[test]
fn an_empty_first_fragment_decides_nothing() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    assert_eq!(end.frame(false, BINARY, b""), Ok(vec![]));
    assert_eq!(end.frame(false, CONTINUATION, b""), Ok(vec![]));
    assert_eq!(end.frame(false, CONTINUATION, b"\x04"), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, b"x"), Ok(vec![data(4, b"x")]));
    // And when nothing at all follows it is a message without a channel.
    assert_eq!(end.frame(false, BINARY, b""), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, b""), Ok(vec![]));
    assert_eq!(end.binary(b"\0a"), [data(0, b"a")]);
}

#[test]
fn a_fragmented_empty_message_is_reported_once_at_its_end() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    assert_eq!(end.frame(false, BINARY, b"\0"), Ok(vec![]));
    assert_eq!(end.frame(false, CONTINUATION, b""), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, b""), Ok(vec![empty(0)]));
}

#[test]
fn control_frames_come_between_fragments() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    assert_eq!(end.frame(false, BINARY, b"\0a"), Ok(vec![data(0, b"a")]));
    assert_eq!(end.frame(true, PING, b"1"), Ok(vec![Event::Ping]));
    assert_eq!(end.frame(true, PONG, b""), Ok(vec![Event::Pong]));
    assert_eq!(end.frame(true, CONTINUATION, b"b"), Ok(vec![data(0, b"b")]));
    assert_eq!(end.sent(), [0x8a, 1, b'1']);
}

#[test]
fn a_close_frame_may_cut_a_message_short() {
    let mut end = server(Subprotocol::V4_BASE64_CHANNEL, &REMOTE);
    assert_eq!(end.frame(false, TEXT, b"0Zm9"), Ok(vec![]));
    assert_eq!(end.machine.collected_bytes(), 3);
    assert_eq!(end.frame(true, CLOSE, &[3, 0xe8]), Ok(vec![closed(1000)]));
}

#[test]
fn base64_is_decoded_when_the_message_is_whole() {
    let mut end = server(Subprotocol::BASE64_CHANNEL, &REMOTE);
    assert_eq!(end.frame(false, TEXT, b"0Z"), Ok(vec![]));
    assert_eq!(end.frame(true, PING, b""), Ok(vec![Event::Ping]));
    assert_eq!(end.frame(false, CONTINUATION, b"m9vC"), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, b"g=="), Ok(vec![data(0, b"foo\n")]));
    assert_eq!(end.machine.collected_bytes(), 0);
}

#[test]
fn a_dropped_message_is_dropped_whole_and_reported_once() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    assert_eq!(end.frame(false, BINARY, b"\x09no"), Ok(vec![out_of_range(9)]));
    assert_eq!(end.frame(false, CONTINUATION, b"\0such"), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, b"\0channel"), Ok(vec![]));
    assert_eq!(end.binary(b"\0a"), [data(0, b"a")]);
    assert_eq!(end.machine.drop_counts().out_of_range, 1);
}

#[test]
fn fragments_that_break_the_rules_end_the_connection_with_1002() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    let stray = Violation::WebSocket(ProtocolError::StrayContinuation);
    assert_eq!(end.frame(true, CONTINUATION, b"\0a"), Err(stray));
    assert_eq!(end.sent()[2..4], 1002u16.to_be_bytes());

    let mut end = server(Subprotocol::V4, &REMOTE);
    end.frame(false, BINARY, b"\0a").unwrap();
    let interrupted = Violation::WebSocket(ProtocolError::InterruptedMessage);
    assert_eq!(end.frame(true, BINARY, b"\0b"), Err(interrupted));
    assert_eq!(end.sent()[2..4], 1002u16.to_be_bytes());
}
