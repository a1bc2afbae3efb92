//! The receiving side: bytes in, control frames and pieces of the others out.
//!
//! Nothing is kept and nothing is allocated: an announced length is a number, and payloads and header blocks are
//! handed on as they arrive. At most 17 bytes wait in the input for the rest of a head.

use bytes::{Buf, BytesMut};

use super::frame::{FLAG_FIN, HEAD_LEN, Head, Kind, VERSION};
use super::{GoAwayStatus, Limits, ResetStatus, StreamId, Violation};

/// What [`Decoder::decode`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// A piece of the payload of DATA: a view of the input. Empty only where it is the last.
    Data {
        /// The stream.
        id: StreamId,
        /// The bytes.
        bytes: BytesMut,
        /// The frame ends with this piece.
        last: bool,
        /// The frame carries FIN.
        fin: bool,
        /// The frame has no payload at all.
        empty: bool,
    },
    /// SYN_STREAM; its [`Part::Block`]s follow. The associated stream, the priority and the slot are skipped.
    SynStream {
        /// The stream.
        id: StreamId,
        /// The frame carries FIN.
        fin: bool,
    },
    /// SYN_REPLY; its [`Part::Block`]s follow.
    SynReply {
        /// The stream.
        id: StreamId,
        /// The frame carries FIN.
        fin: bool,
    },
    /// HEADERS; its [`Part::Block`]s follow.
    Headers {
        /// The stream.
        id: StreamId,
        /// The frame carries FIN.
        fin: bool,
    },
    /// A piece of a header block, compressed. Empty only where the block is empty.
    Block {
        /// The bytes.
        bytes: BytesMut,
        /// The block ends with this piece.
        last: bool,
    },
    /// RST_STREAM. Go takes status 0 for a fatal error; here it ends the stream like any other.
    RstStream {
        /// The stream.
        id: StreamId,
        /// The reason.
        status: ResetStatus,
    },
    /// PING; never 0.
    Ping(u32),
    /// GOAWAY.
    GoAway {
        /// The highest stream that the peer has seen.
        last: u32,
        /// The reason.
        status: GoAwayStatus,
    },
    /// A frame that nobody needs; its payload is skipped.
    Unused(Kind),
}

/// What is left of the frame that has begun.
#[derive(Debug, Clone, Copy)]
enum Open {
    Data { id: StreamId, fin: bool, left: usize },
    Block { left: usize },
    Skip { left: usize },
}

/// Decodes the frames that one peer sends.
#[derive(Debug, Default)]
pub struct Decoder {
    open: Option<Open>,
    /// The first head has come.
    begun: bool,
    /// A part of a head waits in the input.
    partial: bool,
}

impl Decoder {
    /// Takes the next frame, or piece of one, from the front of `input`; `Ok(None)` when more input is needed.
    ///
    /// # Errors
    ///
    /// How the peer broke the framing. Where the next frame begins is not known from then on.
    pub fn decode(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Option<Part>, Violation> {
        loop {
            let Some(open) = self.open else {
                self.partial = !input.is_empty();
                match self.head(input, limits)? {
                    Some(part) => return Ok(Some(part)),
                    // A frame of which only its payload is of interest has begun.
                    None if self.open.is_some() => continue,
                    None => return Ok(None),
                }
            };
            if input.is_empty() {
                return Ok(None);
            }
            let take = |input: &mut BytesMut, left: usize| {
                let bytes = input.split_to(left.min(input.len()));
                let left = left - bytes.len();
                (bytes, left)
            };
            match open {
                Open::Data { id, fin, left } => {
                    let (bytes, left) = take(input, left);
                    self.open = (left > 0).then_some(Open::Data { id, fin, left });
                    return Ok(Some(Part::Data { id, bytes, last: left == 0, fin, empty: false }));
                }
                Open::Block { left } => {
                    let (bytes, left) = take(input, left);
                    self.open = (left > 0).then_some(Open::Block { left });
                    return Ok(Some(Part::Block { bytes, last: left == 0 }));
                }
                Open::Skip { left } => {
                    let (_, left) = take(input, left);
                    self.open = (left > 0).then_some(Open::Skip { left });
                }
            }
        }
    }

    /// The head of a frame, with the fixed part of a control frame.
    fn head(&mut self, input: &mut BytesMut, limits: &Limits) -> Result<Option<Part>, Violation> {
        let Some(head) = input.first_chunk::<HEAD_LEN>() else { return Ok(None) };
        self.begun = true;
        match Head::parse(*head) {
            Head::Data { stream, flags, len } => {
                let id = stream_id("DATA", stream)?;
                let fin = flags & FLAG_FIN != 0;
                self.partial = false;
                input.advance(HEAD_LEN);
                if len == 0 {
                    let bytes = BytesMut::new();
                    return Ok(Some(Part::Data { id, bytes, last: true, fin, empty: true }));
                }
                self.open = Some(Open::Data { id, fin, left: size(len) });
                Ok(None)
            }
            Head::Control { version, .. } if version != VERSION => Err(Violation::Version(version)),
            Head::Control { kind, flags, len, .. } => self.control(input, kind, flags, len, limits),
        }
    }

    fn control(
        &mut self,
        input: &mut BytesMut,
        kind: Kind,
        flags: u8,
        len: u32,
        limits: &Limits,
    ) -> Result<Option<Part>, Violation> {
        let wrong = Violation::Length { kind: kind.name(), len };
        // How long the part before a header block is, or how long the frame must be.
        let fixed: u32 = match kind {
            Kind::SynStream => 10,
            Kind::SynReply | Kind::Headers | Kind::Ping | Kind::Settings => 4,
            Kind::RstStream | Kind::GoAway | Kind::WindowUpdate => 8,
            Kind::Noop | Kind::Unknown(_) => 0,
        };
        match kind {
            _ if len < fixed => return Err(wrong),
            // A block of no bytes is none: even the empty list has a count.
            Kind::SynStream | Kind::SynReply | Kind::Headers if len == fixed => return Err(wrong),
            Kind::RstStream | Kind::GoAway | Kind::WindowUpdate | Kind::Ping if len != fixed => {
                return Err(wrong);
            }
            Kind::SynStream | Kind::SynReply | Kind::Headers if len > limits.max_control_frame => {
                let (kind, limit) = (kind.name(), limits.max_control_frame);
                return Err(Violation::ControlTooLong { kind, len, limit });
            }
            _ => {}
        }
        if input.len() < HEAD_LEN + size(fixed) {
            return Ok(None);
        }
        self.partial = false;
        input.advance(HEAD_LEN);
        let mut fields = input.split_to(size(fixed));
        let fin = flags & FLAG_FIN != 0;
        let word = |fields: &mut BytesMut| fields.try_get_u32().unwrap_or_default();
        let rest = size(len - fixed);
        let part = match kind {
            Kind::SynStream | Kind::SynReply | Kind::Headers => {
                let id = stream_id(kind.name(), word(&mut fields))?;
                self.open = Some(Open::Block { left: rest });
                match kind {
                    Kind::SynStream => Part::SynStream { id, fin },
                    Kind::SynReply => Part::SynReply { id, fin },
                    _ => Part::Headers { id, fin },
                }
            }
            Kind::RstStream => Part::RstStream {
                id: stream_id(kind.name(), word(&mut fields))?,
                status: ResetStatus(word(&mut fields)),
            },
            Kind::Ping => match word(&mut fields) {
                0 => return Err(Violation::PingZero),
                id => Part::Ping(id),
            },
            Kind::GoAway => Part::GoAway { last: word(&mut fields), status: GoAwayStatus(word(&mut fields)) },
            Kind::Settings => {
                let count = word(&mut fields);
                if count > limits.max_settings || u64::from(len) != 4 + 8 * u64::from(count) {
                    return Err(Violation::Settings { count, len });
                }
                self.skip(rest);
                Part::Unused(kind)
            }
            Kind::WindowUpdate => Part::Unused(kind),
            Kind::Noop | Kind::Unknown(_) => {
                self.skip(rest);
                Part::Unused(kind)
            }
        };
        Ok(Some(part))
    }

    fn skip(&mut self, left: usize) {
        self.open = (left > 0).then_some(Open::Skip { left });
    }

    /// Whether a frame has begun of which something is missing.
    #[must_use]
    pub fn inside_frame(&self) -> bool {
        self.open.is_some() || self.partial
    }

    /// Whether the head of a first frame has come.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }
}

fn stream_id(kind: &'static str, number: u32) -> Result<StreamId, Violation> {
    StreamId::new(number).ok_or(Violation::StreamNumber { kind, number })
}

fn size(len: u32) -> usize {
    usize::try_from(len).unwrap_or(usize::MAX)
}
