//! The outbox: whatever is queued and however it is taken, the wire sees whole frames, and control never inside one.

use std::io::IoSlice;

use bytes::{Buf as _, Bytes};
use wsstream_proto::ws::{CloseCode, CloseReason, Opcode, Outbox};

use crate::peer::{RawFrame, opcode};

use super::engines::{self, Engine};
use super::frames::Item;
use super::{Choices, mask_key};

/// A ping that was queued when so many bytes had left and so many pings were queued before it.
struct Sent {
    payload: Vec<u8>,
    at: usize,
}

/// Random messages, control frames and partial writes.
pub fn frames_stay_whole(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mask = choices.once_in(2).then(mask_key);
    let mut outbox = Outbox::default();
    let mut wire = Vec::new();
    let (mut messages, mut pings, mut pongs) = (Vec::new(), Vec::new(), Vec::new());
    let mut steps = 0;
    while !choices.is_empty() && steps < 200 {
        steps += 1;
        match choices.below(8) {
            0..=2 => {
                let payload = choices.payload();
                let prefix = &[7][..choices.below(2)];
                outbox.message(Opcode::Binary, prefix, Bytes::from(payload.clone()), mask);
                messages.push([prefix, &payload].concat());
            }
            3 => {
                let payload = vec![b'i', pings.len() as u8];
                outbox.control(Opcode::Ping, &payload, mask);
                pings.push(Sent { payload, at: wire.len() });
            }
            4 => {
                let payload = vec![b'o', pongs.len() as u8];
                outbox.control(Opcode::Pong, &payload, mask);
                pongs.push(Sent { payload, at: wire.len() });
            }
            5 => take(&mut outbox, &mut wire, usize::from(choices.word())),
            _ => take(&mut outbox, &mut wire, choices.below(20)),
        }
    }
    outbox.control(Opcode::Close, &CloseReason::code(CloseCode::NORMAL).encode(), mask);
    while !outbox.is_empty() {
        let n = if choices.is_empty() { usize::MAX } else { 1 + choices.below(256) };
        take(&mut outbox, &mut wire, n);
    }
    check(&wire, mask, &messages, &pings, &pongs);
}

/// Moves up to `n` bytes to the wire, as a vectored write would.
fn take(outbox: &mut Outbox, wire: &mut Vec<u8>, n: usize) {
    let mut slices = [IoSlice::new(&[]); 3];
    let filled = outbox.chunks_vectored(&mut slices);
    let mut shown = Vec::new();
    for slice in &slices[..filled] {
        shown.extend_from_slice(&slice[..slice.len().min(n - shown.len())]);
    }
    assert!(!shown.is_empty() || n == 0 || outbox.is_empty(), "an outbox that is not empty shows something");
    let before = outbox.len();
    outbox.advance(shown.len());
    assert_eq!(outbox.len(), before - shown.len());
    wire.extend(shown);
}

fn check(wire: &[u8], mask: Option<[u8; 4]>, messages: &[Vec<u8>], pings: &[Sent], pongs: &[Sent]) {
    let mut frames = Vec::new();
    let mut at = 0;
    while let Some((frame, size)) = RawFrame::parse(&wire[at..]) {
        assert_eq!((frame.mask, frame.fin, frame.reserved), (mask, true, 0));
        frames.push((at, frame));
        at += size;
    }
    assert_eq!(at, wire.len(), "the wire ends with a whole frame");
    let of = |kind| frames.iter().filter(move |(_, frame)| frame.opcode == kind);
    let data: Vec<_> = of(opcode::BINARY).map(|(_, frame)| &frame.payload).collect();
    assert_eq!(data, messages.iter().collect::<Vec<_>>(), "each message once, in order");
    let (_, last) = frames.last().expect("at least Close");
    assert_eq!((last.opcode, &last.payload[..]), (opcode::CLOSE, &[3, 0xe8][..]), "Close is last");
    assert_eq!(of(opcode::CLOSE).count(), 1);

    assert_eq!(of(opcode::PING).count(), pings.len(), "no ping is lost");
    for sent in pings {
        let (at, _) = of(opcode::PING).find(|(_, frame)| frame.payload == sent.payload).expect("it arrives");
        overtook_data(&frames, sent.at, *at);
    }
    // A pong may be replaced by a later one, never by an earlier one.
    let arrived: Vec<_> = of(opcode::PONG).map(|(_, frame)| &frame.payload).collect();
    assert!(arrived.is_sorted(), "pongs in order");
    assert_eq!(arrived.last(), pongs.last().map(|sent| &sent.payload).as_ref(), "the last pong arrives");
    for (at, frame) in of(opcode::PONG) {
        let sent = pongs.iter().find(|sent| sent.payload == frame.payload).expect("it was sent");
        overtook_data(&frames, sent.at, *at);
    }
}

/// Between the moment a control frame was queued and its place on the wire no data frame begins.
fn overtook_data(frames: &[(usize, RawFrame)], queued: usize, sent: usize) {
    let waited = frames.iter().find(|(at, frame)| {
        *at >= queued && *at < sent && matches!(frame.opcode, opcode::BINARY | opcode::CLOSE)
    });
    assert!(waited.is_none(), "a control frame queued at {queued} waited for {waited:?}");
}

/// What we send, two other engines read, and what they send, we read.
pub fn understood_by_others(input: &[u8]) {
    let mut choices = Choices::new(input);
    let as_client = choices.once_in(2);
    let mask = as_client.then(mask_key);
    let frames = super::frames::legal(&mut choices, as_client, false);
    let items = super::frames::items(&frames);
    let mut ours = Vec::new();
    for item in &items {
        // One outbox each: a pong that is not sent is replaced by the next, which is not the question here.
        let mut outbox = Outbox::default();
        queue(&mut outbox, item, mask);
        take(&mut outbox, &mut ours, usize::MAX);
    }
    for engine in engines::OTHERS {
        let read = engine.decode(&ours, as_client);
        assert_eq!(read.items, engines::known_close_codes(engine, &items), "{engine:?} reads ours");
        assert!(!read.refused, "{engine:?} refuses ours");
        let theirs = engine.encode(&speakable(engine, &items), as_client);
        let decoded = super::decoder::decode(&[&theirs], as_client, engines::LIMIT);
        assert_eq!((decoded.items, decoded.error), (speakable(engine, &items), None), "we read {engine:?}");
    }
}

fn queue(outbox: &mut Outbox, item: &Item, mask: Option<[u8; 4]>) {
    match item {
        Item::Data { text, payload } => {
            let opcode = if *text { Opcode::Text } else { Opcode::Binary };
            outbox.message(opcode, &[], Bytes::copy_from_slice(payload), mask);
        }
        Item::Ping(data) => outbox.control(Opcode::Ping, data, mask),
        Item::Pong(data) => outbox.control(Opcode::Pong, data, mask),
        Item::Close(close) => {
            let reason = close.clone().map_or_else(CloseReason::default, |(code, reason)| {
                CloseReason::new(CloseCode::new(code).expect("a legal code"), reason)
            });
            outbox.control(Opcode::Close, &reason.encode(), mask);
        }
    }
}

/// `items` as far as the engine can say them; a Close reason at its limit of 123 bytes is at the others' discretion.
fn speakable(engine: Engine, items: &[Item]) -> Vec<Item> {
    let mut items = engines::known_close_codes(engine, items);
    for item in &mut items {
        if let Item::Close(Some((_, reason))) = item {
            reason.truncate(100);
        }
    }
    items
}
