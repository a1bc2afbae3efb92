//! The one-way protocols (logs): no channel byte, one stream.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests fail as tests do")]

mod end;

use end::*;
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::subprotocol::Subprotocol;

#[test]
fn messages_have_no_channel_byte() {
    for subprotocol in [Subprotocol::READER_NONE, Subprotocol::BINARY] {
        let mut source = server(subprotocol.clone(), &[ChannelMode::Write]);
        source.send(0, b"");
        assert_eq!(source.sent(), [0x82, 0], "the optional first message is empty and binary");
        source.send(0, b"some random text");
        assert_eq!(source.sent(), b"\x82\x10some random text");

        let mut end = client(subprotocol, &[ChannelMode::Read]);
        assert_eq!(end.binary(b""), [empty(0)]);
        assert_eq!(end.binary(b"\x05 is no channel"), [data(0, b"\x05 is no channel")]);
        assert_eq!(end.binary(&[255, 0]), [data(0, &[255, 0])], "and there is no CLOSE");
    }
}

#[test]
fn base64_is_padded_message_by_message() {
    let mut source = server(Subprotocol::BASE64_BINARY, &[ChannelMode::Write]);
    source.send(0, b"");
    assert_eq!(source.sent(), [0x81, 0], "the optional first message is empty and text");
    source.send(0, b"a");
    source.send(0, b"bc");
    assert_eq!(source.sent(), b"\x81\x04YQ==\x81\x04YmM=");

    let mut end = client(Subprotocol::BASE64_BINARY, &[ChannelMode::Read]);
    assert_eq!(end.text(""), [empty(0)]);
    assert_eq!(end.text("YQ=="), [data(0, b"a")]);
    assert_eq!(end.text("0YQ=").len(), 1);
    assert_eq!(end.machine.drop_counts().base64, 0, "'0' is base64 here, not a channel");
}

#[test]
fn an_empty_message_in_fragments_is_one_empty_message() {
    let mut end = client(Subprotocol::BINARY, &[ChannelMode::Read]);
    assert_eq!(end.frame(false, BINARY, b""), Ok(vec![]));
    assert_eq!(end.frame(false, CONTINUATION, b""), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, b""), Ok(vec![empty(0)]));
    assert_eq!(end.frame(false, BINARY, b""), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, b"x"), Ok(vec![data(0, b"x")]));
}

#[test]
fn what_the_client_sends_is_dropped_and_counted() {
    let mut source = server(Subprotocol::BINARY, &[ChannelMode::Write]);
    assert_eq!(source.binary(b"anything"), [not_read(0)]);
    assert_eq!(source.binary(b""), [not_read(0)]);
    assert_eq!(source.machine.drop_counts().not_read, 2);
    assert!(source.machine.half_close(ChannelId(0)).is_err());
}
