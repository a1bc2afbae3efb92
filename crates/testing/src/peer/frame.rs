//! WebSocket frames once more, written from RFC 6455 and shared with nothing: a second opinion on `wsstream-proto`.
//!
//! It is lenient on purpose: it shows what came, legal or not, and a test says what it should have been.

/// Opcodes as numbers: a scripted peer must be able to say illegal ones.
pub mod opcode {
    /// More of a fragmented message.
    pub const CONTINUATION: u8 = 0;
    /// A text message begins.
    pub const TEXT: u8 = 1;
    /// A binary message begins.
    pub const BINARY: u8 = 2;
    /// The sender sends nothing after this.
    pub const CLOSE: u8 = 8;
    /// Asks for a pong.
    pub const PING: u8 = 9;
    /// Answers a ping.
    pub const PONG: u8 = 10;
}

/// One frame as it stands on the wire, unmasked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawFrame {
    /// The message ends here.
    pub fin: bool,
    /// The three reserved bits, 0 to 7.
    pub reserved: u8,
    /// The four opcode bits, 0 to 15.
    pub opcode: u8,
    /// The mask key, if the frame was masked.
    pub mask: Option<[u8; 4]>,
    /// The payload, unmasked.
    pub payload: Vec<u8>,
}

impl RawFrame {
    /// An unmasked frame without reserved bits.
    #[must_use]
    pub fn new(fin: bool, opcode: u8, payload: &[u8]) -> Self {
        Self { fin, reserved: 0, opcode, mask: None, payload: payload.to_vec() }
    }

    /// The same with a mask.
    #[must_use]
    pub fn masked(mut self, key: [u8; 4]) -> Self {
        self.mask = Some(key);
        self
    }

    /// The bytes on the wire, with the length in its shortest form.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let len = self.payload.len();
        let mut out = vec![u8::from(self.fin) << 7 | (self.reserved & 7) << 4 | (self.opcode & 15)];
        let masked = u8::from(self.mask.is_some()) << 7;
        if len < 126 {
            out.push(masked | u8::try_from(len).unwrap());
        } else if let Ok(len) = u16::try_from(len) {
            out.push(masked | 126);
            out.extend(len.to_be_bytes());
        } else {
            out.push(masked | 127);
            out.extend((len as u64).to_be_bytes());
        }
        out.extend(self.mask.into_iter().flatten());
        let key = self.mask.unwrap_or_default();
        out.extend(self.payload.iter().enumerate().map(|(i, byte)| byte ^ key[i % 4]));
        out
    }

    /// Takes one whole frame from the front of `input`; `None` when it is not all there.
    pub fn decode(input: &mut Vec<u8>) -> Option<Self> {
        let (frame, size) = Self::parse(input)?;
        input.drain(..size);
        Some(frame)
    }

    /// All whole frames of `input`, and what is left behind them.
    #[must_use]
    pub fn decode_all(mut input: &[u8]) -> (Vec<Self>, &[u8]) {
        let mut frames = Vec::new();
        while let Some((frame, size)) = Self::parse(input) {
            frames.push(frame);
            input = &input[size..];
        }
        (frames, input)
    }

    /// The frame at the front of `input` and its size on the wire; `None` when it is not all there.
    #[must_use]
    pub fn parse(input: &[u8]) -> Option<(Self, usize)> {
        let (first, second) = (*input.first()?, *input.get(1)?);
        let (len, mut at) = match second & 127 {
            126 => (u64::from(u16::from_be_bytes(input.get(2..4)?.try_into().unwrap())), 4),
            127 => (u64::from_be_bytes(input.get(2..10)?.try_into().unwrap()), 10),
            len => (u64::from(len), 2),
        };
        let mask: Option<[u8; 4]> = if second & 128 == 0 {
            None
        } else {
            at += 4;
            Some(input.get(at - 4..at)?.try_into().unwrap())
        };
        let end = at.checked_add(usize::try_from(len).ok()?)?;
        let mut payload = input.get(at..end)?.to_vec();
        if let Some(key) = mask {
            payload.iter_mut().zip(key.iter().cycle()).for_each(|(byte, key)| *byte ^= key);
        }
        let (fin, reserved, opcode) = (first & 128 != 0, first >> 4 & 7, first & 15);
        Some((Self { fin, reserved, opcode, mask, payload }, end))
    }
}
