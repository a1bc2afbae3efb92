//! The receiving side of a WebSocket: bytes in, pieces of messages and control frames out.

use bytes::{Buf, Bytes, BytesMut};

use super::{CloseCode, CloseReason, MAX_CONTROL, Opcode, apply_mask};

/// What [`Decoder::decode`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame {
    /// A piece of a text or binary message, unmasked. Pieces end where the input ended, not where frames do.
    Data {
        /// [`Opcode::Text`] or [`Opcode::Binary`], of the message as a whole.
        opcode: Opcode,
        /// The message begins with this piece.
        first: bool,
        /// The message ends with this piece.
        last: bool,
        /// The bytes: a view of the input, without a copy. Empty only where `first` or `last` is set.
        payload: BytesMut,
    },
    /// Wants a pong with this payload.
    Ping(Bytes),
    /// Answers a ping, or was sent unasked.
    Pong(Bytes),
    /// The peer sends nothing after this.
    Close(CloseReason),
}

/// How the peer broke RFC 6455. Each ends the connection with [`ProtocolError::close_code`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProtocolError {
    /// A reserved bit is set although no extension was negotiated (section 5.2).
    #[error("reserved bits {0:#05b} are set in a frame header")]
    ReservedBits(u8),
    /// The opcode is one of the reserved ones (section 5.2).
    #[error("reserved opcode {0:#x}")]
    ReservedOpcode(u8),
    /// A client must mask every frame (section 5.1).
    #[error("the client sent a frame without a mask")]
    Unmasked,
    /// A server must mask no frame (section 5.1).
    #[error("the server sent a masked frame")]
    Masked,
    /// Control frames are never fragmented (section 5.5).
    #[error("a control frame is fragmented")]
    FragmentedControl,
    /// Control frames carry at most 125 bytes (section 5.5).
    #[error("a control frame is longer than 125 bytes")]
    LongControl,
    /// A continuation without a message to continue (section 5.4).
    #[error("a continuation frame without a message to continue")]
    StrayContinuation,
    /// A new message inside a fragmented one (section 5.4).
    #[error("a new message begins before the fragmented one ended")]
    InterruptedMessage,
    /// The most significant bit of a 64-bit length is set (section 5.2).
    #[error("a frame length has its most significant bit set")]
    LengthOverflow,
    /// The message is longer than this side takes (section 7.4.1, code 1009).
    #[error("a message of more than {limit} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A Close payload of one byte (section 5.5.1).
    #[error("a close frame with half a code")]
    CloseLength,
    /// A Close code that may not be sent (section 7.4).
    #[error("close code {0} may not stand in a close frame")]
    CloseCode(u16),
    /// A Close reason that is not UTF-8 (section 5.5.1).
    #[error("a close reason that is not UTF-8")]
    CloseUtf8,
}

impl ProtocolError {
    /// The code of the Close frame that answers this error.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::TooLarge { .. } => CloseCode::TOO_BIG,
            Self::CloseUtf8 => CloseCode::INVALID_DATA,
            _ => CloseCode::PROTOCOL,
        }
    }
}

/// The frame whose payload is being read.
#[derive(Debug)]
struct Open {
    fin: bool,
    key: Option<[u8; 4]>,
    remaining: u64,
    phase: usize,
    first: bool,
}

/// A header that stands whole at the front of the input.
struct Header {
    size: usize,
    fin: bool,
    opcode: Opcode,
    len: u64,
    key: Option<[u8; 4]>,
}

/// Decodes the frames that one peer sends.
///
/// 1. Append what was received to a buffer.
/// 2. Call [`decode`](Self::decode) until it returns `Ok(None)`: more input is needed then.
/// 3. After an error or a [`Frame::Close`] call it no more; an error repeats itself.
///
/// It keeps no payload: its memory is constant.
#[derive(Debug)]
pub struct Decoder {
    peer_masks: bool,
    max_message: u64,
    message: Option<Opcode>,
    message_len: u64,
    open: Option<Open>,
    failed: Option<ProtocolError>,
}

impl Decoder {
    /// A decoder for what a client sends (masked) or what a server sends, with the largest message taken in bytes.
    #[must_use]
    pub fn new(peer_is_client: bool, max_message: u64) -> Self {
        Self {
            peer_masks: peer_is_client,
            max_message,
            message: None,
            message_len: 0,
            open: None,
            failed: None,
        }
    }

    /// Takes the next frame, or piece of one, from the front of `input`.
    ///
    /// `Ok(None)` means that more input is needed; at most 139 bytes then stay in `input`.
    ///
    /// # Errors
    ///
    /// How the peer broke the protocol. The connection has to end.
    pub fn decode(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        self.step(input).inspect_err(|error| self.failed = Some(error.clone()))
    }

    fn step(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, ProtocolError> {
        loop {
            if self.open.is_none() {
                let Some(header) = self.parse_header(input)? else { return Ok(None) };
                self.check(&header)?;
                if header.opcode.is_control() {
                    return control(input, &header);
                }
                input.advance(header.size);
                self.begin(&header);
            }
            match self.piece(input) {
                // An empty fragment in the middle of a message says nothing.
                Some(Frame::Data { first: false, last: false, payload, .. }) if payload.is_empty() => {}
                frame => return Ok(frame),
            }
        }
    }

    fn begin(&mut self, header: &Header) {
        let first = header.opcode != Opcode::Continuation;
        if first {
            self.message = Some(header.opcode);
            self.message_len = 0;
        }
        self.message_len += header.len;
        self.open = Some(Open { fin: header.fin, key: header.key, remaining: header.len, phase: 0, first });
    }

    /// What `input` holds of the open frame's payload.
    fn piece(&mut self, input: &mut BytesMut) -> Option<Frame> {
        let open = self.open.as_mut()?;
        let opcode = self.message?;
        let n = usize::try_from(open.remaining).unwrap_or(usize::MAX).min(input.len());
        if n == 0 && open.remaining > 0 {
            return None;
        }
        let mut payload = input.split_to(n);
        if let Some(key) = open.key {
            apply_mask(&mut payload, key, open.phase);
        }
        let first = open.first;
        let last = self.claim(n);
        Some(Frame::Data { opcode, first, last, payload })
    }

    /// `n` bytes of the open frame were taken. True: the message has ended with them.
    fn claim(&mut self, n: usize) -> bool {
        let Some(open) = self.open.as_mut() else { return false };
        open.first &= n == 0;
        open.phase = (open.phase + n) % 4;
        open.remaining -= n as u64;
        let ended = open.remaining == 0;
        let last = ended && open.fin;
        if ended {
            self.open = None;
        }
        if last {
            self.message = None;
        }
        last
    }

    /// Whether a message has begun and not ended.
    #[must_use]
    pub fn is_inside_message(&self) -> bool {
        self.message.is_some()
    }

    /// Appends to `data`, the payload that [`decode`](Self::decode) has just taken from `input`, those of the messages that
    /// follow at once: a read of many small messages is one piece then, without a second buffer. With a `prefix` only of
    /// messages that begin with this byte, which is left out.
    ///
    /// It stops before anything else (a control frame, an empty message, a fault), which `decode` then finds, and takes what
    /// `input` has of the last message, which may not be all: see [`is_inside_message`](Self::is_inside_message).
    pub fn gather(&mut self, data: &mut BytesMut, input: &mut BytesMut, prefix: Option<u8>) {
        if self.failed.is_some() || self.follows(input, prefix).is_none() {
            return;
        }
        let (mut end, mut at) = (data.len(), data.len());
        // They are neighbours: nothing is copied here.
        data.unsplit(std::mem::take(input));
        while let Some((header, skip)) = data.get(at..).and_then(|rest| self.follows(rest, prefix)) {
            let begin = at + header.size;
            let taken = usize::try_from(header.len).unwrap_or(usize::MAX).min(data.len() - begin);
            let (from, to) = (begin + skip, end + taken - skip);
            data.copy_within(from..begin + taken, end);
            if let (Some(key), Some(payload)) = (header.key, data.get_mut(end..to)) {
                apply_mask(payload, key, skip);
            }
            (at, end) = (begin + taken, to);
            self.begin(&header);
            self.claim(taken);
        }
        *input = data.split_off(at);
        data.truncate(end);
    }

    /// The next message, if it belongs to a run of messages that begin with `prefix`, and how much of it is prefix. At least
    /// one byte of what comes behind is there.
    fn follows(&self, input: &[u8], prefix: Option<u8>) -> Option<(Header, usize)> {
        if self.message.is_some() {
            return None;
        }
        let header = self.parse_header(input).ok().flatten()?;
        let payload = input.get(header.size..)?;
        let skip = usize::from(prefix.is_some());
        let [mask, ..] = header.key.unwrap_or_default();
        let belongs = matches!(header.opcode, Opcode::Text | Opcode::Binary)
            && header.len > skip as u64
            && payload.len() > skip
            && prefix.is_none_or(|prefix| payload.first().is_some_and(|first| first ^ mask == prefix))
            && self.check(&header).is_ok();
        belongs.then_some((header, skip))
    }

    fn parse_header(&self, input: &[u8]) -> Result<Option<Header>, ProtocolError> {
        let [first, second, rest @ ..] = input else { return Ok(None) };
        if first & 0x70 != 0 {
            return Err(ProtocolError::ReservedBits((first >> 4) & 0x7));
        }
        let opcode = Opcode::from_bits(*first).ok_or(ProtocolError::ReservedOpcode(first & 0x0f))?;
        let masked = second & 0x80 != 0;
        if masked != self.peer_masks {
            return Err(if masked { ProtocolError::Masked } else { ProtocolError::Unmasked });
        }
        if opcode.is_control() {
            // Two bytes tell: waiting for the rest would let the cut of the input choose the error.
            if first & 0x80 == 0 {
                return Err(ProtocolError::FragmentedControl);
            }
            if usize::from(second & 0x7f) > MAX_CONTROL {
                return Err(ProtocolError::LongControl);
            }
        }
        let (len, rest, extended) = match (second & 0x7f, rest) {
            (126, [a, b, rest @ ..]) => (u64::from(u16::from_be_bytes([*a, *b])), rest, 2),
            (127, [a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), rest, 8)
            }
            (126 | 127, _) => return Ok(None),
            (len, rest) => (u64::from(len), rest, 0),
        };
        let key = match (masked, rest) {
            (false, _) => None,
            (true, [a, b, c, d, ..]) => Some([*a, *b, *c, *d]),
            (true, _) => return Ok(None),
        };
        let size = 2 + extended + if masked { 4 } else { 0 };
        Ok(Some(Header { size, fin: first & 0x80 != 0, opcode, len, key }))
    }

    fn check(&self, header: &Header) -> Result<(), ProtocolError> {
        if header.opcode.is_control() {
            return Ok(());
        }
        if header.len >> 63 != 0 {
            return Err(ProtocolError::LengthOverflow);
        }
        let before = match (header.opcode, self.message) {
            (Opcode::Continuation, None) => return Err(ProtocolError::StrayContinuation),
            (Opcode::Continuation, Some(_)) => self.message_len,
            (_, Some(_)) => return Err(ProtocolError::InterruptedMessage),
            (_, None) => 0,
        };
        // The header's word is enough to refuse, and never enough to reserve memory.
        if before.saturating_add(header.len) > self.max_message {
            return Err(ProtocolError::TooLarge { limit: self.max_message });
        }
        Ok(())
    }
}

/// A control frame is taken whole: it has at most 125 bytes.
fn control(input: &mut BytesMut, header: &Header) -> Result<Option<Frame>, ProtocolError> {
    let len = usize::try_from(header.len).unwrap_or(MAX_CONTROL).min(MAX_CONTROL);
    if input.len() < header.size + len {
        return Ok(None);
    }
    input.advance(header.size);
    let mut payload = input.split_to(len);
    if let Some(key) = header.key {
        apply_mask(&mut payload, key, 0);
    }
    Ok(Some(match header.opcode {
        Opcode::Close => Frame::Close(CloseReason::decode(&payload)?),
        // Copied out: a view would pin the whole read buffer for a few bytes.
        Opcode::Ping => Frame::Ping(Bytes::copy_from_slice(&payload)),
        _ => Frame::Pong(Bytes::copy_from_slice(&payload)),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, ProtocolError> {
        let mut input = BytesMut::from(bytes);
        let mut frames = Vec::new();
        while let Some(frame) = decoder.decode(&mut input)? {
            frames.push(frame);
        }
        Ok(frames)
    }

    fn data(opcode: Opcode, first: bool, last: bool, payload: &[u8]) -> Frame {
        Frame::Data { opcode, first, last, payload: BytesMut::from(payload) }
    }

    #[test]
    fn rfc_6455_section_5_7_examples() {
        let mut server = Decoder::new(true, 1 << 20);
        let masked_hello = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        assert_eq!(all(&mut server, &masked_hello), Ok(vec![data(Opcode::Text, true, true, b"Hello")]));
        let mut client = Decoder::new(false, 1 << 20);
        let fragmented = [0x01, 0x03, 0x48, 0x65, 0x6c, 0x80, 0x02, 0x6c, 0x6f];
        assert_eq!(
            all(&mut client, &fragmented),
            Ok(vec![data(Opcode::Text, true, false, b"Hel"), data(Opcode::Text, false, true, b"lo")])
        );
        assert_eq!(
            all(&mut client, &[0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]),
            Ok(vec![Frame::Ping(Bytes::from_static(b"Hello"))])
        );
    }

    #[test]
    fn each_broken_rule_has_its_own_error() {
        use ProtocolError::*;
        let rows: [(&[u8], ProtocolError); 14] = [
            (&[0xc2, 0x80], ReservedBits(4)),
            (&[0x92, 0x80], ReservedBits(1)),
            (&[0x83, 0x80], ReservedOpcode(3)),
            (&[0x8b, 0x80], ReservedOpcode(11)),
            (&[0x82, 0x01, 0x00], Unmasked),
            (&[0x09, 0x80, 0, 0, 0, 0], FragmentedControl),
            (&[0x89, 0xfe], LongControl),
            (&[0x80, 0x80, 0, 0, 0, 0], StrayContinuation),
            (&[0x02, 0x80, 0, 0, 0, 0, 0x82, 0x80, 0, 0, 0, 0], InterruptedMessage),
            (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], LengthOverflow),
            (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 4, 1, 0, 0, 0, 0], TooLarge { limit: 1024 }),
            (&[0x88, 0x81, 0, 0, 0, 0, 3], CloseLength),
            (&[0x88, 0x82, 0, 0, 0, 0, 3, 0xee], CloseCode(1006)),
            (&[0x88, 0x83, 0, 0, 0, 0, 3, 0xe8, 0x80], CloseUtf8),
        ];
        for (bytes, expect) in rows {
            let mut decoder = Decoder::new(true, 1024);
            assert_eq!(all(&mut decoder, bytes), Err(expect.clone()), "{bytes:02x?}");
            assert_eq!(all(&mut decoder, &[]), Err(expect), "an error repeats itself");
        }
        assert_eq!(all(&mut Decoder::new(false, 1024), &[0x82, 0x80]), Err(Masked));
    }

    #[test]
    fn the_limit_holds_for_the_sum_of_the_fragments() {
        let mut decoder = Decoder::new(false, 4);
        assert!(all(&mut decoder, &[0x02, 3, 1, 2, 3]).is_ok());
        assert_eq!(all(&mut decoder, &[0x80, 2, 4, 5]), Err(ProtocolError::TooLarge { limit: 4 }));
    }

    fn pattern(at: usize) -> u8 {
        u8::try_from(at % 251).unwrap()
    }

    #[test]
    fn a_large_message_is_handed_on_as_it_arrives() {
        // Miri would take minutes over a mebibyte.
        let len: usize = if cfg!(miri) { 1 << 16 } else { 1 << 20 };
        let mut decoder = Decoder::new(true, 16 << 20);
        let mut input = BytesMut::new();
        let key = [9, 8, 7, 6];
        input.extend_from_slice(&[0x82, 0xff]);
        input.extend_from_slice(&(len as u64).to_be_bytes());
        input.extend_from_slice(&key);
        assert_eq!(decoder.decode(&mut input), Ok(None));
        let mut seen = 0usize;
        while seen < len {
            let n = 1000.min(len - seen);
            let mut part: Vec<u8> = (seen..seen + n).map(pattern).collect();
            apply_mask(&mut part, key, seen);
            input.extend_from_slice(&part);
            let Ok(Some(Frame::Data { first, last, payload, .. })) = decoder.decode(&mut input) else {
                panic!("no piece at {seen}");
            };
            assert_eq!((first, last), (seen == 0, seen + n == len));
            assert!(payload.iter().enumerate().all(|(i, b)| *b == pattern(seen + i)));
            seen += n;
        }
        assert!(input.is_empty());
    }
}
