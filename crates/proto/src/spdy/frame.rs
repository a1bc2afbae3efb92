//! The heads of frames (draft section 2.2), and the encoding of every frame that is sent.
//!
//! ```text
//! control: 1|version:15 (=3)  type:16  flags:8  length:24   payload
//! data:    0|stream id:31              flags:8  length:24   payload
//! ```
//!
//! SETTINGS, NOOP, HEADERS and WINDOW_UPDATE are never sent: Go ignores the first and the last, dies of NOOP, and a
//! HEADERS frame blocks the worker that it lands on.

use super::{GoAwayStatus, ResetStatus, StreamId};

/// The length of a frame's head in bytes.
pub const HEAD_LEN: usize = 8;

/// The highest length that a head can announce: 24 bits.
pub const MAX_LEN: u32 = (1 << 24) - 1;

/// The version that stands in every control frame: SPDY/3.1 is version 3 on the wire.
pub const VERSION: u16 = 3;

/// The flag of DATA, SYN_STREAM, SYN_REPLY and HEADERS: the sender sends nothing more on the stream.
///
/// UNIDIRECTIONAL (2) is not looked at, as in Go: it would forbid the reply that Go waits for.
pub const FLAG_FIN: u8 = 1;

/// The type of a control frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Opens a stream.
    SynStream,
    /// Takes a stream.
    SynReply,
    /// Ends a stream at once.
    RstStream,
    /// Settings of flow control, ignored by everybody.
    Settings,
    /// Nothing; removed from SPDY/3 and fatal to Go.
    Noop,
    /// Wants its echo, or is one.
    Ping,
    /// The sender goes.
    GoAway,
    /// More headers, used by nobody.
    Headers,
    /// Flow control, ignored by everybody.
    WindowUpdate,
    /// CREDENTIAL (10) and whatever else.
    Unknown(u16),
}

impl Kind {
    /// The type of this number.
    #[must_use]
    pub const fn new(number: u16) -> Self {
        match number {
            1 => Self::SynStream,
            2 => Self::SynReply,
            3 => Self::RstStream,
            4 => Self::Settings,
            5 => Self::Noop,
            6 => Self::Ping,
            7 => Self::GoAway,
            8 => Self::Headers,
            9 => Self::WindowUpdate,
            other => Self::Unknown(other),
        }
    }

    /// The number on the wire.
    #[must_use]
    pub const fn number(self) -> u16 {
        match self {
            Self::SynStream => 1,
            Self::SynReply => 2,
            Self::RstStream => 3,
            Self::Settings => 4,
            Self::Noop => 5,
            Self::Ping => 6,
            Self::GoAway => 7,
            Self::Headers => 8,
            Self::WindowUpdate => 9,
            Self::Unknown(number) => number,
        }
    }

    /// The name in the draft.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynStream => "SYN_STREAM",
            Self::SynReply => "SYN_REPLY",
            Self::RstStream => "RST_STREAM",
            Self::Settings => "SETTINGS",
            Self::Noop => "NOOP",
            Self::Ping => "PING",
            Self::GoAway => "GOAWAY",
            Self::Headers => "HEADERS",
            Self::WindowUpdate => "WINDOW_UPDATE",
            Self::Unknown(_) => "control",
        }
    }
}

/// The first eight bytes of a frame, read but not judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    /// DATA.
    Data {
        /// The stream, 31 bits; 0 is none.
        stream: u32,
        /// The flags.
        flags: u8,
        /// The length of the payload in bytes.
        len: u32,
    },
    /// A control frame.
    Control {
        /// The SPDY version, 15 bits.
        version: u16,
        /// The type.
        kind: Kind,
        /// The flags.
        flags: u8,
        /// The length of the payload in bytes.
        len: u32,
    },
}

impl Head {
    /// Reads a head.
    #[must_use]
    pub const fn parse(bytes: [u8; HEAD_LEN]) -> Self {
        let [a, b, c, d, flags, x, y, z] = bytes;
        let len = u32::from_be_bytes([0, x, y, z]);
        if a & 0x80 == 0 {
            Self::Data { stream: u32::from_be_bytes([a, b, c, d]), flags, len }
        } else {
            let version = u16::from_be_bytes([a & 0x7f, b]);
            Self::Control { version, kind: Kind::new(u16::from_be_bytes([c, d])), flags, len }
        }
    }
}

/// The part of an outgoing frame that is not payload: all of it but the data or the header block.
#[derive(Debug, Clone, Copy)]
pub struct Encoded {
    bytes: [u8; Self::MAX],
    len: usize,
}

impl Encoded {
    /// SYN_STREAM has the longest.
    const MAX: usize = HEAD_LEN + 10;

    fn new(first: u32, flags: u8, len: u32) -> Self {
        let mut encoded = Self { bytes: [0; Self::MAX], len: 0 };
        encoded.put(first);
        encoded.put(u32::from(flags) << 24 | len.min(MAX_LEN));
        encoded
    }

    fn control(kind: Kind, flags: u8, len: u32) -> Self {
        Self::new(1 << 31 | u32::from(VERSION) << 16 | u32::from(kind.number()), flags, len)
    }

    fn put(&mut self, word: u32) {
        if let Some(place) = self.bytes.get_mut(self.len..self.len + 4) {
            place.copy_from_slice(&word.to_be_bytes());
            self.len += 4;
        }
    }

    fn with(mut self, word: u32) -> Self {
        self.put(word);
        self
    }

    /// The bytes.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// DATA with `len` bytes of payload, at most [`MAX_LEN`].
#[must_use]
pub fn data(id: StreamId, len: u32, fin: bool) -> Encoded {
    Encoded::new(id.get(), flag(fin), len)
}

/// SYN_STREAM with a header block of `block` bytes; no associated stream, priority 0 and slot 0, as Go sends it.
#[must_use]
pub fn syn_stream(id: StreamId, block: u32, fin: bool) -> Encoded {
    let mut encoded =
        Encoded::control(Kind::SynStream, flag(fin), block.saturating_add(10)).with(id.get()).with(0);
    // Priority and slot are two more zero bytes.
    encoded.len += 2;
    encoded
}

/// SYN_REPLY with a header block of `block` bytes.
#[must_use]
pub fn syn_reply(id: StreamId, block: u32, fin: bool) -> Encoded {
    Encoded::control(Kind::SynReply, flag(fin), block.saturating_add(4)).with(id.get())
}

/// RST_STREAM.
#[must_use]
pub fn rst_stream(id: StreamId, status: ResetStatus) -> Encoded {
    Encoded::control(Kind::RstStream, 0, 8).with(id.get()).with(status.0)
}

/// PING, a question or an answer.
#[must_use]
pub fn ping(id: u32) -> Encoded {
    Encoded::control(Kind::Ping, 0, 4).with(id)
}

/// GOAWAY; `last` is the highest stream of the peer's that was seen, 0 for none.
#[must_use]
pub fn go_away(last: u32, status: GoAwayStatus) -> Encoded {
    Encoded::control(Kind::GoAway, 0, 8).with(last).with(status.0)
}

const fn flag(fin: bool) -> u8 {
    if fin { FLAG_FIN } else { 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hex(encoded: Encoded) -> String {
        encoded.as_slice().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The bytes of Go's frames in the captures, and of the draft where Go sends none.
    #[test]
    fn every_frame_byte_for_byte() {
        let id = |number| StreamId::new(number).unwrap();
        assert_eq!(hex(data(id(3), 16, false)), "0000000300000010");
        assert_eq!(hex(data(id(3), 0, true)), "0000000301000000");
        assert_eq!(hex(data(StreamId::MAX, MAX_LEN, false)), "7fffffff00ffffff");
        assert_eq!(hex(syn_stream(id(1), 54, false)), "800300010000004000000001000000000000");
        assert_eq!(hex(syn_stream(id(5), 11, true)), "800300010100001500000005000000000000");
        assert_eq!(hex(syn_reply(id(1), 16, false)), "800300020000001400000001");
        assert_eq!(hex(syn_reply(id(7), 10, true)), "800300020100000e00000007");
        assert_eq!(hex(rst_stream(id(1), ResetStatus::CANCEL)), "80030003000000080000000100000005");
        assert_eq!(hex(ping(1)), "800300060000000400000001");
        assert_eq!(hex(go_away(7, GoAwayStatus::OK)), "80030007000000080000000700000000");
        assert_eq!(hex(go_away(0, GoAwayStatus::PROTOCOL_ERROR)), "80030007000000080000000000000001");
    }

    #[test]
    fn heads_are_read_back() {
        let head = |hex: [u8; 8]| Head::parse(hex);
        assert_eq!(
            head([0x80, 3, 0, 1, 1, 0, 0, 0x40]),
            Head::Control { version: 3, kind: Kind::SynStream, flags: 1, len: 64 }
        );
        assert_eq!(
            head([0x7f, 0xff, 0xff, 0xff, 2, 0xff, 0xff, 0xff]),
            Head::Data { stream: 0x7fff_ffff, flags: 2, len: MAX_LEN }
        );
        assert_eq!(
            head([0xff, 0xff, 0, 10, 0, 0, 0, 0]),
            Head::Control { version: 0x7fff, kind: Kind::Unknown(10), flags: 0, len: 0 }
        );
    }

    #[test]
    fn kinds_keep_their_numbers() {
        for number in 0..=u16::from(u8::MAX) {
            assert_eq!(Kind::new(number).number(), number);
        }
    }
}
