//! CLOSE of v5: its good form, its bad forms, and what 255 is elsewhere.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests fail as tests do")]

mod end;

use end::*;
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::connection::{SendError, Violation};
use wsstream_proto::subprotocol::{REMOTECOMMAND, Subprotocol};
use wsstream_proto::ws::CloseCode;

#[test]
fn close_ends_one_channel_behind_its_data() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    assert_eq!(end.binary(b"\0last"), [data(0, b"last")]);
    assert_eq!(end.binary(&[255, 0]), [half_closed(0)]);
    assert_eq!(end.binary(b"\x04{}"), [data(4, b"{}")], "the other channel goes on");
}

#[test]
fn close_twice_is_once() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    assert_eq!(end.binary(&[255, 0]), [half_closed(0)]);
    assert_eq!(end.binary(&[255, 0]), []);
    assert_eq!(end.binary(&[255, 0]), []);
    assert_eq!(end.machine.drop_counts(), Default::default());
}

#[test]
fn data_after_close_is_dropped_and_counted() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    end.binary(&[255, 0]);
    assert_eq!(end.binary(b"\0late"), [after_close(0)]);
    assert_eq!(end.binary(&[0]), [after_close(0)], "the empty message too");
    assert_eq!(end.machine.drop_counts().after_close, 2);
}

#[test]
fn close_of_a_channel_that_is_not_read_means_nothing() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    for channel in [1, 2, 3] {
        assert_eq!(end.binary(&[255, channel]), []);
        end.machine.send(ChannelId(channel), "still open".into()).unwrap();
    }
}

/// As upstream, each of these ends the connection, with 1008 and a reason that names the fault.
#[test]
fn a_malformed_close_ends_the_connection() {
    let rows: [(&[u8], Violation, &[u8]); 4] = [
        (&[0xff], Violation::MalformedClose, b"malformed channel CLOSE"),
        (&[0xff, 0, 0], Violation::MalformedClose, b"must be exactly 2 bytes"),
        (&[0xff, 5], Violation::CloseOutOfRange(ChannelId(5)), b"a CLOSE for channel 5"),
        (&[0xff, 255], Violation::CloseOutOfRange(ChannelId(255)), b"a CLOSE for channel 255"),
    ];
    for (message, violation, reason) in rows {
        let mut end = server(Subprotocol::V5, &REMOTE);
        assert_eq!(end.frame(true, BINARY, message), Err(violation.clone()), "{message:?}");
        assert_eq!(violation.close_code(), CloseCode::POLICY);
        let sent = end.sent();
        assert_eq!((sent[0], &sent[2..4]), (0x88, &1008u16.to_be_bytes()[..]), "{message:?}");
        assert!(sent.windows(reason.len()).any(|part| part == reason), "{}", sent.escape_ascii());
        assert_eq!(end.machine.send(ChannelId(1), "x".into()), Err(SendError::Closing));
        assert_eq!(end.bytes(&[]), Err(violation), "the error repeats itself");
    }
}

#[test]
fn a_close_may_come_in_fragments() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    assert_eq!(end.frame(false, BINARY, &[]), Ok(vec![]));
    assert_eq!(end.frame(false, CONTINUATION, &[255]), Ok(vec![]));
    assert_eq!(end.frame(false, CONTINUATION, &[]), Ok(vec![]));
    assert_eq!(end.frame(false, CONTINUATION, &[0]), Ok(vec![]));
    assert_eq!(end.frame(true, CONTINUATION, &[]), Ok(vec![half_closed(0)]));
    assert_eq!(end.frame(false, BINARY, &[255, 4]), Ok(vec![]));
    assert_eq!(
        end.frame(false, CONTINUATION, &[4]),
        Err(Violation::MalformedClose),
        "without waiting for its end"
    );
}

#[test]
fn before_v5_255_is_a_channel_that_does_not_exist() {
    for subprotocol in REMOTECOMMAND.iter().filter(|row| **row != Subprotocol::V5) {
        let mut end = server(subprotocol.clone(), &REMOTE);
        let message: &[u8] =
            if subprotocol.name().contains("base64") { &[255u8.wrapping_add(b'0'), b'0'] } else { &[255, 0] };
        assert_eq!(end.binary(message), [out_of_range(255)], "{:?}", subprotocol.name());
        assert_eq!(end.machine.drop_counts().out_of_range, 1);
    }
}

#[test]
fn only_a_client_of_v5_has_a_half_close_to_send() {
    let modes = REMOTE.map(ChannelMode::mirrored);
    for subprotocol in REMOTECOMMAND {
        let mut end = client(subprotocol.clone(), &modes);
        let result = end.machine.half_close(ChannelId(0));
        assert_eq!(result.is_ok(), *subprotocol == Subprotocol::V5, "{:?}", subprotocol.name());
        assert_eq!(end.sent().is_empty(), result.is_err());
    }
    let mut end = server(Subprotocol::V5, &REMOTE);
    assert_eq!(end.machine.half_close(ChannelId(1)), Err(SendError::NoHalfClose("a server")));
    assert_eq!(end.machine.half_close(ChannelId(0)), Err(SendError::NotWritable(ChannelId(0))));
}

#[test]
fn nothing_is_sent_on_a_channel_after_its_close() {
    let mut end = client(Subprotocol::V5, &REMOTE.map(ChannelMode::mirrored));
    end.machine.half_close(ChannelId(0)).unwrap();
    assert_eq!(end.machine.half_close(ChannelId(0)), Ok(()), "twice is once");
    assert_eq!(end.machine.send(ChannelId(0), "x".into()), Err(SendError::HalfClosed(ChannelId(0))));
    end.machine.send(ChannelId(4), "{}".into()).unwrap();
    assert_eq!(
        end.sent(),
        [frame(true, true, BINARY, &[255, 0]), frame(true, true, BINARY, b"\x04{}")].concat()
    );
}
