//! Frames as they come: what is read, what is read over, and what ends the session.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]

mod spdy_peer;

use bytes::BytesMut;
use spdy_peer::*;
use wsstream_proto::spdy::{
    Dropped, Event, Flood, GoAwayStatus, Headers, HeadersError, Limits, ResetStatus, Session, Violation,
};

/// A violation is told with GOAWAY(1), once, behind nothing, and repeats itself.
fn violated(end: &mut End, bytes: &[u8]) -> Violation {
    let violation = end.bytes(bytes).unwrap_err();
    assert_eq!(end.bytes(&ping(1)), Err(violation.clone()));
    let sent = end.sent();
    assert!(matches!(sent[..], [Sent::GoAway(_, 1)]), "{sent:?}");
    assert!(end.session.is_closing() && end.session.is_flushed());
    assert_eq!((end.session.open_streams(), end.session.total_out()), (0, 0));
    violation
}

#[test]
fn lengths_are_exact() {
    let length = |kind, len| Violation::Length { kind, len };
    let rows: &[(Vec<u8>, Violation)] = &[
        (control(RST_STREAM, 0, &[0; 7]), length("RST_STREAM", 7)),
        (control(RST_STREAM, 0, &[0; 12]), length("RST_STREAM", 12)),
        (control(PING, 0, &[0; 3]), length("PING", 3)),
        (control(PING, 0, &[0; 8]), length("PING", 8)),
        (control(GOAWAY, 0, &[0; 4]), length("GOAWAY", 4)),
        (control(GOAWAY, 0, &[0; 9]), length("GOAWAY", 9)),
        (control(WINDOW_UPDATE, 0, &[0; 4]), length("WINDOW_UPDATE", 4)),
        (control(SETTINGS, 0, &[0; 3]), length("SETTINGS", 3)),
        (control(SYN_STREAM, 0, &[0; 10]), length("SYN_STREAM", 10)),
        (control(SYN_REPLY, 0, &[0; 4]), length("SYN_REPLY", 4)),
        (control(HEADERS, 0, &[0; 2]), length("HEADERS", 2)),
        // What is announced counts: the rest need not come.
        (lying(RST_STREAM, 0, 0xff_ffff, &[]), length("RST_STREAM", 0xff_ffff)),
        (
            lying(SYN_STREAM, 0, 0xff_ffff, &[]),
            Violation::ControlTooLong { kind: "SYN_STREAM", len: 0xff_ffff, limit: 65_536 },
        ),
        (
            lying(HEADERS, 0, 65_537, &[]),
            Violation::ControlTooLong { kind: "HEADERS", len: 65_537, limit: 65_536 },
        ),
        (
            lying(SETTINGS, 0, 0xff_ffff, &words(&[u32::MAX])),
            Violation::Settings { count: u32::MAX, len: 0xff_ffff },
        ),
        (lying(SETTINGS, 0, 4, &words(&[1])), Violation::Settings { count: 1, len: 4 }),
        (lying(SETTINGS, 0, 4 + 8 * 65, &words(&[65])), Violation::Settings { count: 65, len: 524 }),
    ];
    for (bytes, violation) in rows {
        assert_eq!(violated(&mut server(), bytes), *violation, "{bytes:02x?}");
    }
}

#[test]
fn numbers_that_no_stream_has_end_the_session() {
    let number = |kind, number| Violation::StreamNumber { kind, number };
    let block = |end: &mut End, stream| end.peer.syn_stream(stream, 0, &[]);
    type Row = (fn(&mut End) -> Vec<u8>, Violation);
    let rows: &[Row] = &[
        (|_| data(0, 0, b"x"), number("DATA", 0)),
        (|_| rst(0, 5), number("RST_STREAM", 0)),
        (|_| rst(1 << 31, 5), number("RST_STREAM", 1 << 31)),
        (|end| end.peer.syn_reply(0, 0), number("SYN_REPLY", 0)),
        (|end| end.peer.headers(0, 0, &[]), number("HEADERS", 0)),
        (|_| ping(0), Violation::PingZero),
    ];
    for (frame, violation) in rows {
        let mut end = server();
        let frame = frame(&mut end);
        assert_eq!(violated(&mut end, &frame), *violation);
    }
    for bad in [0, 0x8000_0001] {
        let mut end = server();
        let frame = block(&mut end, bad);
        assert_eq!(violated(&mut end, &frame), number("SYN_STREAM", bad));
    }
}

#[test]
fn another_version_or_another_protocol_ends_the_session() {
    assert_eq!(violated(&mut server(), &[0x80, 2, 0, 6, 0, 0, 0, 4]), Violation::Version(2));
    // What HTTP/1.1 looks like: data for a stream with a large number, which does not exist.
    let mut end = server();
    end.silent(b"GET / HTTP/1.1\r\n\r\n");
    assert!(end.session.counts().discarded_bytes > 0 && end.session.inside_frame());
}

#[test]
fn header_blocks_that_are_none_end_the_session() {
    let mut end = server();
    let mut payload = words(&[1, 0]);
    payload.extend([0, 0]);
    payload.extend(end.peer.pack(&plain(&[("Streamtype", "data")])));
    let error = violated(&mut end, &control(SYN_STREAM, 0, &payload));
    assert_eq!(error, Violation::Headers(HeadersError::UpperCase("Streamtype".to_owned())));

    // Compressed bytes that make a second list in the same frame.
    let mut end = server();
    let block = [end.peer.pack(&plain(&[])), end.peer.pack(&plain(&[]))].concat();
    let error = violated(&mut end, &control(HEADERS, 0, &[words(&[1]), block].concat()));
    assert_eq!(error, Violation::Headers(HeadersError::Trailing(4)));

    // A list that the next frame would have to go on with.
    let mut end = server();
    let block = end.peer.pack(&plain(&[("a", "b")])[..9]);
    let error = violated(&mut end, &control(SYN_REPLY, 0, &[words(&[1]), block].concat()));
    assert_eq!(error, Violation::Headers(HeadersError::Truncated));

    let mut end = server();
    let error = violated(&mut end, &control(SYN_REPLY, 0, &[words(&[1]), vec![1, 2, 3]].concat()));
    assert!(matches!(error, Violation::Inflate(_)));
}

/// Go dies of NOOP and of CREDENTIAL; nothing is gained by doing the same.
#[test]
fn what_nobody_needs_is_read_over() {
    let mut end = server();
    let rows = [
        (control(SETTINGS, 1, &words(&[1, 7, 65_536])), Dropped::Unused("SETTINGS")),
        (control(SETTINGS, 0, &words(&[0])), Dropped::Unused("SETTINGS")),
        (control(WINDOW_UPDATE, 0, &words(&[1, 65_536])), Dropped::Unused("WINDOW_UPDATE")),
        (control(NOOP, 0, &[]), Dropped::Unused("NOOP")),
        (control(NOOP, 0xff, &[1; 100]), Dropped::Unused("NOOP")),
        (control(CREDENTIAL, 0, &[7; 5000]), Dropped::UnknownType(10)),
        (control(0xffff, 0, &[]), Dropped::UnknownType(0xffff)),
        (end.peer.headers(9, 0, &[("a", "b")]), Dropped::Unused("HEADERS")),
        (end.peer.syn_reply(9, 0), Dropped::StrayReply(id(9))),
    ];
    let count = rows.len() as u64;
    for (bytes, dropped) in rows {
        assert_eq!(end.one(&bytes), Event::Dropped(dropped));
    }
    assert_eq!((end.session.counts().dropped, end.sent()), (count, vec![]));
    // The compression has not lost its context.
    end.opened(1);
}

#[test]
fn every_flag_is_taken_and_only_fin_is_followed() {
    let mut end = server();
    let headers = Headers::from_iter([("a", "b")]);
    let unidirectional = end.peer.syn_stream(1, 2, &[("a", "b")]);
    assert_eq!(
        end.one(&unidirectional),
        Event::StreamOpened { id: id(1), headers: headers.clone(), fin: false }
    );
    let finished = end.peer.syn_stream(3, 0xff, &[("a", "b")]);
    assert_eq!(end.one(&finished), Event::StreamOpened { id: id(3), headers, fin: true });
    assert_eq!(end.one(&data(1, 0xfe, b"x")), Event::Data { id: id(1), bytes: BytesMut::from(&b"x"[..]) });
    assert_eq!(end.one(&data(1, 0xff, b"")), Event::Fin { id: id(1) });
    end.silent(&control(PING, 0xff, &words(&[7])));
    assert_eq!(end.sent(), [Sent::Ping(7)]);
}

/// A frame of 2^24 - 1 bytes is handed on as it comes and kept nowhere.
#[test]
fn a_long_data_frame_is_never_waited_for() {
    let mut end = server();
    end.accepted(1);
    let head = words(&[1, 0x01ff_ffff]);
    end.silent(&head);
    assert!(end.session.inside_frame());
    let piece = BytesMut::from(&[7; 65_536][..]);
    let mut left = 0xff_ffff_usize;
    while left > 0 {
        let mut input = piece.clone();
        input.truncate(left);
        let (address, len) = (input.as_ptr(), input.len());
        let Some(Event::Data { id: stream, bytes }) = end.session.handle_input(&mut input).unwrap() else {
            panic!("a piece is an event")
        };
        assert_eq!((stream, bytes.as_ptr(), bytes.len()), (id(1), address, len), "a view of the input");
        left -= len;
    }
    assert!(!end.session.inside_frame());
    assert_eq!(end.session.handle_input(&mut BytesMut::new()), Ok(Some(Event::Fin { id: id(1) })));
    assert_eq!(end.session.handle_input(&mut BytesMut::new()), Ok(None));
}

#[test]
fn a_frame_that_stands_still_can_be_seen() {
    let mut end = server();
    assert!(!end.session.inside_frame());
    let mut input = BytesMut::new();
    let frame = end.peer.syn_stream(1, 0, &[("streamtype", "data")]);
    for byte in &frame[..frame.len() - 1] {
        input.extend_from_slice(&[*byte]);
        assert_eq!(end.session.handle_input(&mut input), Ok(None));
        assert!(end.session.inside_frame() && input.len() < 18);
    }
    input.extend_from_slice(&frame[frame.len() - 1..]);
    assert!(end.session.handle_input(&mut input).unwrap().is_some());
    assert!(!end.session.inside_frame());
}

#[test]
fn goodbye_is_reported_once_with_its_reason() {
    let mut end = client();
    let stream = end.opens(0);
    let goodbye = end.one(&go_away(1, 2));
    assert_eq!(goodbye, Event::GoAway { last: 1, status: GoAwayStatus::INTERNAL_ERROR });
    end.silent(&go_away(1, 0));
    // What was open goes on, as far as the peer lets it.
    assert_eq!(end.one(&data(1, FIN, b"")), Event::Fin { id: stream });
    assert!(end.session.open(&Headers::default(), false).is_err());
}

#[test]
fn the_texts_name_the_fault() {
    let mut session = Session::server(Limits::default());
    let text = session.handle_input(&mut BytesMut::from(&ping(0)[..])).unwrap_err().to_string();
    assert_eq!(text, "a PING frame with id 0");
    assert_eq!(Violation::Flood(Flood::Pings).to_string(), "a flood of PING frames");
    let dropped = Dropped::TooManyStreams(id(9));
    assert_eq!(dropped.to_string(), "stream 9 was refused: too many are open");
    assert_eq!(dropped.answer(), Some(ResetStatus::REFUSED_STREAM));
    assert_eq!(ResetStatus::CANCEL.to_string(), "CANCEL");
    assert_eq!(ResetStatus(77).to_string(), "status 77");
}
