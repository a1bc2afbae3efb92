//! Messages for one channel that come together are one event: a flood of small ones costs what its bytes cost.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests fail as tests do")]

mod end;

use bytes::BytesMut;
use end::*;
use wsstream_proto::channel::ChannelMode;
use wsstream_proto::connection::{Event, Role, Violation};
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::ws::ProtocolError;

/// Frames of a client, one behind the other.
fn frames(messages: &[(u8, &[u8])]) -> Vec<u8> {
    messages.iter().flat_map(|(opcode, payload)| frame(true, true, *opcode, payload)).collect()
}

#[test]
fn a_run_is_one_event_and_one_view_of_the_input() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    let bytes = frames(&[(BINARY, b"\0one"), (TEXT, b"\0two"), (BINARY, b"\0, three"), (BINARY, b"\0!")]);
    let mut input = BytesMut::from(&bytes[..]);
    let begin = input.as_ptr();
    let Some(Event::Data { data, .. }) = end.machine.handle_input(&mut input).unwrap() else { panic!() };
    assert_eq!(data, "onetwo, three!");
    assert_eq!(data.as_ptr() as usize - begin as usize, 7, "behind the first header, not copied elsewhere");
    assert!(input.is_empty());
}

#[test]
fn whatever_is_not_of_the_run_ends_it() {
    let begin = [(BINARY, &b"\0a"[..]), (BINARY, b"\0b")];
    for (between, expect) in [
        ((PING, &b"1"[..]), Event::Ping),
        ((PONG, b""), Event::Pong),
        ((BINARY, b"\0"), empty(0)),
        ((BINARY, b"\x04{}"), data(4, b"{}")),
        ((BINARY, b"\x02x"), not_read(2)),
        ((BINARY, b"\x09x"), out_of_range(9)),
    ] {
        let mut end = server(Subprotocol::V5, &REMOTE);
        let all = [&begin[..], &[between], &begin].concat();
        assert_eq!(end.bytes(&frames(&all)).unwrap(), [data(0, b"ab"), expect, data(0, b"ab")]);
    }
    let mut end = server(Subprotocol::V5, &REMOTE);
    let all = [&begin[..], &[(BINARY, b"\xff\0")], &begin[..1]].concat();
    assert_eq!(end.bytes(&frames(&all)).unwrap(), [data(0, b"ab"), half_closed(0), after_close(0)]);
    // One without even a channel is ignored, but it ends the run.
    let all = [&begin[..], &[(BINARY, b"")], &begin].concat();
    let mut end = server(Subprotocol::V5, &REMOTE);
    assert_eq!(end.bytes(&frames(&all)).unwrap(), [data(0, b"ab"), data(0, b"ab")]);
}

#[test]
fn what_came_before_a_fault_is_delivered() {
    let mut end = limited(Role::Server, Subprotocol::V4, &REMOTE, 8);
    let mut input =
        BytesMut::from(&frames(&[(BINARY, b"\0a"), (BINARY, b"\0b"), (BINARY, b"\0longer than 8")])[..]);
    assert_eq!(end.machine.handle_input(&mut input).unwrap(), Some(data(0, b"ab")));
    let fault = Violation::WebSocket(ProtocolError::TooLarge { limit: 8 });
    assert_eq!(end.machine.handle_input(&mut input), Err(fault));
}

#[test]
fn a_fragmented_message_ends_a_run_and_may_begin_one() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    let bytes = [
        frame(true, true, BINARY, b"\0a"),
        frame(true, false, BINARY, b"\0b"),
        frame(true, true, CONTINUATION, b"\x04"),
        frame(true, true, BINARY, b"\0c"),
    ];
    assert_eq!(end.bytes(&bytes.concat()).unwrap(), [data(0, b"ab"), data(0, b"\x04c")]);
}

/// Wherever the reads cut it, and whether or not it has channels, the same bytes come.
#[test]
fn the_cut_changes_nothing() {
    let long = [&b"\0"[..], &[b'x'; 200]].concat();
    let bytes = frames(&[
        (BINARY, b"\0one"),
        (BINARY, &long),
        (BINARY, b"\0two"),
        (BINARY, b"\0"),
        (BINARY, b"\x04{}"),
        (BINARY, b"\0three"),
    ]);
    let all = |cuts: &[usize]| {
        let mut end = server(Subprotocol::V4, &REMOTE);
        let (mut input, mut from, mut got) = (BytesMut::new(), 0, [Vec::new(), Vec::new()]);
        for to in cuts.iter().copied().chain([bytes.len()]) {
            input.extend_from_slice(&bytes[from..to]);
            from = to;
            while let Some(event) = end.machine.handle_input(&mut input).unwrap() {
                match event {
                    Event::Data { channel, data } => {
                        got[usize::from(channel.0 == 4)].extend_from_slice(&data);
                    }
                    event => assert_eq!(event, empty(0)),
                }
            }
        }
        got
    };
    let whole = all(&[]);
    assert_eq!(whole[0].len(), 3 + 200 + 3 + 5);
    for first in 0..bytes.len() {
        assert_eq!(all(&[first]), whole, "cut at {first}");
        assert_eq!(all(&[first, (first + 9).min(bytes.len())]), whole, "cut at {first} and 9 behind");
    }
}

#[test]
fn the_messages_of_a_single_stream_are_a_run_too() {
    let mut end = client(Subprotocol::BINARY, &[ChannelMode::Read]);
    let bytes: Vec<u8> =
        [&b"\0a"[..], b"b", b"\0"].iter().flat_map(|m| frame(false, true, BINARY, m)).collect();
    assert_eq!(end.bytes(&bytes).unwrap(), [data(0, b"\0ab\0")]);
}

#[test]
fn base64_stays_message_by_message() {
    let mut end = server(Subprotocol::V4_BASE64_CHANNEL, &REMOTE);
    assert_eq!(
        end.bytes(&frames(&[(TEXT, b"0YQ=="), (TEXT, b"0Yg==")])).unwrap(),
        [data(0, b"a"), data(0, b"b")]
    );
}
