//! What a peer can make a connection hold, and the codes that end it.

#![allow(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "helpers of tests fail as tests do")]

mod end;

use end::*;
use wsstream_proto::connection::{Event, Role, Violation};
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::ws::ProtocolError;

#[test]
fn a_message_over_the_limit_ends_the_connection_with_1009() {
    let too_large = Violation::WebSocket(ProtocolError::TooLarge { limit: 10 });
    let new = || limited(Role::Server, Subprotocol::V4, &REMOTE, 10);
    assert_eq!(new().frame(true, BINARY, b"\0abcdefghij"), Err(too_large.clone()));
    let mut end = new();
    assert_eq!(end.frame(true, BINARY, b"\0abcdefghi"), Ok(vec![data(0, b"abcdefghi")]));
    assert_eq!(end.frame(false, BINARY, b"\0abcde"), Ok(vec![data(0, b"abcde")]));
    assert_eq!(end.frame(false, CONTINUATION, b"fghi"), Ok(vec![data(0, b"fghi")]));
    assert_eq!(end.frame(true, CONTINUATION, b"j"), Err(too_large), "the sum of the fragments counts");
    assert_eq!(end.sent()[2..4], 1009u16.to_be_bytes());
}

#[test]
fn the_header_alone_refuses_a_message_over_the_limit() {
    let mut end = limited(Role::Server, Subprotocol::V4, &REMOTE, 1 << 24);
    let header = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];
    assert_eq!(end.bytes(&header), Err(Violation::WebSocket(ProtocolError::TooLarge { limit: 1 << 24 })));
}

#[test]
fn a_flood_of_pings_leaves_one_pong() {
    let pings: u32 = if cfg!(miri) { 100 } else { 10_000 };
    let mut end = server(Subprotocol::V4, &REMOTE);
    let flood: Vec<u8> = (0..pings).flat_map(|i| frame(true, true, PING, &i.to_be_bytes())).collect();
    assert_eq!(end.bytes(&flood).unwrap().len(), pings as usize);
    assert_eq!(end.sent(), [&[0x8a, 4][..], &(pings - 1).to_be_bytes()].concat());
}

#[test]
fn only_unfinished_base64_is_held() {
    let mut end = server(Subprotocol::V4, &REMOTE);
    end.frame(false, BINARY, &[0; 1000]).unwrap();
    assert_eq!(end.machine.collected_bytes(), 0, "raw bytes are handed on");
    let mut end = server(Subprotocol::V4_BASE64_CHANNEL, &REMOTE);
    end.frame(false, TEXT, &[b'0'; 1001]).unwrap();
    assert_eq!(end.machine.collected_bytes(), 1000);
    end.frame(true, CONTINUATION, b"").unwrap();
    assert_eq!(end.machine.collected_bytes(), 0);
    end.frame(false, TEXT, &[b'1'; 1001]).unwrap();
    assert_eq!(end.machine.collected_bytes(), 0, "what is dropped is not collected");
}

#[test]
fn unmasked_reserved_and_unknown_frames_end_the_connection_with_1002() {
    let rows: [(&[u8], ProtocolError); 4] = [
        (&[0x82, 1, 0], ProtocolError::Unmasked),
        (&[0xc2, 0x81, 0, 0, 0, 0, 0], ProtocolError::ReservedBits(4)),
        (&[0x83, 0x81, 0, 0, 0, 0, 0], ProtocolError::ReservedOpcode(3)),
        (&[0x8f, 0x80, 0, 0, 0, 0], ProtocolError::ReservedOpcode(15)),
    ];
    for (bytes, error) in rows {
        let mut end = server(Subprotocol::V5, &REMOTE);
        assert_eq!(end.bytes(bytes), Err(Violation::WebSocket(error.clone())));
        let sent = end.sent();
        assert_eq!((sent[0], &sent[2..4]), (0x88, &1002u16.to_be_bytes()[..]), "{error}");
        assert_eq!(sent[4..], *error.to_string().as_bytes(), "the reason names the fault");
        assert!(end.machine.sent_close() && !end.machine.is_finished());
    }
    let mut end = client(Subprotocol::V5, &REMOTE);
    assert_eq!(end.bytes(&[0x82, 0x81]), Err(Violation::WebSocket(ProtocolError::Masked)));
}

#[test]
fn the_faults_of_a_close_frame_have_their_codes() {
    let rows: [(&[u8], u16); 4] =
        [(&[3], 1002), (&[3, 0xed], 1002), (&[3, 0xe8, 0xff], 1007), (&[0x13, 0x88], 1002)];
    for (payload, code) in rows {
        let mut end = server(Subprotocol::V5, &REMOTE);
        end.frame(true, CLOSE, payload).unwrap_err();
        assert_eq!(end.sent()[2..4], code.to_be_bytes(), "{payload:?}");
        assert!(!end.machine.received_close(), "a bad Close is none");
    }
}

#[test]
fn a_client_answers_close_at_once_and_a_server_when_its_application_is_done() {
    let mut end = client(Subprotocol::V5, &REMOTE);
    assert_eq!(end.frame(true, CLOSE, &[0x03, 0xf3, b'x']).unwrap().len(), 1);
    assert_eq!(end.sent(), frame(true, true, CLOSE, &[0x03, 0xf3]), "the code, without the reason");
    assert!(end.machine.is_finished());

    let mut end = server(Subprotocol::V5, &REMOTE);
    assert_eq!(end.frame(true, CLOSE, &[]), Ok(vec![Event::Closed(Default::default())]));
    assert!(!end.machine.sent_close());
    end.send(3, b"the status still arrives");
    end.machine.close(&Default::default());
    let sent = end.sent();
    assert!(sent.ends_with(&[0x88, 0]), "nothing but an empty Close behind it");
    assert!(end.machine.is_finished());
}

#[test]
fn nothing_is_taken_after_close() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    let bytes = [frame(true, true, CLOSE, &[3, 0xe8]), frame(true, true, BINARY, b"\0late")].concat();
    assert_eq!(end.bytes(&bytes), Ok(vec![closed(1000)]));
    assert_eq!(end.binary(b"\0later"), []);
    assert_eq!(end.bytes(&[0xff; 20]), Ok(vec![]), "not even rubbish");
}

#[test]
fn control_frames_are_not_sent_after_close() {
    let mut end = server(Subprotocol::V5, &REMOTE);
    end.machine.close(&Default::default());
    end.machine.ping(b"");
    end.machine.unsolicited_pong();
    assert_eq!(end.frame(true, PING, b"x"), Ok(vec![Event::Ping]));
    assert_eq!(end.binary(b"\0a"), [data(0, b"a")], "what comes before the peer's Close is still taken");
    end.machine.close(&Default::default());
    assert_eq!(end.sent(), [0x88, 0]);
}
