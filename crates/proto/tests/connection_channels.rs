//! Rows C1 to C8 (the cases of upstream's conn_test in their order) and the bytes of real peers, on the machine: what a
//! message means to its channel.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests fail as tests do")]

mod end;

use end::*;
use wsstream_proto::channel::ChannelMode::{Ignore, Read, ReadWrite, Write};
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::connection::{Event, SendError};
use wsstream_proto::subprotocol::{REMOTECOMMAND, Subprotocol};

/// The channels of upstream's connection test.
const CONN_TEST: [ChannelMode; 5] = [ReadWrite, ReadWrite, Ignore, Read, Write];

#[test]
fn c1_a_message_arrives_without_its_channel_byte() {
    let mut end = server(Subprotocol::NONE, &CONN_TEST);
    assert_eq!(end.binary(b"\0client"), [data(0, b"client")]);
    assert_eq!(end.frame(true, CLOSE, &[3, 0xe8]), Ok(vec![closed(1000)]));
}

#[test]
fn c2_a_message_leaves_with_its_channel_byte() {
    let mut end = server(Subprotocol::NONE, &CONN_TEST);
    end.send(1, b"server");
    assert_eq!(end.sent(), b"\x82\x07\x01server");
}

/// Upstream's writer pretends; ours says no, and the layer above decides.
#[test]
fn c3_c4_a_channel_that_is_ignored_or_only_read_takes_nothing() {
    let mut end = server(Subprotocol::NONE, &CONN_TEST);
    for channel in [2, 3, 5, 255].map(ChannelId) {
        assert_eq!(end.machine.send(channel, "test".into()), Err(SendError::NotWritable(channel)));
    }
    assert_eq!(end.sent(), b"");
}

#[test]
fn c6_a_message_for_a_channel_that_is_not_read_is_dropped_and_counted() {
    let mut end = server(Subprotocol::NONE, &CONN_TEST);
    assert_eq!(end.binary(b"\x04ignored"), [not_read(4)]);
    assert_eq!(end.binary(b"\x02ignored"), [not_read(2)]);
    assert_eq!(end.binary(b"\x01read"), [data(1, b"read")]);
    assert_eq!(end.machine.drop_counts().not_read, 2);
}

#[test]
fn c7_c8_base64_both_ways() {
    let mut end = server(Subprotocol::BASE64_CHANNEL, &CONN_TEST);
    assert_eq!(end.text("0Y2xpZW50"), [data(0, b"client")]);
    end.send(1, b"server");
    assert_eq!(end.sent(), b"\x81\x091c2VydmVy", "text, 9 bytes");
}

#[test]
fn a_channel_out_of_range_costs_its_message_only() {
    for subprotocol in REMOTECOMMAND.iter().filter(|row| row.name().ends_with("channel.k8s.io")) {
        let base64 = subprotocol.name().contains("base64");
        let mut end = server(subprotocol.clone(), &REMOTE);
        let (bad, good): (&[u8], &[u8]) = if base64 { (b"5YQ==", b"0YQ==") } else { (b"\x05a", b"\0a") };
        assert_eq!(end.binary(bad), [out_of_range(5)], "{}", subprotocol.name());
        assert_eq!(end.binary(good), [data(0, b"a")]);
        assert_eq!(end.machine.drop_counts().out_of_range, 1);
    }
}

#[test]
fn the_ready_message_is_empty_and_neither_data_nor_an_end() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    end.send(1, b"");
    assert_eq!(end.sent(), [0x82, 1, 1]);
    let mut end = server(Subprotocol::BASE64_CHANNEL, &REMOTE);
    end.send(1, b"");
    assert_eq!(end.sent(), [0x81, 1, b'1']);

    let modes = REMOTE.map(ChannelMode::mirrored);
    assert_eq!(client(Subprotocol::V5, &modes).binary(&[1]), [empty(1)]);
    assert_eq!(client(Subprotocol::BASE64_CHANNEL, &modes).text("1"), [empty(1)]);
    let mut end = server(Subprotocol::V5, &REMOTE);
    assert_eq!(end.binary(&[0]), [empty(0)]);
    assert_eq!(end.binary(b"\0a"), [data(0, b"a")]);
}

#[test]
fn a_message_without_a_channel_byte_is_ignored() {
    for subprotocol in REMOTECOMMAND {
        let mut end = server(subprotocol.clone(), &REMOTE);
        assert_eq!(end.binary(b""), []);
        assert_eq!(end.text(""), []);
        assert_eq!(end.machine.drop_counts(), Default::default());
    }
}

/// The Python client sends text on binary channels, bytes that are no UTF-8 included.
#[test]
fn the_opcode_says_nothing() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    assert_eq!(end.frame(true, TEXT, &[0, 0xff, 0xfe]), Ok(vec![data(0, &[0xff, 0xfe])]));
    let mut end = server(Subprotocol::BASE64_CHANNEL, &REMOTE);
    assert_eq!(end.binary(b"0Zm9vCg=="), [data(0, b"foo\n")]);
}

#[test]
fn the_server_session_of_appendix_a() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    end.send(1, b"");
    assert_eq!(end.sent(), [0x82, 1, 1]);
    assert_eq!(end.binary(b"\0abc"), [data(0, b"abc")]);
    end.send(1, b"abc");
    assert_eq!(end.sent(), b"\x82\x04\x01abc");
    assert_eq!(end.binary(&[0xff, 0]), [half_closed(0)]);
    assert_eq!(end.frame(true, PING, b"beat"), Ok(vec![Event::Ping]));
    end.send(3, br#"{"metadata":{},"status":"Success"}"#);
    end.machine.close(&wsstream_proto::ws::CloseReason::code(wsstream_proto::ws::CloseCode::NORMAL));
    assert_eq!(
        end.sent(),
        [&b"\x8a\x04beat"[..], b"\x82\x23\x03{\"metadata\":{},\"status\":\"Success\"}", b"\x88\x02\x03\xe8"]
            .concat()
    );
    assert!(!end.machine.is_finished());
    assert_eq!(end.frame(true, CLOSE, &[3, 0xe8]), Ok(vec![closed(1000)]));
    assert!(end.machine.is_finished());
}

#[test]
fn a_client_masks_with_the_key_it_is_given() {
    let mut end = client(Subprotocol::V5, &REMOTE.map(ChannelMode::mirrored));
    end.send(0, b"foo\n");
    assert_eq!(end.sent(), frame(true, true, BINARY, b"\0foo\n"));
    end.machine.half_close(ChannelId(0)).unwrap();
    assert_eq!(end.sent(), frame(true, true, BINARY, &[0xff, 0]));
}
