//! The machine of one connection under anything a peer may send.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, BytesMut};
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::connection::{Config, Connection, Role};
use wsstream_proto::subprotocol::{Encoding, Framing, READER, REMOTECOMMAND, Subprotocol};
use wsstream_proto::ws::{MAX_CONTROL, MAX_HEADER};

use crate::peer::{RawFrame, opcode};

use super::frames::{self, Item};
use super::model::{self, Model, Seen};
use super::{Choices, mask_key};

/// All modes.
pub const MODES: [ChannelMode; 4] =
    [ChannelMode::Read, ChannelMode::Write, ChannelMode::ReadWrite, ChannelMode::Ignore];

/// A client that masks with a key that a failing test can repeat.
#[must_use]
pub fn client() -> Role {
    Role::Client { mask: mask_key }
}

/// Any role, protocol and channels.
pub fn some_config(choices: &mut Choices<'_>) -> Config {
    let role = if choices.once_in(2) { client() } else { Role::Server };
    let all: Vec<&Subprotocol> = REMOTECOMMAND.iter().chain(READER).collect();
    let subprotocol = choices.pick(&all).clone();
    let count = match subprotocol.framing() {
        Framing::Single => 1,
        Framing::Channels => choices.below(12),
    };
    let channels = (0..count).map(|_| choices.pick(&MODES)).collect();
    Config { role, subprotocol, channels, max_message: 1 << 20 }
}

/// What the machine did with some bytes.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    /// In order.
    pub seen: Vec<Seen>,
    /// What it wants to send, nothing having been taken on the way.
    pub outbox: Vec<u8>,
}

/// Feeds `parts` to a fresh machine and checks its contract on the way.
#[must_use]
pub fn run(config: &Config, parts: &[&[u8]]) -> Run {
    let mut machine = Connection::new(config);
    let mut input = BytesMut::new();
    let mut seen = Vec::new();
    let mut dropped = 0;
    for part in parts {
        input.extend_from_slice(part);
        loop {
            let result = machine.handle_input(&mut input);
            bounds(config, &mut machine);
            match result {
                Ok(Some(event)) => {
                    let event = model::seen(event);
                    assert!(!matches!(&event, Seen::Data(_, data) if data.is_empty()), "data is never empty");
                    dropped += u64::from(matches!(event, Seen::Dropped(_)));
                    model::push(&mut seen, event);
                }
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(
                        machine.handle_input(&mut input),
                        Err(violation.clone()),
                        "an error repeats itself"
                    );
                    let code = model::violation(&violation);
                    if seen.last() != Some(&code) {
                        seen.push(code);
                    }
                    break;
                }
            }
        }
        let over = matches!(seen.last(), Some(Seen::Violation(_)));
        assert!(over || input.len() < MAX_HEADER + MAX_CONTROL, "{} bytes are kept back", input.len());
        assert!(!machine.received_close() || input.is_empty(), "nothing follows the peer's Close");
    }
    let counts = machine.drop_counts();
    assert_eq!(counts.out_of_range + counts.not_read + counts.after_close + counts.base64, dropped);
    let waiting = machine.outbox();
    let outbox = waiting.copy_to_bytes(waiting.len()).to_vec();
    Run { seen, outbox }
}

fn bounds(config: &Config, machine: &mut Connection) {
    // One pong and one Close: however many pings come, and although nothing is sent.
    assert!(machine.outbox().len() <= 2 * (MAX_HEADER + MAX_CONTROL), "a flood fills the outbox");
    let collected = machine.collected_bytes() as u64;
    assert!(collected <= config.max_message);
    assert!(collected == 0 || config.subprotocol.encoding() == Encoding::Base64);
}

/// Any bytes and any broken frames, in any cut: no panic, bounded memory, and always the same events.
pub fn any_cut(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut config = some_config(&mut choices);
    config.max_message = choices.pick(&[1 << 20, 0, 1, 9, 300]);
    let mut cuts = choices.split();
    let bytes = if choices.once_in(4) {
        choices.rest().to_vec()
    } else {
        let mut faults = choices.split();
        frames::spoil(&channel_frames(&mut choices, &config), &mut faults)
    };
    let whole = run(&config, &[&bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(run(&config, &single), whole, "byte by byte");
    assert_eq!(run(&config, &cuts.cut(&bytes)), whole, "in parts");
}

/// Legal frames with any payload mean what the model says.
pub fn as_the_model_says(input: &[u8]) {
    let mut choices = Choices::new(input);
    let config = some_config(&mut choices);
    let mut cuts = choices.split();
    let frames = channel_frames(&mut choices, &config);
    let mut model = Model::new(&config);
    let mut expected = Vec::new();
    let items = frames::items(&frames);
    for seen in items.iter().filter_map(|item| model.receive(item)) {
        model::push(&mut expected, seen);
    }
    let bytes = frames::encode(&frames);
    let run = run(&config, &cuts.cut(&bytes));
    // A message is seen as its parts arrive, the model sees it at its end: the control frames between the parts are
    // compared apart.
    let (messages, control): (Vec<Seen>, Vec<Seen>) = apart(&run.seen);
    let (expected_messages, expected_control) = apart(&expected);
    assert_eq!(messages, expected_messages);
    let violated = matches!(messages.last(), Some(Seen::Violation(_)));
    // A malformed CLOSE is one before its message ends; the pings that were still to come are not seen.
    let seen = if violated { control.len().min(expected_control.len()) } else { expected_control.len() };
    assert_eq!(control, expected_control[..seen]);
    answers(&run.outbox, &config, &items, &run.seen);
}

/// Messages and the end, and control frames.
fn apart(seen: &[Seen]) -> (Vec<Seen>, Vec<Seen>) {
    let (mut messages, mut control) = (Vec::new(), Vec::new());
    for seen in seen {
        if matches!(seen, Seen::Ping | Seen::Pong) {
            control.push(seen.clone());
        } else {
            model::push(&mut messages, seen.clone());
        }
    }
    (messages, control)
}

/// The outbox holds the last pong and the Close that is due, and nothing else.
fn answers(outbox: &[u8], config: &Config, items: &[Item], seen: &[Seen]) {
    let (sent, rest) = RawFrame::decode_all(outbox);
    assert!(rest.is_empty());
    let masks = matches!(config.role, Role::Client { .. });
    assert!(sent.iter().all(|frame| frame.mask.is_some() == masks));
    let pings = seen.iter().filter(|seen| **seen == Seen::Ping).count();
    let payloads =
        items.iter().filter_map(|item| if let Item::Ping(data) = item { Some(data.clone()) } else { None });
    let mut expected: Vec<Item> = payloads.take(pings).last().map(Item::Pong).into_iter().collect();
    match seen.last() {
        Some(Seen::Violation(code)) => {
            let Some(Item::Close(Some((sent, reason)))) = frames::items(&sent).last().cloned() else {
                panic!("a violation is answered with Close, not with {sent:?}");
            };
            assert_eq!(sent, *code);
            expected.push(Item::Close(Some((sent, reason))));
        }
        Some(Seen::Closed(reason)) if matches!(config.role, Role::Client { .. }) => {
            expected.push(Item::Close(reason.as_ref().map(|(code, _)| (*code, String::new()))));
        }
        _ => {}
    }
    assert_eq!(frames::items(&sent), expected);
}

/// Frames as `config`'s peer may send them: messages for channels in and out of range, CLOSE in all its forms, base64
/// good and bad, fragments with control frames between them.
fn channel_frames(choices: &mut Choices<'_>, config: &Config) -> Vec<RawFrame> {
    let masked = matches!(config.role, Role::Server);
    let mut all = Vec::new();
    let mut count = 0;
    while !choices.is_empty() && count < 48 {
        count += 1;
        match choices.below(12) {
            0 => all.push(RawFrame::new(true, opcode::PING, choices.bytes(3))),
            1 => all.push(RawFrame::new(true, opcode::PONG, choices.bytes(3))),
            2 if choices.once_in(6) => {
                all.push(RawFrame::new(
                    true,
                    opcode::CLOSE,
                    &choices.pick(&frames::CLOSE_CODES).to_be_bytes(),
                ));
            }
            _ => fragments(choices, config, &mut all),
        }
    }
    if masked { all.into_iter().map(|frame| frame.masked(mask_key())).collect() } else { all }
}

fn fragments(choices: &mut Choices<'_>, config: &Config, all: &mut Vec<RawFrame>) {
    let message = message(choices, config);
    let mut kind = choices.pick(&[opcode::BINARY, opcode::TEXT]);
    let mut rest = &message[..];
    // An empty message is one frame as often as several.
    while choices.once_in(3) && all.len() < 256 {
        let n = choices.below(4).min(rest.len());
        all.push(RawFrame::new(false, kind, &rest[..n]));
        kind = opcode::CONTINUATION;
        rest = &rest[n..];
        if choices.once_in(4) {
            all.push(RawFrame::new(true, opcode::PING, b"between"));
        }
    }
    all.push(RawFrame::new(true, kind, rest));
}

fn message(choices: &mut Choices<'_>, config: &Config) -> Vec<u8> {
    let base64 = config.subprotocol.encoding() == Encoding::Base64;
    let mut message = Vec::new();
    if config.subprotocol.framing() == Framing::Channels {
        if choices.once_in(16) {
            return message;
        }
        let channel = match choices.below(8) {
            0 => choices.byte(),
            1 => ChannelId::CLOSE.0,
            _ => choices.below(config.channels.len() + 1) as u8,
        };
        message.push(if base64 { channel.wrapping_add(b'0') } else { channel });
        if channel == ChannelId::CLOSE.0 && !choices.once_in(6) {
            message.push(choices.below(config.channels.len() + 2) as u8);
            return message;
        }
    }
    let len = choices.below(9);
    let payload = choices.bytes(len);
    if base64 && !choices.once_in(4) {
        let mut text = STANDARD.encode(payload).into_bytes();
        if choices.once_in(3) {
            let at = choices.below(text.len() + 1);
            text.insert(at, choices.pick(b"\r\n=!A"));
        }
        message.extend(text);
    } else {
        message.extend(payload);
    }
    message
}
