//! Peers that mean harm: what ends is the smallest thing, and nothing grows.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]
// Floods of ten thousands of frames take Miri hours.
#![cfg(not(miri))]

mod spdy_peer;

use bytes::{Buf as _, Bytes, BytesMut};
use spdy_peer::*;
use wsstream_proto::spdy::{
    Dropped, Event, Flood, Headers, Limits, ResetStatus, SendError, Violation, limits::RATE_WINDOW,
};

fn flooded(end: &mut End, bytes: &[u8], times: usize) -> Result<(), Violation> {
    for _ in 0..times {
        end.bytes(bytes)?;
    }
    Ok(())
}

/// The outbox is emptied as a good transport would do.
fn drain(end: &mut End) {
    while !end.session.outbox().is_empty() {
        end.session.outbox().advance(usize::MAX);
    }
}

#[test]
fn too_many_streams_are_refused_one_by_one() {
    let mut limits = Limits::default();
    limits.max_streams = 8;
    let mut end = limited_server(limits);
    for n in 0..8 {
        end.accepted(2 * n + 1);
    }
    for n in 8..20 {
        let frame = end.peer.syn_stream(2 * n + 1, 0, &[("streamtype", "data")]);
        let refused = Event::Dropped(Dropped::TooManyStreams(id(2 * n + 1)));
        assert_eq!(end.one(&frame), refused);
        assert_eq!(end.sent(), [Sent::Rst(2 * n + 1, 3)]);
    }
    end.session.reset(id(1), ResetStatus::CANCEL);
    end.accepted(99);
}

/// A peer that reads nothing cannot make finished streams pile up.
#[test]
fn streams_that_wait_for_the_wire_count_as_open() {
    let mut limits = Limits::default();
    limits.max_streams = 4;
    let mut end = limited_server(limits);
    for stream in [1, 3, 5, 7] {
        end.accepted(stream);
    }
    for stream in [1, 3, 5, 7] {
        end.bytes(&data(stream, FIN, b"")).unwrap();
        end.session.data(id(stream), Bytes::from_static(b"answer"), true).unwrap();
    }
    assert_eq!(end.session.open_streams(), 0);
    let frame = end.peer.syn_stream(9, 0, &[]);
    assert_eq!(end.one(&frame), Event::Dropped(Dropped::TooManyStreams(id(9))));
    drain(&mut end);
    end.accepted(11);
}

#[test]
fn rapid_resets_end_the_session() {
    let mut end = server();
    let mut opened = 0;
    let violation = loop {
        opened += 1;
        let stream = 2 * opened - 1;
        let frame = [end.peer.syn_stream(stream, 0, &[]), rst(stream, 5)].concat();
        if let Err(violation) = end.bytes(&frame) {
            break violation;
        }
        assert_eq!(end.session.open_streams(), 0);
    };
    assert_eq!((violation, opened), (Violation::Flood(Flood::Resets), 10_001));
    assert_eq!(end.session.counts().rapid_resets, 10_001);
    assert_eq!(end.sent(), [Sent::GoAway(20_001, 1)]);
}

/// A thousand connections a second are legitimate, and Go resets each stream that this side has finished first.
#[test]
fn many_short_connections_are_no_flood() {
    let mut end = server();
    for n in 0..10_000u32 {
        let stream = 2 * n + 1;
        let request = end_to_end(&mut end.peer, stream);
        end.bytes(&request).unwrap();
        end.session.reply(id(stream), &Headers::default(), false).unwrap();
        end.session.data(id(stream), Bytes::from_static(b"x"), true).unwrap();
        let over = end.one(&rst(stream, 5));
        assert_eq!(over, Event::Reset { id: id(stream), status: ResetStatus::CANCEL });
        drain(&mut end);
    }
    assert_eq!((end.session.open_streams(), end.session.total_out()), (0, 0));
}

fn end_to_end(peer: &mut Packer, stream: u32) -> Vec<u8> {
    [peer.syn_stream(stream, 0, &[("streamtype", "data")]), data(stream, 0, b"request")].concat()
}

#[test]
fn a_ping_flood_gets_fewer_echoes_and_then_an_end() {
    let mut end = server();
    for n in 0..1000u32 {
        end.silent(&ping(2 * n + 1));
    }
    // The first hundred, of which the last was replaced by the newest again and again.
    let sent = end.sent();
    assert_eq!(sent.len(), 100);
    assert_eq!(sent.last(), Some(&Sent::Ping(1999)));
    // Where echoes are taken, each PING has one.
    for n in 1000..5000u32 {
        end.silent(&ping(2 * n + 1));
        assert_eq!(end.sent(), [Sent::Ping(2 * n + 1)]);
    }
    assert_eq!(flooded(&mut end, &ping(1), 5000), Ok(()));
    assert_eq!(end.bytes(&ping(1)), Err(Violation::Flood(Flood::Pings)));
    assert_eq!(end.session.counts().pings, 10_001);
}

#[test]
fn a_new_window_begins_a_new_count() {
    assert_eq!(RATE_WINDOW.as_secs(), 10);
    let mut end = server();
    for _ in 0..5 {
        flooded(&mut end, &ping(1), 10_000).unwrap();
        flooded(&mut end, &control(NOOP, 0, &[]), 10_000).unwrap();
        end.session.reset_rates();
    }
    assert_eq!((end.session.counts().pings, end.session.counts().useless), (50_000, 50_000));
}

#[test]
fn useless_frames_end_the_session_in_the_end() {
    let rows: [(&str, Vec<u8>); 6] = [
        ("empty data", data(1, 0, b"")),
        ("empty data for nobody", data(99, 0, b"")),
        ("noop", control(NOOP, 0, &[])),
        ("settings", control(SETTINGS, 0, &words(&[0]))),
        ("window update", control(WINDOW_UPDATE, 0, &words(&[1, 1]))),
        ("echo of nothing", ping(2)),
    ];
    for (name, frame) in rows {
        let mut end = server();
        end.accepted(1);
        assert_eq!(flooded(&mut end, &frame, 10_000), Ok(()), "{name}");
        assert_eq!(end.bytes(&frame), Err(Violation::Flood(Flood::Useless)), "{name}");
        assert_eq!(end.sent(), [Sent::GoAway(1, 1)], "{name}");
    }
}

/// Who asks for answers and does not take them is not read any more, and goes on where it stopped.
#[test]
fn answers_that_are_not_taken_stop_the_reading() {
    let mut end = server();
    let mut input = BytesMut::new();
    for n in 0..3000u32 {
        input.extend_from_slice(&end.peer.syn_stream(2 * n + 1, 0, &[]));
    }
    let mut opened = 0;
    while let Some(event) = end.session.handle_input(&mut input).unwrap() {
        let Event::StreamOpened { id, .. } = event else { panic!("{event:?}") };
        end.session.reset(id, ResetStatus::CANCEL);
        opened += 1;
    }
    assert_eq!((opened, end.session.wants_read()), (1024, false));
    assert!(!input.is_empty() && end.session.total_out() < 64 * 1024);
    // One is taken, one is read.
    end.session.outbox().advance(16);
    assert!(end.session.wants_read());
    assert!(matches!(end.session.handle_input(&mut input), Ok(Some(Event::StreamOpened { .. }))));
    drain(&mut end);
    while let Some(Event::StreamOpened { id, .. }) = end.session.handle_input(&mut input).unwrap() {
        end.session.reset(id, ResetStatus::CANCEL);
        drain(&mut end);
    }
    assert!(input.is_empty());
}

/// What this side asks for does not count: two honest ends that open a thousand streams each go on reading.
#[test]
fn our_own_requests_never_stop_the_reading() {
    let mut end = client();
    for _ in 0..5000 {
        end.session.open(&Headers::default(), false).unwrap();
    }
    assert!(end.session.wants_read());
    let reply = end.peer.syn_reply(1, 0);
    assert!(matches!(end.one(&reply), Event::Replied { .. }));
}

/// Streams opened and reset without end: the rate limit ends it long before this, and without it nothing is kept.
#[test]
fn a_quarter_million_streams_leave_nothing_behind() {
    let mut limits = Limits::default();
    limits.max_rate_resets = u32::MAX;
    let mut end = limited_server(limits);
    let mut input = BytesMut::new();
    for n in 0..250_000u32 {
        // A stored block: cheap to make so often.
        let mut payload = words(&[2 * n + 1, 0]);
        payload.extend([0, 0]);
        if n == 0 {
            payload.extend([0x78, 1]);
        }
        payload.extend([0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
        input.extend_from_slice(&control(SYN_STREAM, 0, &payload));
        input.extend_from_slice(&rst(2 * n + 1, 5));
        while end.session.handle_input(&mut input).unwrap().is_some() {}
    }
    assert_eq!((end.session.open_streams(), end.session.total_out()), (0, 0));
    assert_eq!(end.session.counts().rapid_resets, 250_000);
    assert_eq!(end.session.data(id(1), Bytes::new(), false), Err(SendError::NotOpen(id(1))));
}

/// Violations throw away what waits for a peer that does not follow the rules.
#[test]
fn a_violation_frees_what_was_queued() {
    let mut end = server();
    end.accepted(1);
    end.session.data(id(1), Bytes::from(vec![0; 1 << 20]), false).unwrap();
    end.session.outbox().advance(10);
    assert_eq!(end.bytes(&ping(0)), Err(Violation::PingZero));
    // The frame that had begun is finished, so that GOAWAY can be read.
    assert_eq!(end.session.total_out(), 32 * 1024 + 8 - 10 + 16);
    end.session.outbox().advance(32 * 1024 - 2);
    assert_eq!(end.sent(), [Sent::GoAway(1, 1)]);
    assert!(end.session.is_flushed());
}
