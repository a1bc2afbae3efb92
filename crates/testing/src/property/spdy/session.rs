//! One session under anything a peer may send: what it reports is a possible story, it says the same in any cut, and
//! what it sends are whole frames.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};
use wsstream_proto::spdy::{Dropped, Event, Headers, Limits, ResetStatus, Session, StreamId, Violation};

use crate::property::Choices;

/// What a session reported, with the pieces of data joined, and what it sent.
#[derive(Debug, PartialEq, Eq)]
struct Story {
    events: Vec<Event>,
    error: Option<Violation>,
    sent: Vec<u8>,
}

/// Any bytes, to either role, in any cut.
pub fn any_cut(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut part = choices.split();
    let is_client = choices.once_in(3);
    let bytes = super::wild(&mut choices);
    let whole = run(is_client, &[&bytes]);
    let cut = run(is_client, &part.cut(&bytes));
    assert_eq!((&whole.events, &whole.error), (&cut.events, &cut.error), "{bytes:02x?}");
    if whole.error.is_some() {
        // What had not left is gone, and what had depends on the cut.
        return;
    }
    // Where an answer to a PING stands between other frames depends on the cut; that it is sent does not.
    let (mut whole, mut cut) = (frames(&whole.sent), frames(&cut.sent));
    whole.sort();
    cut.sort();
    assert_eq!(whole, cut);
}

/// What is known of a stream from the events.
#[derive(Debug, Default)]
struct Known {
    finished: bool,
}

fn run(is_client: bool, parts: &[&[u8]]) -> Story {
    let mut limits = Limits::default();
    limits.max_streams = 6;
    let mut session = if is_client { Session::client(limits) } else { Session::server(limits) };
    let mut known: BTreeMap<StreamId, Known> = BTreeMap::new();
    if is_client {
        for _ in 0..4 {
            known.insert(
                session.open(&Headers::default(), false).expect("a fresh session opens"),
                Known::default(),
            );
        }
    } else {
        session.ping().expect("a fresh session pings");
    }
    let mut story = Story { events: Vec::new(), error: None, sent: Vec::new() };
    let mut input = BytesMut::new();
    let mut seen = 0;
    for part in parts {
        input.extend_from_slice(part);
        seen += part.len();
        loop {
            match session.handle_input(&mut input) {
                Ok(Some(event)) => {
                    note(&mut session, &mut known, &event);
                    join(&mut story.events, event);
                }
                Ok(None) if session.wants_read() => break,
                Ok(None) => {
                    assert!(!session.outbox().is_empty(), "it waits for a wire that has nothing to take");
                }
                Err(violation) => {
                    assert_eq!(
                        session.handle_input(&mut input),
                        Err(violation.clone()),
                        "an error repeats itself"
                    );
                    story.error = Some(violation);
                    break;
                }
            }
            drain(&mut session, &mut story.sent, is_client || seen >= 8);
        }
        drain(&mut session, &mut story.sent, is_client || seen >= 8);
        if story.error.is_some() {
            assert!(session.is_closing() && session.is_flushed());
            return story;
        }
        assert!(input.len() < 18, "{} bytes are kept back", input.len());
        assert_eq!(session.open_streams(), known.len());
    }
    drain(&mut session, &mut story.sent, is_client || seen >= 8);
    story
}

/// Takes part in the story: streams are taken, answered, or refused, by their numbers.
fn note(session: &mut Session, known: &mut BTreeMap<StreamId, Known>, event: &Event) {
    match event {
        Event::StreamOpened { id, fin, .. } => {
            assert!(known.insert(*id, Known { finished: *fin }).is_none(), "{id} is open already");
            assert!(session.is_open(*id));
            if id.get() % 7 == 0 {
                session.reset(*id, ResetStatus::CANCEL);
                known.remove(id);
            } else {
                session.reply(*id, &Headers::default(), false).expect("it waits for a reply");
                session
                    .data(*id, Bytes::from(vec![id.get() as u8; 3000]), id.get() % 3 == 0)
                    .expect("it is open");
            }
        }
        Event::Replied { id, fin, .. } => {
            let stream = known.get_mut(id).expect("a reply to nothing");
            stream.finished |= *fin;
        }
        Event::Data { id, bytes } => {
            assert!(!bytes.is_empty(), "data is never empty");
            assert!(!known.get(id).expect("data of nothing").finished, "data behind the end");
        }
        Event::Fin { id } => {
            let stream = known.get_mut(id).expect("the end of nothing");
            assert!(!std::mem::replace(&mut stream.finished, true), "a second end");
        }
        Event::Reset { id, .. } => assert!(known.remove(id).is_some(), "a reset of nothing"),
        Event::Dropped(Dropped::TooManyStreams(id)) => assert!(!known.contains_key(id)),
        Event::PingReply { id } => assert_eq!(*id, 2),
        // A stream that it ended has its reset coming.
        Event::Dropped(_) => return,
        _ => {}
    }
    // A stream that is over in both directions is forgotten.
    known.retain(|id, stream| session.is_open(*id) || !stream.finished);
}

fn join(events: &mut Vec<Event>, event: Event) {
    match (events.last_mut(), event) {
        (Some(Event::Data { id, bytes }), Event::Data { id: same, bytes: more }) if *id == same => {
            bytes.extend_from_slice(&more);
        }
        (_, event) => events.push(event),
    }
}

fn drain(session: &mut Session, sent: &mut Vec<u8>, begun: bool) {
    while !session.outbox().is_empty() {
        assert!(begun, "a server speaks first");
        let outbox = session.outbox();
        let part = outbox.chunk();
        assert!(!part.is_empty(), "an outbox that is not empty shows something");
        sent.extend_from_slice(part);
        let n = part.len();
        outbox.advance(n);
    }
}

/// Cuts what was sent into frames, all of them of a kind that may be sent.
fn frames(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut frames = Vec::new();
    while !bytes.is_empty() {
        let len = u32::from_be_bytes([0, bytes[5], bytes[6], bytes[7]]) as usize;
        let (frame, rest) = bytes.split_at(8 + len);
        if frame[0] & 0x80 != 0 {
            assert_eq!(frame[..3], [0x80, 3, 0]);
            assert!([1, 2, 3, 6, 7].contains(&frame[3]), "{frame:02x?} is never sent");
        }
        frames.push(frame);
        bytes = rest;
    }
    frames
}
