//! The base64 protocols on the machine: what is taken, what is dropped, and that nothing partial is delivered.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests fail as tests do")]

mod end;

use end::*;
use wsstream_proto::channel::{ChannelId, ChannelMode, MAX_BASE64_CHANNEL};
use wsstream_proto::connection::{Dropped, Event, SendError};
use wsstream_proto::subprotocol::Subprotocol;

#[test]
fn the_messages_of_appendix_a() {
    let modes = [ChannelMode::ReadWrite; 4];
    for subprotocol in [Subprotocol::BASE64_CHANNEL, Subprotocol::V4_BASE64_CHANNEL] {
        let mut end = server(subprotocol, &modes);
        for (text, channel, payload) in [
            ("0Zm9vCg==", 0, &b"foo\n"[..]),
            ("1Cg==", 1, b"\n"),
            ("0UAA=", 0, &[0x50, 0]),
            ("2+yA=", 2, &[0xfb, 0x20]),
        ] {
            assert_eq!(end.text(text), [data(channel, payload)], "{text}");
            end.machine.send(ChannelId(channel), payload.to_vec().into()).unwrap();
            assert_eq!(end.sent(), frame(false, true, TEXT, text.as_bytes()));
        }
    }
}

#[test]
fn the_channel_is_any_character_from_0_on() {
    let mut end = server(Subprotocol::BASE64_CHANNEL, &[ChannelMode::Read; 44]);
    assert_eq!(end.text(":YQ=="), [data(10, b"a")], "':' is channel 10");
    assert_eq!(end.text("[YQ=="), [data(43, b"a")]);
    assert_eq!(end.text("\\YQ=="), [out_of_range(44)]);
    assert_eq!(end.text("/YQ=="), [out_of_range(255)], "below '0' it wraps around");
    assert_eq!(end.text(" YQ=="), [out_of_range(240)]);
}

#[test]
fn line_breaks_are_skipped_and_bad_base64_is_dropped_and_counted() {
    let good = ["0YWJj", "0YW\r\nJj", "0\nYWJj\r", "0YWJj\n"];
    let bad = ["0!", "0YWJ", "0YW Jj", "0YWJ_", "0YWJj=", "0YQ=", "0====", "0YQ==YQ=="];
    let mut end = server(Subprotocol::BASE64_CHANNEL, &REMOTE);
    for text in good {
        assert_eq!(end.text(text), [data(0, b"abc")], "{text:?}");
    }
    for (n, text) in (1..).zip(bad) {
        let events = end.text(text);
        assert!(
            matches!(events[..], [Event::Dropped(Dropped::Base64 { channel: ChannelId(0), .. })]),
            "{text:?}: {events:?}"
        );
        assert_eq!(end.machine.drop_counts().base64, n);
    }
    assert_eq!(end.text("0YWJj"), [data(0, b"abc")], "and the connection goes on");
}

#[test]
fn a_message_of_line_breaks_only_is_empty() {
    let mut end = server(Subprotocol::BASE64_CHANNEL, &REMOTE);
    assert_eq!(end.text("0\r\n"), [empty(0)]);
}

/// Upstream discards it before it decodes; so bad base64 there is no fault.
#[test]
fn what_is_not_read_is_not_decoded() {
    let mut end = server(Subprotocol::BASE64_CHANNEL, &REMOTE);
    assert_eq!(end.text("1!!!"), [not_read(1)]);
    assert_eq!(end.machine.drop_counts().base64, 0);
}

#[test]
fn a_channel_without_an_unambiguous_character_is_not_written() {
    let mut end = server(Subprotocol::BASE64_CHANNEL, &[ChannelMode::Write; 100]);
    let above = ChannelId(MAX_BASE64_CHANNEL.0 + 1);
    end.machine.send(MAX_BASE64_CHANNEL, "a".into()).unwrap();
    assert_eq!(end.sent(), b"\x81\x05\x7fYQ==");
    assert_eq!(end.machine.send(above, "a".into()), Err(SendError::NoBase64Form(above)));
}
