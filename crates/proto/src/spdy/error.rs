//! How the rules can be broken, and the smallest thing that ends because of it.
//!
//! - [`Dropped`]: something of the peer's was refused or ignored, and at most one stream ended.
//! - [`Violation`]: the peer cannot be followed any more, and the session ends with GOAWAY.
//! - [`SendError`]: this side asked for something that cannot be done, and nothing happened.

use super::headers::HeadersError;
use super::inflate::InflateError;
use super::{GoAwayStatus, ResetStatus, StreamId};

/// What the peer sent and what was not followed; the session goes on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Dropped {
    /// More streams than [`Limits::max_streams`](super::Limits::max_streams); refused with REFUSED_STREAM.
    #[error("stream {0} was refused: too many are open")]
    TooManyStreams(StreamId),
    /// A stream whose number belongs to this side's own; answered with PROTOCOL_ERROR.
    #[error("stream {0} was refused: the number is not the peer's to give")]
    WrongParity(StreamId),
    /// A stream whose number is not above all before it; answered with PROTOCOL_ERROR, which also ends the stream
    /// that had the number, if it is still open ([`Event::Reset`](super::Event::Reset) follows).
    #[error("stream {0} was refused: its number is not above the last one, {1}")]
    NotRising(StreamId, StreamId),
    /// A stream that came after this side's GOAWAY. There is nothing more to answer with.
    #[error("stream {0} was ignored: this side has said goodbye")]
    AfterGoAway(StreamId),
    /// A SYN_REPLY for a stream that is not waiting for one.
    #[error("a SYN_REPLY for stream {0}, which is not waiting for one")]
    StrayReply(StreamId),
    /// A frame of a kind that Kubernetes does not use; it was read over.
    #[error("a {0} frame was read over")]
    Unused(&'static str),
    /// A control frame of a type that SPDY does not define; it was read over.
    #[error("a control frame of unknown type {0} was read over")]
    UnknownType(u16),
}

/// What a peer did too often within [`RATE_WINDOW`](super::limits::RATE_WINDOW).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Flood {
    /// PING frames.
    #[error("PING frames")]
    Pings,
    /// Streams that were opened and reset before they were served.
    #[error("streams that were opened only to be reset")]
    Resets,
    /// Frames that mean nothing.
    #[error("frames that mean nothing")]
    Useless,
}

/// How the peer broke the rules so that the session has to end: always the peer's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// A control frame of another version than 3. Most likely this is not SPDY.
    #[error("a control frame of SPDY version {0}, and only 3 is spoken here")]
    Version(u16),
    /// A frame whose length cannot be that of its type.
    #[error("a {kind} frame of {len} bytes")]
    Length {
        /// The frame's name.
        kind: &'static str,
        /// The announced length in bytes.
        len: u32,
    },
    /// A frame with a header block that is longer than [`Limits::max_control_frame`](super::Limits).
    #[error("a {kind} frame of {len} bytes, and {limit} are the limit")]
    ControlTooLong {
        /// The frame's name.
        kind: &'static str,
        /// The announced length in bytes.
        len: u32,
        /// The limit in bytes.
        limit: u32,
    },
    /// A SETTINGS frame whose count does not match its length, or is above the limit.
    #[error("a SETTINGS frame with a count of {count} in {len} bytes")]
    Settings {
        /// The announced count.
        count: u32,
        /// The announced length in bytes.
        len: u32,
    },
    /// Stream 0, or a number above 2^31 - 1, where a stream is named.
    #[error("a {kind} frame for stream {number}, which cannot exist")]
    StreamNumber {
        /// The frame's name.
        kind: &'static str,
        /// The number.
        number: u32,
    },
    /// PING 0.
    #[error("a PING frame with id 0")]
    PingZero,
    /// A header block that cannot be inflated; the compression has lost its context.
    #[error("a header block that cannot be inflated: {0}")]
    Inflate(#[from] InflateError),
    /// A header block that was inflated and is none.
    #[error("a malformed header block: {0}")]
    Headers(#[from] HeadersError),
    /// Too much of one thing.
    #[error("a flood of {0}")]
    Flood(Flood),
}

impl Violation {
    /// What GOAWAY says of it.
    #[must_use]
    pub const fn go_away_status(&self) -> GoAwayStatus {
        GoAwayStatus::PROTOCOL_ERROR
    }
}

/// Why something could not be sent. Nothing was queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// One of the two sides has said GOAWAY: no stream can be opened, and behind our own nothing can be sent at all.
    #[error("the session is going away")]
    GoingAway,
    /// All numbers are used up: a new session is needed.
    #[error("the session has no stream numbers left")]
    NoNumbersLeft,
    /// There is no such stream, or it is over: both sides have finished, or one has reset it.
    #[error("stream {0} is not open")]
    NotOpen(StreamId),
    /// This side has finished the stream.
    #[error("stream {0} is closed for writing")]
    Finished(StreamId),
    /// The stream was replied to already, or it is this side's own.
    #[error("stream {0} has no use for a reply")]
    NoReplyDue(StreamId),
    /// The headers cannot be put into a block.
    #[error("the headers cannot be sent: {0}")]
    Headers(#[from] HeadersError),
}

impl Dropped {
    /// What the stream was reset with; `None` where nothing was answered.
    #[must_use]
    pub const fn answer(&self) -> Option<ResetStatus> {
        match self {
            Self::TooManyStreams(_) => Some(ResetStatus::REFUSED_STREAM),
            Self::WrongParity(_) | Self::NotRising(..) => Some(ResetStatus::PROTOCOL_ERROR),
            _ => None,
        }
    }
}
