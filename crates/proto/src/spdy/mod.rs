//! SPDY/3.1 as Kubernetes speaks it: [frames](frame), [header blocks](headers) and the state machine of one
//! [`Session`], for both roles.
//!
//! It stands alone: nothing here knows what the streams are for, and nothing here opens a socket, reads a clock or
//! writes a log. The peer is always Go's spdystream or something that has to get along with it, so where the draft
//! and spdystream differ, spdystream counts:
//!
//! - There is no flow control. Nobody sends WINDOW_UPDATE or SETTINGS, and nobody obeys them: to wait for a window
//!   would be to wait for ever. The only back-pressure is the transport's.
//! - A server sends nothing before the client's first frame has come: client-go reads the 101 through a buffer that
//!   it throws away, and bytes in that buffer are lost.
//! - DATA before SYN_REPLY is dropped by the peer without a word, so it is held back until the reply.
//! - GOAWAY is the last thing sent: whatever stands behind it is not read.
//!
//! | file | what it holds |
//! |---|---|
//! | [`frame`] | the heads of frames, and their encoding |
//! | [`decoder`] | bytes in, frames and pieces of frames out |
//! | [`dictionary`] | the text that both ends of the compression start from |
//! | [`inflate`] | the compressed form of header blocks, read with bounds |
//! | [`deflate`] | the compressed form of header blocks, written without a compressor |
//! | [`headers`] | the plain form of header blocks |
//! | `stream` | how far each half of one stream is |
//! | [`send_queue`] | what waits for the wire, and in which order it goes |
//! | [`session`] | the state machine |
//! | [`limits`] | every bound, with its reason |
//! | [`error`] | how a peer can break the rules, and what ends because of it |

pub mod decoder;
pub mod deflate;
pub mod dictionary;
pub mod error;
pub mod frame;
pub mod headers;
pub mod inflate;
pub mod limits;
pub mod send_queue;
pub mod session;
mod stream;

pub use error::{Dropped, Flood, SendError, Violation};
pub use headers::{Headers, HeadersError};
pub use limits::Limits;
pub use send_queue::SendQueue;
pub use session::{Counts, Event, Session};

use std::fmt;

/// The number of a stream: odd when the client opened it, even when the server did; 1 to 2^31 - 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(u32);

impl StreamId {
    /// The highest number; ids are never used again, so a session ends its openings here.
    pub const MAX: Self = Self(0x7fff_ffff);

    /// The id of this number; `None` for 0 and for numbers above 2^31 - 1, which no stream has.
    #[must_use]
    pub const fn new(number: u32) -> Option<Self> {
        if number == 0 || number > Self::MAX.0 { None } else { Some(Self(number)) }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }

    /// Whether a client opened the stream (odd numbers).
    #[must_use]
    pub const fn is_clients(self) -> bool {
        self.0 % 2 == 1
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a stream was ended by RST_STREAM: the number that stands in the frame.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ResetStatus(pub u32);

impl ResetStatus {
    /// The peer broke the protocol on this stream.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// A frame came for a stream that is not open.
    pub const INVALID_STREAM: Self = Self(2);
    /// The stream was refused before anything was done for it.
    pub const REFUSED_STREAM: Self = Self(3);
    /// The SPDY version is not spoken here.
    pub const UNSUPPORTED_VERSION: Self = Self(4);
    /// The stream is not wanted any more: the status of every reset that Kubernetes sends of its own accord.
    pub const CANCEL: Self = Self(5);
    /// Something failed at the sender.
    pub const INTERNAL_ERROR: Self = Self(6);
    /// Flow control was broken. Kubernetes has none; a stream that is evicted to free memory may say so.
    pub const FLOW_CONTROL_ERROR: Self = Self(7);
    /// A second SYN_REPLY came.
    pub const STREAM_IN_USE: Self = Self(8);
    /// A frame came for a half that was closed.
    pub const STREAM_ALREADY_CLOSED: Self = Self(9);
    /// Credentials are not valid.
    pub const INVALID_CREDENTIALS: Self = Self(10);
    /// A frame is too large.
    pub const FRAME_TOO_LARGE: Self = Self(11);

    /// The name in the draft; `None` for numbers that it does not define, 0 included.
    #[must_use]
    pub const fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::PROTOCOL_ERROR => "PROTOCOL_ERROR",
            Self::INVALID_STREAM => "INVALID_STREAM",
            Self::REFUSED_STREAM => "REFUSED_STREAM",
            Self::UNSUPPORTED_VERSION => "UNSUPPORTED_VERSION",
            Self::CANCEL => "CANCEL",
            Self::INTERNAL_ERROR => "INTERNAL_ERROR",
            Self::FLOW_CONTROL_ERROR => "FLOW_CONTROL_ERROR",
            Self::STREAM_IN_USE => "STREAM_IN_USE",
            Self::STREAM_ALREADY_CLOSED => "STREAM_ALREADY_CLOSED",
            Self::INVALID_CREDENTIALS => "INVALID_CREDENTIALS",
            Self::FRAME_TOO_LARGE => "FRAME_TOO_LARGE",
            _ => return None,
        })
    }
}

impl fmt::Display for ResetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "status {}", self.0),
        }
    }
}

impl fmt::Debug for ResetStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ResetStatus({} {})", self.0, self.name().unwrap_or("?"))
    }
}

/// Why a session ends: the number that stands in GOAWAY.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GoAwayStatus(pub u32);

impl GoAwayStatus {
    /// In good order.
    pub const OK: Self = Self(0);
    /// The peer broke the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1);
    /// Something failed at the sender.
    pub const INTERNAL_ERROR: Self = Self(2);
}
