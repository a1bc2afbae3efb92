//! What is odd about some bytes as frames: the reasons for which two engines may disagree about them.

use crate::peer::{RawFrame, opcode};

/// What is odd about the first frames of some bytes.
#[derive(Debug, Default)]
pub(super) struct Faults {
    /// A text message holds bytes that are not UTF-8.
    pub(super) text: bool,
    /// A length stands in more bytes than it needs.
    pub(super) long_length: bool,
    /// A Close code that tungstenite replaces.
    pub(super) close_code: bool,
    /// The bytes end inside a header.
    pub(super) half_header: bool,
}

impl Faults {
    /// Looks at the frames that make up the first `items` items, and at the one that is not whole behind them.
    pub(super) fn of(bytes: &[u8], items: usize) -> Self {
        let mut faults = Self::default();
        let mut rest = bytes.to_vec();
        let mut seen = 0;
        let mut open: Option<(bool, Vec<u8>)> = None;
        while seen < items {
            let before = rest.clone();
            faults.long_length |= is_long(&before);
            let (frame, whole) = match RawFrame::decode(&mut rest) {
                Some(frame) => (frame, true),
                None => match partial(&before) {
                    Some(frame) => (frame, false),
                    None => {
                        faults.half_header = true;
                        break;
                    }
                },
            };
            match frame.opcode {
                opcode::CLOSE => {
                    let code = frame.payload.first_chunk().map(|code| u16::from_be_bytes(*code));
                    faults.close_code |=
                        code.is_some_and(|code| !matches!(code, 1000..=1003 | 1007..=1013 | 3000..=4999));
                }
                opcode::CONTINUATION | opcode::TEXT | opcode::BINARY => {
                    let (text, all) = open.get_or_insert((frame.opcode == opcode::TEXT, Vec::new()));
                    all.extend(&frame.payload);
                    faults.text |= *text && std::str::from_utf8(all).is_err();
                }
                _ => {}
            }
            let ends = frame.opcode >= opcode::CLOSE || frame.fin;
            seen += usize::from(ends);
            if frame.opcode < opcode::CLOSE && frame.fin {
                open = None;
            }
            if !whole {
                break;
            }
        }
        faults
    }
}

/// Whether the frame at the front has its length in more bytes than it needs.
fn is_long(bytes: &[u8]) -> bool {
    match bytes {
        [_, second, a, b, ..] if second & 127 == 126 => u16::from_be_bytes([*a, *b]) < 126,
        [_, second, len @ ..] if second & 127 == 127 => {
            len.first_chunk().is_some_and(|len| u64::from_be_bytes(*len) <= 0xffff)
        }
        _ => false,
    }
}

/// The frame at the front as far as it is there; `None` when not even its header is.
fn partial(bytes: &[u8]) -> Option<RawFrame> {
    let second = *bytes.get(1)?;
    let header = 2 + match second & 127 {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    let key_at = header;
    let header = header + if second & 128 == 0 { 0 } else { 4 };
    let payload = bytes.get(header..)?;
    let mut whole = RawFrame::new(bytes[0] & 128 != 0, bytes[0] & 15, payload);
    if header > key_at {
        let key = &bytes[key_at..header];
        whole.payload.iter_mut().enumerate().for_each(|(i, byte)| *byte ^= key[i % 4]);
    }
    Some(whole)
}
