//! In which order, in which frames and with which copies bytes leave a session.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]
// Megabytes, byte by byte, take Miri hours.
#![cfg(not(miri))]

mod spdy_peer;

use std::io::IoSlice;

use bytes::{Buf as _, Bytes};
use spdy_peer::*;
use wsstream_proto::spdy::limits::MAX_DATA_SENT;
use wsstream_proto::spdy::{Headers, ResetStatus};

/// A server with these streams, replied to.
fn streams(numbers: &[u32]) -> End {
    let mut end = server();
    for number in numbers {
        end.accepted(*number);
    }
    end
}

fn send(end: &mut End, stream: u32, len: usize) {
    end.session.data(id(stream), Bytes::from(vec![stream as u8; len]), false).unwrap();
}

/// Stream and length of each DATA frame, 0 for others.
fn shape(sent: &[Sent]) -> Vec<(u32, usize)> {
    let of = |frame: &Sent| match frame {
        Sent::Data(stream, bytes) => {
            assert!(bytes.iter().all(|byte| u32::from(*byte) == *stream));
            (*stream, bytes.len())
        }
        Sent::Fin(stream) => (*stream, 0),
        _ => (0, 0),
    };
    sent.iter().map(of).collect()
}

#[test]
fn long_payloads_leave_in_frames_of_32_kib_without_a_copy() {
    let mut end = streams(&[1]);
    let payload = Bytes::from((0..100_000u32).map(|n| n as u8).collect::<Vec<_>>());
    end.session.data(id(1), payload.clone(), true).unwrap();
    let mut slices = [IoSlice::new(&[]); 64];
    let outbox = &*end.session.outbox();
    let n = outbox.chunks_vectored(&mut slices);
    // Two frames are cut ahead: one writev's worth.
    assert_eq!(slices[..n].iter().map(|slice| slice.len()).collect::<Vec<_>>(), [8, 32_768, 8, 32_768]);
    assert_eq!(&*slices[0], [0, 0, 0, 1, 0, 0, 0x80, 0]);
    assert_eq!((slices[1].as_ptr(), slices[3].as_ptr()), (payload.as_ptr(), payload[32_768..].as_ptr()));
    assert_eq!((end.session.queued_out(id(1)), end.session.total_out()), (100_000, 100_016));

    let sent = end.sent();
    assert_eq!(
        sent.iter().map(|f| if let Sent::Data(_, b) = f { b.len() } else { 0 }).collect::<Vec<_>>(),
        [32_768, 32_768, 32_768, 1696, 0]
    );
    let bytes: Vec<u8> =
        sent.into_iter().flat_map(|f| if let Sent::Data(_, b) = f { b } else { vec![] }).collect();
    assert!(bytes == payload);
    assert_eq!(end.session.total_out(), 0);
}

#[test]
fn streams_take_turns() {
    let mut end = streams(&[1, 3, 5]);
    send(&mut end, 1, 10 * MAX_DATA_SENT);
    send(&mut end, 3, 3 * MAX_DATA_SENT);
    send(&mut end, 5, 10);
    end.session.finish(id(5)).unwrap();
    let sent = end.sent();
    let order: Vec<u32> = shape(&sent).iter().map(|(stream, _)| *stream).collect();
    // What the first had to itself is what was cut before the others came.
    assert_eq!(order, [1, 1, 1, 3, 5, 5, 1, 3, 1, 3, 1, 1, 1, 1, 1]);
}

#[test]
fn control_overtakes_data_but_never_inside_a_frame() {
    let mut end = streams(&[1, 3]);
    send(&mut end, 1, 100_000);
    end.session.outbox().advance(20);
    end.session.ping().unwrap();
    end.silent(&ping(7));
    end.session.reset(id(3), ResetStatus::CANCEL);
    end.opened(5);
    end.session.reply(id(5), &Headers::default(), false).unwrap();
    let rest = MAX_DATA_SENT + 8 - 20;
    assert_eq!(end.session.outbox().copy_to_bytes(rest), vec![1; rest]);
    let sent = end.sent();
    assert_eq!(sent[..4], [Sent::Ping(2), Sent::Ping(7), Sent::Rst(3, 5), Sent::SynReply(5, false)]);
    assert_eq!(shape(&sent[4..]), [(1, 32_768), (1, 32_768), (1, 100_000 - 3 * 32_768)]);
}

/// A hundred writes of one byte are not a hundred frames, and a byte of a large buffer does not keep it alive.
#[test]
fn small_payloads_are_gathered_while_they_wait() {
    let mut end = streams(&[1]);
    let large = Bytes::from(vec![1; 1 << 20]);
    // What is cut ahead leaves as it came; the rest waits and grows.
    for n in 0..10_000 {
        end.session.data(id(1), large.slice(n..=n), false).unwrap();
    }
    assert_eq!(end.session.queued_out(id(1)), 10_000);
    assert!(large.is_unique(), "nothing holds a view of it");
    let shape = shape(&end.sent());
    assert_eq!(shape.iter().map(|(_, len)| len).sum::<usize>(), 10_000);
    assert!(shape.len() < 40, "{} frames", shape.len());
    assert!(shape.iter().all(|(_, len)| *len <= 4096));
}

#[test]
fn short_and_long_payloads_keep_their_order() {
    let mut end = streams(&[1]);
    let mut expected = Vec::new();
    for n in 0..400_usize {
        let payload = vec![(n % 256) as u8; [1, 5000, 1023, 1024, 40_000, 3][n % 6]];
        expected.extend_from_slice(&payload);
        end.session.data(id(1), Bytes::from(payload), false).unwrap();
    }
    let sent = end.sent();
    let bytes: Vec<u8> =
        sent.into_iter().flat_map(|f| if let Sent::Data(_, b) = f { b } else { vec![] }).collect();
    assert!(bytes == expected);
}

#[test]
fn a_stream_that_is_held_back_holds_up_nobody() {
    let mut end = client();
    let held = end.session.open(&Headers::default(), false).unwrap();
    end.session.data(held, Bytes::from(vec![0; 1 << 20]), false).unwrap();
    end.sent();
    assert!(end.session.outbox().is_empty());
    let other = end.session.open(&Headers::default(), false).unwrap();
    let reply = end.peer.syn_reply(other.get(), 0);
    end.one(&reply);
    send(&mut end, other.get(), 10);
    assert_eq!(shape(&end.sent()), [(0, 0), (3, 10)]);
    assert_eq!(end.session.total_out(), 1 << 20);
}

#[test]
fn slices_are_shown_from_where_the_wire_stopped() {
    let mut end = streams(&[1]);
    send(&mut end, 1, 5000);
    end.session.finish(id(1)).unwrap();
    let mut bytes = Vec::new();
    for n in [1, 6, 1, 3, 4990, 7, 1, 7].into_iter().cycle() {
        let outbox = end.session.outbox();
        if outbox.is_empty() {
            break;
        }
        let mut slices = [IoSlice::new(&[]); 2];
        let filled = outbox.chunks_vectored(&mut slices);
        let shown: Vec<u8> = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect();
        assert!(shown.starts_with(outbox.chunk()) && !outbox.chunk().is_empty());
        let n = n.min(shown.len());
        bytes.extend(&shown[..n]);
        outbox.advance(n);
    }
    assert_eq!(frames(&bytes), [Sent::Data(1, vec![1; 5000]), Sent::Fin(1)]);
}

#[test]
fn a_reset_behind_a_fin_that_has_not_left_does_not_take_its_place() {
    let mut end = streams(&[1]);
    send(&mut end, 1, 10);
    end.session.finish(id(1)).unwrap();
    end.session.reset_after_data(id(1), ResetStatus::CANCEL);
    let sent = end.sent();
    assert_eq!(sent.len(), 3, "{sent:?}");
    assert_eq!(shape(&sent[..2]), [(1, 10), (1, 0)]);
    assert!(matches!(sent[1], Sent::Fin(1)) && matches!(sent[2], Sent::Rst(1, 5)), "{sent:?}");
}

#[test]
fn close_resets_only_what_is_not_finished() {
    let mut end = streams(&[1, 3]);
    end.session.data(id(1), Bytes::from_static(b"all"), true).unwrap();
    end.session.close(wsstream_proto::spdy::GoAwayStatus::OK);
    let sent = end.sent();
    assert_eq!(sent.iter().filter(|frame| matches!(frame, Sent::Rst(..))).count(), 1, "{sent:?}");
    assert!(sent.iter().any(|frame| matches!(frame, Sent::Fin(1))), "the end of what was finished: {sent:?}");
}

#[test]
fn a_reset_behind_our_goodbye_takes_nothing_back() {
    let mut end = streams(&[1]);
    end.session.data(id(1), Bytes::from(vec![1; 100_000]), true).unwrap();
    end.session.close(wsstream_proto::spdy::GoAwayStatus::OK);
    end.session.reset_after_data(id(1), ResetStatus::CANCEL);
    let sent = end.sent();
    let len: usize = shape(&sent).into_iter().map(|(_, len)| len).sum();
    assert_eq!(len, 100_000);
    assert!(matches!(sent[sent.len() - 2..], [Sent::Fin(1), Sent::GoAway(..)]), "{sent:?}");
}
