//! Lists of frames: legal ones, and legal ones with one thing wrong here and there. Arbitrary bytes alone hardly ever
//! get past the second header.

use crate::peer::{RawFrame, opcode};

use super::Choices;

/// What a list of frames says, as any conforming receiver must understand it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A whole message.
    Data {
        /// Text or binary.
        text: bool,
        /// Its bytes, of all fragments.
        payload: Vec<u8>,
    },
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The last item: code and reason, if the frame had any.
    Close(Option<(u16, String)>),
}

/// The codes that RFC 6455 section 7.4 and its registry let stand in a Close frame.
pub const CLOSE_CODES: [u16; 16] =
    [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];

/// A legal list of frames from one peer, ending with Close or not. Text is UTF-8 unless `bytes_in_text`.
pub fn legal(choices: &mut Choices<'_>, masked: bool, bytes_in_text: bool) -> Vec<RawFrame> {
    let mut frames = Vec::new();
    let mut open: Option<u8> = None;
    while !choices.is_empty() && frames.len() < 64 {
        let mut frame = match choices.below(10) {
            0 => RawFrame::new(true, opcode::PING, &small(choices)),
            1 => RawFrame::new(true, opcode::PONG, &small(choices)),
            2 if choices.once_in(4) => {
                let frame = close(choices);
                frames.push(with_mask(frame, masked, choices));
                return frames;
            }
            _ => {
                let fin = !choices.once_in(3);
                let kind = open.unwrap_or_else(|| choices.pick(&[opcode::BINARY, opcode::TEXT]));
                let code = if open.is_some() { opcode::CONTINUATION } else { kind };
                open = (!fin).then_some(kind);
                let mut payload = choices.payload();
                if kind == opcode::TEXT && !bytes_in_text {
                    // ASCII, so that a character never spans two fragments: that case has tests of its own.
                    payload.iter_mut().for_each(|byte| *byte &= 0x7f);
                }
                RawFrame::new(fin, code, &payload)
            }
        };
        frame = with_mask(frame, masked, choices);
        frames.push(frame);
    }
    frames
}

fn small(choices: &mut Choices<'_>) -> Vec<u8> {
    let len = choices.pick(&[0, 1, 4, 125]);
    let mut payload = choices.bytes(len).to_vec();
    payload.resize(len, b'.');
    payload
}

fn close(choices: &mut Choices<'_>) -> RawFrame {
    let mut payload = Vec::new();
    if !choices.once_in(4) {
        payload.extend(choices.pick(&CLOSE_CODES).to_be_bytes());
        payload.extend(choices.pick(&["", "bye", "schön", "123456789 ".repeat(12).as_str()]).as_bytes());
    }
    RawFrame::new(true, opcode::CLOSE, &payload)
}

fn with_mask(frame: RawFrame, masked: bool, choices: &mut Choices<'_>) -> RawFrame {
    let key = choices.bytes(4);
    let key = key.try_into().unwrap_or([0; 4]);
    if masked { frame.masked(key) } else { frame }
}

/// Breaks a rule or a habit in some of the frames; returns the bytes on the wire.
pub fn spoil(frames: &[RawFrame], choices: &mut Choices<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for frame in frames {
        let mut frame = frame.clone();
        match choices.below(48) {
            40 => frame.reserved = 1 + (choices.byte() & 3),
            41 => frame.opcode = choices.byte() & 15,
            42 => frame.fin = !frame.fin,
            43 => frame.mask = if frame.mask.is_some() { None } else { Some([1, 2, 3, 4]) },
            44 => {
                frame.opcode = opcode::CLOSE;
                frame.fin = true;
                frame.payload = choices.bytes(3).to_vec();
            }
            45 => frame.payload = choices.payload(),
            46 => {
                bytes.extend(long_form(&frame, choices.once_in(2)));
                continue;
            }
            47 => {
                // Not a frame at all.
                bytes.extend(choices.bytes(5));
                continue;
            }
            _ => {}
        }
        bytes.extend(frame.encode());
    }
    bytes
}

/// The frame with its length in 2 or 8 bytes although fewer would do; as it is when the length does not fit.
#[must_use]
pub fn long_form(frame: &RawFrame, eight: bool) -> Vec<u8> {
    let short = frame.encode();
    let len = frame.payload.len();
    let old = if len < 126 { 2 } else { 4 };
    if len > 0xffff || (len > 125 && !eight) {
        return short;
    }
    let mut out = vec![short[0], short[1] & 0x80 | if eight { 127 } else { 126 }];
    if eight {
        out.extend((len as u64).to_be_bytes());
    } else {
        out.extend((len as u16).to_be_bytes());
    }
    out.extend(&short[old..]);
    out
}

/// What a legal list of frames says.
#[must_use]
pub fn items(frames: &[RawFrame]) -> Vec<Item> {
    let mut items = Vec::new();
    let mut open: Option<(bool, Vec<u8>)> = None;
    for RawFrame { fin, opcode: code, payload, .. } in frames {
        match *code {
            opcode::PING => items.push(Item::Ping(payload.clone())),
            opcode::PONG => items.push(Item::Pong(payload.clone())),
            opcode::CLOSE => items.push(Item::Close(payload.split_first_chunk().map(|(code, reason)| {
                (u16::from_be_bytes(*code), String::from_utf8_lossy(reason).into_owned())
            }))),
            code => {
                let (text, mut all) = open.take().unwrap_or((code == opcode::TEXT, Vec::new()));
                all.extend(payload);
                if *fin {
                    items.push(Item::Data { text, payload: all });
                } else {
                    open = Some((text, all));
                }
            }
        }
    }
    items
}

/// The frames on the wire, one behind the other.
#[must_use]
pub fn encode(frames: &[RawFrame]) -> Vec<u8> {
    frames.iter().flat_map(RawFrame::encode).collect()
}
