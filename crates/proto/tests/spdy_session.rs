//! What a session does with streams: opening, data, the three ways to end one, pings and goodbyes.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]

mod spdy_peer;

use bytes::{Bytes, BytesMut};
use spdy_peer::*;
use wsstream_proto::spdy::{Dropped, Event, GoAwayStatus, Headers, ResetStatus, SendError, StreamId};

fn came(stream: u32, bytes: &[u8]) -> Event {
    Event::Data { id: id(stream), bytes: BytesMut::from(bytes) }
}

fn reset(stream: u32, status: ResetStatus) -> Event {
    Event::Reset { id: id(stream), status }
}

/// client-go reads the 101 through a buffer that it throws away with what is in it.
#[test]
fn a_server_is_silent_until_the_client_has_begun() {
    let mut end = server();
    end.session.ping().unwrap();
    assert!(end.session.outbox().is_empty() && end.session.total_out() == 12);
    end.silent(&ping(1)[..7]);
    assert_eq!(end.sent(), []);
    let mut input = BytesMut::from(&ping(1)[..]);
    end.session.handle_input(&mut input).unwrap();
    assert_eq!(end.sent(), [Sent::Ping(2), Sent::Ping(1)]);

    let mut end = server();
    end.session.close(GoAwayStatus::OK);
    assert_eq!(end.sent(), []);
    assert!(!end.session.is_flushed());
    // The head of the first frame is enough.
    end.silent(&data(1, 0, b"late")[..8]);
    assert_eq!(end.sent(), [Sent::GoAway(0, 0)]);
    assert!(end.session.is_flushed());
}

#[test]
fn a_client_speaks_first() {
    let mut end = client();
    let first = end.session.open(&Headers::from_iter([("streamtype", "error")]), false).unwrap();
    let second = end.session.open(&Headers::from_iter([("streamtype", "data")]), true).unwrap();
    assert_eq!((first, second), (id(1), id(3)));
    assert_eq!(end.sent(), [Sent::SynStream(1, false), Sent::SynStream(3, true)]);
    // Go's workers answer in any order.
    for stream in [3, 1] {
        let reply = end.peer.syn_reply(stream, 0);
        let replied = Event::Replied { id: id(stream), headers: Headers::default(), fin: false };
        assert_eq!(end.one(&reply), replied);
    }
    let again = end.peer.syn_reply(1, 0);
    assert_eq!(end.one(&again), Event::Dropped(Dropped::StrayReply(first)));
}

/// Go drops what comes before its reply, and so does whoever reads Go.
#[test]
fn data_never_goes_before_the_reply() {
    let mut end = client();
    let stream = end.session.open(&Headers::default(), false).unwrap();
    end.session.data(stream, Bytes::from_static(b"early"), true).unwrap();
    assert_eq!(end.sent(), [Sent::SynStream(1, false)]);
    assert_eq!((end.session.queued_out(stream), end.session.total_out()), (5, 5));
    let reply = end.peer.syn_reply(1, 0);
    end.one(&reply);
    assert_eq!(end.sent(), [Sent::Data(1, b"early".to_vec()), Sent::Fin(1)]);

    let mut end = server();
    end.opened(1);
    end.session.data(id(1), Bytes::from_static(b"early"), false).unwrap();
    assert_eq!(end.sent(), []);
    // The end that comes with the reply stands behind the data.
    end.session.reply(id(1), &Headers::default(), true).unwrap();
    let early = Sent::Data(1, b"early".to_vec());
    assert_eq!(end.sent(), [Sent::SynReply(1, false), early, Sent::Fin(1)]);

    end.opened(3);
    end.session.finish(id(3)).unwrap();
    end.session.reply(id(3), &Headers::default(), false).unwrap();
    end.opened(5);
    end.session.reply(id(5), &Headers::default(), true).unwrap();
    assert_eq!(end.sent(), [Sent::SynReply(3, false), Sent::SynReply(5, true), Sent::Fin(3)]);
}

/// Other clients than kubectl write before the reply; what they write is not lost here.
#[test]
fn data_that_comes_before_the_reply_is_taken() {
    let mut end = server();
    end.opened(1);
    assert_eq!(end.bytes(&data(1, FIN, b"early")).unwrap(), [came(1, b"early"), Event::Fin { id: id(1) }]);
    end.session.reply(id(1), &Headers::default(), false).unwrap();
    assert!(end.session.is_open(id(1)));
}

#[test]
fn a_stream_is_over_when_both_sides_have_finished() {
    for local_first in [false, true] {
        let mut end = server();
        end.accepted(1);
        if local_first {
            end.session.finish(id(1)).unwrap();
            end.session.finish(id(1)).unwrap();
            assert_eq!(end.session.data(id(1), Bytes::new(), false), Err(SendError::Finished(id(1))));
            assert_eq!(end.one(&data(1, 0, b"x")), came(1, b"x"));
        }
        assert_eq!(end.one(&data(1, FIN, b"")), Event::Fin { id: id(1) });
        if !local_first {
            // Late data, and a second end.
            end.silent(&data(1, 0, b"late"));
            end.silent(&data(1, FIN, b""));
            end.session.data(id(1), Bytes::from_static(b"still"), true).unwrap();
        }
        assert_eq!((end.session.is_open(id(1)), end.session.open_streams()), (false, 0));
        assert_eq!(end.sent().last(), Some(&Sent::Fin(1)));
        assert_eq!(end.session.finish(id(1)), Err(SendError::NotOpen(id(1))));
        end.silent(&data(1, FIN, b"later"));
        assert!(end.session.counts().discarded_bytes >= 5);
        assert_eq!(end.session.counts().dropped, 0);
    }
}

/// How exec servers end their error stream: the reader gets the data and then a plain end.
#[test]
fn a_reset_behind_data_lets_the_data_through() {
    let mut end = client();
    let stream = end.opens(0);
    let bytes = [data(1, 0, b"status"), rst(1, 5), data(1, 0, b"late")].concat();
    assert_eq!(end.bytes(&bytes).unwrap(), [came(1, b"status"), reset(1, ResetStatus::CANCEL)]);
    assert!(!end.session.is_open(stream));
    assert_eq!(end.session.counts().discarded_bytes, 4);

    let mut end = server();
    end.accepted(1);
    end.session.data(id(1), Bytes::from_static(b"status"), false).unwrap();
    end.session.reset_after_data(id(1), ResetStatus::CANCEL);
    end.session.reset_after_data(id(1), ResetStatus::CANCEL);
    assert!(!end.session.is_open(id(1)) && end.session.queued_out(id(1)) == 6);
    end.silent(&data(1, 0, b"late"));
    assert_eq!(end.sent(), [Sent::Data(1, b"status".to_vec()), Sent::Rst(1, 5)]);
}

#[test]
fn a_reset_now_throws_away_what_is_queued() {
    let mut end = server();
    end.accepted(1);
    end.accepted(3);
    end.session.data(id(1), Bytes::from(vec![1; 200_000]), true).unwrap();
    end.session.data(id(3), Bytes::from_static(b"other"), false).unwrap();
    end.session.reset(id(1), ResetStatus::FLOW_CONTROL_ERROR);
    end.session.reset(id(1), ResetStatus::CANCEL);
    assert_eq!(end.session.queued_out(id(1)), 0);
    assert_eq!(end.sent(), [Sent::Rst(1, 7), Sent::Data(3, b"other".to_vec())]);
    end.silent(&data(1, 0, &[0; 1000]));
    end.silent(&rst(1, 5));
    assert_eq!(end.session.counts().discarded_bytes, 1000);
}

/// Go sends no RST_STREAM where it has finished; then the peer goes on sending for nobody.
#[test]
fn a_reset_is_sent_although_this_side_has_finished() {
    let mut end = server();
    end.accepted(1);
    end.session.finish(id(1)).unwrap();
    end.session.reset(id(1), ResetStatus::CANCEL);
    assert_eq!(end.sent(), [Sent::Rst(1, 5)], "the end that had not left goes with the rest");
}

#[test]
fn a_reset_of_the_peers_ends_what_is_queued_here() {
    let mut end = server();
    end.accepted(1);
    end.session.data(id(1), Bytes::from(vec![1; 200_000]), false).unwrap();
    // A frame that has begun has to be finished.
    bytes::Buf::advance(end.session.outbox(), 100);
    assert_eq!(end.one(&rst(1, 0)), reset(1, ResetStatus(0)));
    assert_eq!(end.session.queued_out(id(1)), 32 * 1024 + 8 - 100);
    assert_eq!(end.session.total_out(), 32 * 1024 + 8 - 100);
    assert_eq!(end.session.data(id(1), Bytes::new(), false), Err(SendError::NotOpen(id(1))));
    bytes::Buf::advance(end.session.outbox(), usize::MAX);
    assert_eq!((end.session.total_out(), end.session.queued_out(id(1))), (0, 0));

    // The same for a stream that both sides have finished and that waits for the wire.
    end.accepted(3);
    end.session.data(id(3), Bytes::from(vec![1; 200_000]), true).unwrap();
    assert_eq!(end.one(&data(3, FIN, b"")), Event::Fin { id: id(3) });
    end.silent(&rst(3, 5));
    assert_eq!(end.session.total_out(), 0);
}

#[test]
fn numbers_rise_and_belong_to_one_side() {
    let mut end = server();
    end.accepted(5);
    let why = |end: &mut End, stream| {
        let frame = end.peer.syn_stream(stream, 0, &[("streamtype", "data")]);
        let event = end.one(&frame);
        let sent = end.sent();
        assert_eq!(sent, [Sent::Rst(stream, 1)]);
        event
    };
    assert_eq!(why(&mut end, 3), Event::Dropped(Dropped::NotRising(id(3), id(5))));
    assert_eq!(why(&mut end, 8), Event::Dropped(Dropped::WrongParity(id(8))));
    // The others live on, and the compression with them.
    assert_eq!(end.one(&data(5, 0, b"x")), came(5, b"x"));
    end.accepted(7);
    // The answer ends the stream that has the number.
    let frame = end.peer.syn_stream(5, 0, &[]);
    let dropped = Event::Dropped(Dropped::NotRising(id(5), id(7)));
    assert_eq!(end.bytes(&frame).unwrap(), [dropped, reset(5, ResetStatus::PROTOCOL_ERROR)]);
    assert!(!end.session.is_open(id(5)) && end.session.is_open(id(7)));
    let last = end.peer.syn_stream(StreamId::MAX.get(), 0, &[]);
    assert!(matches!(end.one(&last), Event::StreamOpened { .. }));
}

#[test]
fn nobody_opens_streams_to_a_client() {
    let mut end = client();
    let frame = end.peer.syn_stream(2, 0, &[]);
    assert_eq!(end.one(&frame), Event::Dropped(Dropped::TooManyStreams(id(2))));
    assert_eq!(end.sent(), [Sent::Rst(2, 3)]);
}

#[test]
fn resets_of_what_is_unknown_mean_nothing() {
    let mut end = server();
    end.accepted(1);
    end.silent(&[rst(3, 5), rst(2, 5), rst(1 << 30, 1)].concat());
    assert_eq!((end.session.open_streams(), end.sent()), (1, vec![]));
}

/// An echo has the number of its PING; whose it is can be told from the number alone.
#[test]
fn pings_of_both_kinds() {
    let mut end = client();
    assert_eq!((end.session.ping(), end.session.ping()), (Ok(1), Ok(3)));
    assert_eq!(end.sent(), [Sent::Ping(1), Sent::Ping(3)]);
    // Late and out of order is as good; twice, or for nothing, is nothing.
    assert_eq!(end.one(&ping(3)), Event::PingReply { id: 3 });
    end.silent(&[ping(3), ping(77)].concat());
    end.silent(&[ping(2), ping(0xffff_fffe)].concat());
    assert_eq!(end.sent(), [Sent::Ping(2), Sent::Ping(0xffff_fffe)]);
    assert_eq!(end.session.counts().pings, 2);

    let mut end = server();
    end.silent(&[ping(1), ping(3)].concat());
    assert_eq!(end.sent(), [Sent::Ping(1), Sent::Ping(3)]);
    assert_eq!(end.session.ping(), Ok(2));
    assert_eq!(end.one(&ping(2)), Event::PingReply { id: 2 });
}

/// kubectl reads nothing behind GOAWAY, and takes an end without a status for success.
#[test]
fn goodbye_goes_last() {
    let mut end = server();
    for stream in [1, 3, 5] {
        end.accepted(stream);
    }
    end.session.data(id(3), Bytes::from(vec![3; 100_000]), false).unwrap();
    end.session.data(id(1), Bytes::from_static(b"status"), false).unwrap();
    end.session.close(GoAwayStatus::OK);
    assert!(end.session.is_closing() && !end.session.is_flushed());
    assert_eq!(end.session.data(id(1), Bytes::new(), false), Err(SendError::NotOpen(id(1))));
    assert_eq!(
        (end.session.ping(), end.session.open(&Headers::default(), false).is_err()),
        (Err(SendError::GoingAway), true)
    );
    end.session.go_away(GoAwayStatus::INTERNAL_ERROR);
    let sent = end.sent();
    assert_eq!(sent.last(), Some(&Sent::GoAway(5, 0)));
    let resets = sent.iter().filter(|frame| matches!(frame, Sent::Rst(_, 5))).count();
    let bytes: usize = sent.iter().map(|f| if let Sent::Data(_, bytes) = f { bytes.len() } else { 0 }).sum();
    assert_eq!((resets, bytes), (3, 100_006));
    assert!(end.session.is_flushed() && end.session.outbox().is_empty());
    // PINGs are not answered any more, and streams not opened.
    end.silent(&ping(1));
    let frame = end.peer.syn_stream(7, 0, &[]);
    assert_eq!(end.one(&frame), Event::Dropped(Dropped::AfterGoAway(id(7))));
    assert_eq!(end.sent(), []);
}

#[test]
fn a_goodbye_without_resets_still_takes_what_comes() {
    let mut end = client();
    let stream = end.opens(0);
    let waiting = end.session.open(&Headers::default(), false).unwrap();
    end.session.data(waiting, Bytes::from_static(b"held back"), true).unwrap();
    end.session.data(stream, Bytes::from_static(b"bye"), false).unwrap();
    end.session.go_away(GoAwayStatus::OK);
    assert_eq!(end.session.data(stream, Bytes::new(), false), Err(SendError::GoingAway));
    let bye = Sent::Data(1, b"bye".to_vec());
    assert_eq!(end.sent(), [Sent::SynStream(3, false), bye, Sent::GoAway(0, 0)]);
    assert_eq!(end.one(&data(1, 0, b"x")), came(1, b"x"));
    assert_eq!(end.one(&rst(1, 5)), reset(1, ResetStatus::CANCEL));
}

#[test]
fn what_cannot_be_sent_is_said_and_nothing_is_queued() {
    let mut end = server();
    end.accepted(1);
    let one = id(1);
    assert_eq!(end.session.reply(one, &Headers::default(), false), Err(SendError::NoReplyDue(one)));
    assert_eq!(end.session.reply(id(3), &Headers::default(), false), Err(SendError::NotOpen(id(3))));
    assert_eq!(end.session.data(id(3), Bytes::new(), true), Err(SendError::NotOpen(id(3))));
    let unnamed = Headers::from_iter([("", "x")]);
    assert!(matches!(end.session.open(&unnamed, false), Err(SendError::Headers(_))));
    assert_eq!(end.session.open(&Headers::default(), false), Ok(id(2)), "the number was not used up");
    assert_eq!(end.sent(), [Sent::SynStream(2, false)]);
    end.session.data(one, Bytes::new(), false).unwrap();
    assert_eq!(end.sent(), []);
}

/// The reply that Go's client was seen to accept: stored blocks behind a zlib header of their own.
#[test]
fn a_reply_byte_for_byte() {
    let mut end = server();
    end.opened(1);
    end.opened(3);
    end.session.reply(id(1), &Headers::default(), false).unwrap();
    end.session.reply(id(3), &Headers::default(), false).unwrap();
    let sent = bytes::Buf::copy_to_bytes(end.session.outbox(), 54);
    let first = "80030002 00000014 00000001 7801 00 0400 fbff 00000000 00 0000 ffff".replace(' ', "");
    let second = "80030002 00000012 00000003 00 0400 fbff 00000000 00 0000 ffff".replace(' ', "");
    let hex: String = sent.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, first + &second);
    assert!(end.session.outbox().is_empty());
}
