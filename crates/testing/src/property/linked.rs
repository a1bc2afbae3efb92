//! Two machines joined: a server and a client that send, half-close, ping and close at random while their bytes are
//! delivered in random parts. Each byte arrives once, in order, on its channel; nothing comes after its end; both
//! finish.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::connection::{Config, Connection, Event, Role};
use wsstream_proto::subprotocol::{Framing, READER, REMOTECOMMAND};
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::Choices;
use super::connection::{MODES, client};
use super::model::{self, Model};

/// What one end has sent on one channel, and the other has seen of it.
#[derive(Debug, Default)]
struct Lane {
    sent: Vec<u8>,
    empty_sent: usize,
    closed: bool,
    got: Vec<u8>,
    empty_got: usize,
    close_got: bool,
}

struct End {
    machine: Connection,
    model: Model,
    modes: Vec<ChannelMode>,
    is_server: bool,
    /// Bytes from the other end that the machine has not taken.
    input: BytesMut,
    lanes: BTreeMap<u8, Lane>,
    pings_sent: usize,
    pings_got: usize,
    pongs_got: usize,
    close_sent: Option<u16>,
    close_got: Option<u16>,
}

/// Codes that either end may close with.
const CODES: [CloseCode; 4] =
    [CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::INTERNAL, CloseCode::POLICY];

/// The whole story.
pub fn each_byte_arrives_once(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut ends = pair(&mut choices);
    let mut steps = 0;
    while !choices.is_empty() && steps < 400 {
        steps += 1;
        let who = choices.below(2);
        match choices.below(16) {
            0..=4 => send(&mut ends[who], &mut choices),
            5 => half_close(&mut ends[who], choices.below(6) as u8),
            6 => ping(&mut ends[who]),
            7 if choices.once_in(12) => close(&mut ends[who], choices.pick(&CODES)),
            8 => _ = take_one(&mut ends, who),
            9..=11 => deliver(&mut ends, who, choices.below(16)),
            _ => deliver(&mut ends, who, usize::from(choices.word()) % 9000),
        }
    }
    finish(&mut ends);
    for who in 0..2 {
        judge(&ends[who], &ends[1 - who]);
    }
}

fn pair(choices: &mut Choices<'_>) -> [End; 2] {
    let all: Vec<_> = REMOTECOMMAND.iter().chain(READER).collect();
    let subprotocol = choices.pick(&all).clone();
    let count = if subprotocol.framing() == Framing::Single { 1 } else { 1 + choices.below(5) };
    let modes: Vec<ChannelMode> = (0..count).map(|_| choices.pick(&MODES)).collect();
    // As a rule the ends agree; now and then one has its own idea of a channel.
    let theirs: Vec<ChannelMode> = modes
        .iter()
        .map(|mode| if choices.once_in(8) { choices.pick(&MODES) } else { mode.mirrored() })
        .collect();
    let end = |role, channels: Vec<ChannelMode>| {
        let is_server = matches!(role, Role::Server);
        let modes = channels.clone();
        let config = Config { role, subprotocol: subprotocol.clone(), channels, max_message: 1 << 20 };
        End {
            machine: Connection::new(&config),
            model: Model::new(&config),
            modes,
            is_server,
            input: BytesMut::new(),
            lanes: BTreeMap::new(),
            pings_sent: 0,
            pings_got: 0,
            pongs_got: 0,
            close_sent: None,
            close_got: None,
        }
    };
    [end(Role::Server, modes), end(client(), theirs)]
}

fn send(end: &mut End, choices: &mut Choices<'_>) {
    let channel = choices.below(6) as u8;
    let payload = choices.payload();
    let sent = end.machine.send(ChannelId(channel), Bytes::copy_from_slice(&payload));
    assert_eq!(sent.map_err(model::refused), end.model.send(channel));
    if sent.is_ok() {
        let lane = end.lanes.entry(channel).or_default();
        lane.empty_sent += usize::from(payload.is_empty());
        lane.sent.extend(payload);
    }
}

fn half_close(end: &mut End, channel: u8) {
    let done = end.machine.half_close(ChannelId(channel)).map_err(model::refused);
    assert_eq!(done, end.model.half_close(channel).map(drop));
    if done.is_ok() {
        end.lanes.entry(channel).or_default().closed = true;
    }
}

fn ping(end: &mut End) {
    end.pings_sent += usize::from(!end.machine.sent_close());
    end.machine.ping(b"ping");
}

fn close(end: &mut End, code: CloseCode) {
    end.machine.close(&CloseReason::code(code));
    if end.model.close() {
        end.close_sent = Some(code.get());
    }
    assert!(end.machine.sent_close());
}

/// Moves up to `n` bytes from one end to the other, and has the other take it all.
fn deliver(ends: &mut [End; 2], from: usize, n: usize) {
    let outbox = ends[from].machine.outbox();
    let mut left = n.min(outbox.remaining());
    while left > 0 {
        let outbox = ends[from].machine.outbox();
        let part = outbox.chunk();
        assert!(!part.is_empty(), "an outbox that is not empty shows something");
        let part = Bytes::copy_from_slice(&part[..part.len().min(left)]);
        outbox.advance(part.len());
        left -= part.len();
        ends[1 - from].input.extend_from_slice(&part);
    }
    while take_one(ends, 1 - from) {}
}

/// One event; false when there is none.
fn take_one(ends: &mut [End; 2], who: usize) -> bool {
    let [a, b] = ends;
    let (end, peer) = if who == 0 { (a, b) } else { (b, a) };
    let event = match end.machine.handle_input(&mut end.input) {
        Ok(Some(event)) => event,
        Ok(None) => return false,
        Err(violation) => panic!("both ends are conforming, and yet: {violation}"),
    };
    assert_eq!(end.close_got, None, "{event:?} after the Close of the peer");
    match event {
        Event::Data { channel, data } => {
            assert!(!data.is_empty(), "data is never empty");
            let lane = arriving(peer, channel);
            lane.got.extend_from_slice(&data);
            assert!(lane.sent.starts_with(&lane.got), "bytes on channel {channel} that were not sent so");
        }
        Event::Empty { channel } => arriving(peer, channel).empty_got += 1,
        Event::HalfClosed { channel } => {
            let lane = arriving(peer, channel);
            assert!(lane.closed, "nobody closed channel {channel}");
            assert_eq!(lane.got, lane.sent, "CLOSE overtook the data of channel {channel}");
            lane.close_got = true;
        }
        Event::Ping => end.pings_got += 1,
        Event::Pong => end.pongs_got += 1,
        Event::Closed(reason) => {
            assert_eq!(reason.code.map(CloseCode::get), peer.close_sent, "the code of the Close");
            end.close_got = peer.close_sent;
            if !end.is_server && end.model.close() {
                // A client has answered already, with the same code.
                end.close_sent = end.close_got;
            }
            assert_eq!(end.machine.sent_close(), end.model.has_closed());
        }
        Event::Dropped(_) => {
            let disagree =
                end.modes.iter().zip(&peer.modes).any(|(ours, theirs)| theirs.writes() && !ours.reads());
            assert!(disagree, "conforming peers that agree on their channels drop nothing: {event:?}");
        }
        other => panic!("an unknown event: {other:?}"),
    }
    true
}

/// The lane of what `peer` sent on `channel`, still open at this end.
fn arriving(peer: &mut End, channel: ChannelId) -> &mut Lane {
    let lane = peer.lanes.get_mut(&channel.0);
    let lane = lane.unwrap_or_else(|| panic!("nothing was sent on channel {channel}"));
    assert!(!lane.close_got, "something on channel {channel} after its CLOSE");
    lane
}

/// Both close, and everything is delivered.
fn finish(ends: &mut [End; 2]) {
    close(&mut ends[0], CloseCode::NORMAL);
    // The server's Close reaches the client, whose answer goes back: no more than two rounds.
    for _ in 0..2 {
        deliver(ends, 0, usize::MAX);
        deliver(ends, 1, usize::MAX);
    }
    for end in ends {
        assert!(end.machine.is_finished(), "both have closed and everything is delivered");
        assert!(end.machine.send(ChannelId(0), Bytes::new()).is_err());
    }
}

/// What `receiver` has of what `sender` sent.
fn judge(sender: &End, receiver: &End) {
    for (channel, lane) in &sender.lanes {
        let read = receiver.modes.get(usize::from(*channel)).is_some_and(|mode| mode.reads());
        if read {
            assert_eq!((&lane.got, lane.empty_got), (&lane.sent, lane.empty_sent), "channel {channel}");
            assert_eq!(lane.close_got, lane.closed, "the CLOSE of channel {channel}");
        } else {
            assert_eq!((lane.got.len(), lane.empty_got, lane.close_got), (0, 0, false), "channel {channel}");
        }
    }
    assert_eq!(receiver.pings_got, sender.pings_sent, "pings");
    assert!(sender.pongs_got <= receiver.pings_got, "a pong for each ping at most");
    assert_eq!(receiver.close_got, sender.close_sent);
}
