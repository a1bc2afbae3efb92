//! Every short story of one connection, and every state that stories of any length lead to: all sequences over a small
//! alphabet, against the model.

use std::collections::HashSet;

use bytes::{Buf as _, Bytes, BytesMut};
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::connection::{Config, Connection, Role};
use wsstream_proto::subprotocol::{Encoding, Subprotocol};
use wsstream_proto::ws::{CloseCode, CloseReason};

use crate::peer::{RawFrame, opcode};

use super::connection::client;
use super::frames::{self, Item};
use super::mask_key;
use super::model::{self, Model};

/// One step of a story.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The peer sends a message of these bytes; in base64 protocols the form of the same.
    Peer(&'static [u8]),
    /// The peer sends bytes that are no base64 on channel 0.
    PeerBad,
    /// The peer sends a ping.
    PeerPing,
    /// The peer sends Close.
    PeerClose,
    /// This end sends a byte on a channel.
    Send(u8),
    /// This end ends its half of a channel.
    HalfClose(u8),
    /// This end pings.
    Ping,
    /// This end closes.
    Close,
}

/// Data, empty messages, CLOSE in good and bad forms, ping, Close, and what this end can do.
pub const ALPHABET: [Step; 16] = [
    Step::Peer(&[0, b'a']),
    Step::Peer(&[1, b'b']),
    Step::Peer(&[0]),
    Step::Peer(&[]),
    Step::Peer(&[9, b'x']),
    Step::Peer(&[255, 0]),
    Step::Peer(&[255, 1]),
    Step::Peer(&[255]),
    Step::PeerBad,
    Step::PeerPing,
    Step::PeerClose,
    Step::Send(0),
    Step::Send(1),
    Step::HalfClose(0),
    Step::Ping,
    Step::Close,
];

/// How many steps the stories over all pairs of modes have; [`deeper`] adds to it.
pub const DEPTH: u32 = 3;

/// How many steps the stories over the modes of stdin and stdout have; [`deeper`] adds to it.
pub const COMMAND_DEPTH: u32 = 4;

/// What `WSSTREAM_EXPLORE_DEEPER` adds to the depths, 0 without it. Each further step takes 16 times as long.
///
/// # Panics
///
/// It is set, and no number.
#[must_use]
pub fn deeper() -> u32 {
    let wanted = std::env::var("WSSTREAM_EXPLORE_DEEPER").ok();
    wanted.map_or(0, |n| n.parse().expect("WSSTREAM_EXPLORE_DEEPER is a number of steps"))
}

/// Runs all stories of `depth` steps for one end with two channels of these modes; returns how many.
pub fn stories(role: Role, subprotocol: &Subprotocol, modes: [ChannelMode; 2], depth: u32) -> usize {
    let config = config(role, subprotocol, modes);
    let count = ALPHABET.len().pow(depth);
    for mut number in 0..count {
        let mut story = Vec::with_capacity(depth as usize);
        for _ in 0..depth {
            story.push(ALPHABET[number % ALPHABET.len()]);
            number /= ALPHABET.len();
        }
        tell(&config, &story);
    }
    count
}

/// What there is to one end, whatever the length of the stories.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Explored {
    /// States that differ.
    pub states: usize,
    /// Steps to the farthest of them.
    pub depth: usize,
}

/// Takes every step of the alphabet in every state that one end with two channels of these modes can reach, until no
/// new state comes.
///
/// A state is what the machine holds (its `Debug` form, all its fields but the statistics) together with the model's,
/// with everything sent taken off. What the machine does depends on nothing else, so a story of any length over the
/// alphabet takes only steps that were taken here.
#[must_use]
pub fn states(role: Role, subprotocol: &Subprotocol, modes: [ChannelMode; 2]) -> Explored {
    let config = config(role, subprotocol, modes);
    let mut seen = HashSet::from([tell(&config, &[]).state()]);
    // One story for each new state: the shortest.
    let mut newest = vec![Vec::new()];
    let mut depth = 0;
    loop {
        let mut next = Vec::new();
        for story in &newest {
            for step in ALPHABET {
                let longer = [story.as_slice(), &[step]].concat();
                if seen.insert(tell(&config, &longer).state()) {
                    next.push(longer);
                }
            }
        }
        if next.is_empty() {
            return Explored { states: seen.len(), depth };
        }
        newest = next;
        depth += 1;
    }
}

fn config(role: Role, subprotocol: &Subprotocol, modes: [ChannelMode; 2]) -> Config {
    Config { role, subprotocol: subprotocol.clone(), channels: modes.to_vec(), max_message: 64 }
}

/// Both roles.
#[must_use]
pub fn roles() -> [Role; 2] {
    [Role::Server, client()]
}

/// One end that the model follows.
struct Told<'a> {
    config: &'a Config,
    machine: Connection,
    model: Model,
    input: BytesMut,
    /// What this end should have sent so far.
    sent: Vec<Item>,
}

/// Tells one story; returns the end of it.
fn tell<'a>(config: &'a Config, story: &[Step]) -> Told<'a> {
    let mut told = Told {
        config,
        machine: Connection::new(config),
        model: Model::new(config),
        input: BytesMut::new(),
        sent: Vec::new(),
    };
    let mut wire = Vec::new();
    for (i, step) in story.iter().enumerate() {
        told.step(*step);
        let out = told.machine.outbox();
        wire.extend(out.copy_to_bytes(out.len()));
        assert_eq!(told.machine.sent_close(), told.model.has_closed(), "after {:?}", &story[..=i]);
    }
    let (frames, rest) = RawFrame::decode_all(&wire);
    // The reason texts of violations are for people.
    let mut items = frames::items(&frames);
    for item in &mut items {
        if let Item::Close(Some((1008, reason))) = item {
            reason.clear();
        }
    }
    assert!(rest.is_empty(), "on the wire of {story:?} with {config:?}");
    assert_eq!(items, told.sent, "on the wire of {story:?} with {config:?}");
    told
}

impl Told<'_> {
    /// All that decides what comes of further steps.
    fn state(&self) -> String {
        let machine = format!("{:?}", self.machine);
        let (machine, _statistics) = machine.split_once(", counts: ").expect("the last field");
        // What a machine that is over leaves in the buffer it will never take.
        let input = if self.model.is_over() { &[][..] } else { &self.input };
        format!("{machine} {:?} {input:?}", self.model)
    }

    fn base64(&self) -> bool {
        self.config.subprotocol.encoding() == Encoding::Base64
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Peer(message) => {
                let message = if self.base64() { base64_form(message) } else { message.to_vec() };
                self.data(&message);
            }
            Step::PeerBad => {
                let message = if self.base64() { b"0!!!".to_vec() } else { vec![255, 9] };
                self.data(&message);
            }
            Step::PeerPing => self.receive(opcode::PING, &Item::Ping(b"p".to_vec()), b"p"),
            Step::PeerClose => {
                self.receive(opcode::CLOSE, &Item::Close(Some((1000, String::new()))), &[3, 0xe8]);
            }
            Step::Send(channel) => {
                let got = self.machine.send(ChannelId(channel), Bytes::from_static(b"s"));
                let expected = self.model.send(channel);
                assert_eq!(got.map_err(model::refused), expected, "{step:?}");
                if expected.is_ok() {
                    let payload =
                        if self.base64() { base64_form(&[channel, b's']) } else { vec![channel, b's'] };
                    self.sent.push(Item::Data { text: self.base64(), payload });
                }
            }
            Step::HalfClose(channel) => {
                let got = self.machine.half_close(ChannelId(channel)).map_err(model::refused);
                let expected = self.model.half_close(channel);
                assert_eq!(got, expected.map(drop), "{step:?}");
                if expected == Ok(true) {
                    self.sent.push(Item::Data { text: false, payload: vec![255, channel] });
                }
            }
            Step::Ping => {
                self.machine.ping(b"q");
                if !self.model.has_closed() {
                    self.sent.push(Item::Ping(b"q".to_vec()));
                }
            }
            Step::Close => {
                self.machine.close(&CloseReason::code(CloseCode::NORMAL));
                if self.model.close() {
                    self.sent.push(Item::Close(Some((1000, String::new()))));
                }
            }
        }
    }

    fn data(&mut self, payload: &[u8]) {
        self.receive(opcode::BINARY, &Item::Data { text: false, payload: payload.to_vec() }, payload);
    }

    fn receive(&mut self, opcode: u8, item: &Item, payload: &[u8]) {
        let frame = RawFrame::new(true, opcode, payload);
        let masked = matches!(self.config.role, Role::Server);
        let frame = if masked { frame.masked(mask_key()) } else { frame };
        self.input.extend_from_slice(&frame.encode());
        let got = match self.machine.handle_input(&mut self.input) {
            Ok(event) => event.map(model::seen),
            Err(violation) => Some(model::violation(&violation)),
        };
        let had_closed = self.model.has_closed();
        let over = self.model.is_over();
        let expected = self.model.receive(item);
        if over {
            // After a violation the error repeats itself; after Close nothing comes.
            assert!(matches!(got, None | Some(model::Seen::Violation(_))), "{got:?}");
        } else {
            assert_eq!(got, expected, "for {item:?}");
        }
        if had_closed || over {
            return;
        }
        match (item, &expected) {
            (Item::Ping(data), _) => self.sent.push(Item::Pong(data.clone())),
            (_, Some(model::Seen::Closed(reason))) if self.model.has_closed() => {
                self.sent.push(Item::Close(reason.clone()));
            }
            (_, Some(model::Seen::Violation(code))) => {
                self.sent.push(Item::Close(Some((*code, String::new()))));
            }
            _ => {}
        }
    }
}

/// The base64 form of a raw message.
fn base64_form(message: &[u8]) -> Vec<u8> {
    use base64::Engine as _;
    let Some((channel, payload)) = message.split_first() else { return Vec::new() };
    let mut text = vec![channel.wrapping_add(b'0')];
    text.extend(base64::engine::general_purpose::STANDARD.encode(payload).into_bytes());
    text
}
