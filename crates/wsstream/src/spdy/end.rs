//! How a SPDY connection ended, and whose doing it was.

use std::fmt;
use std::io;
use std::time::Duration;

use wsstream_proto::spdy::{GoAwayStatus, Violation};

pub use crate::connection::Side;

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// One side said GOAWAY and the byte stream ended behind it. What a stream's reader or writer reported counts for
    /// the stream: GOAWAY says nothing about streams.
    Closed {
        /// Who said it first.
        by: Side,
        /// What it said.
        status: GoAwayStatus,
    },
    /// The connection broke. What had arrived before can still be read; what was on its way is unknown.
    Lost(Loss),
}

/// Why a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The peer ended the byte stream. Without GOAWAY that is how the connection ended; a stream that has not finished
    /// reports it in any case.
    Eof,
    /// Reading or writing failed.
    Io(io::ErrorKind, String),
    /// The peer's kernel acknowledged nothing for this long, not even a ping on a wire that was free.
    DeadPeer(Duration),
    /// The wire took nothing for this long ([`Timeouts::write`](crate::Timeouts::write), or
    /// [`SpdyLimits::write_stall`](crate::limits::SpdyLimits::write_stall)).
    WriteTimeout(Duration),
    /// Nothing but pings went either way for this long.
    Idle(Duration),
    /// The peer began a frame and sent no more of it for this long
    /// ([`SpdyLimits::partial_frame`](crate::limits::SpdyLimits::partial_frame)).
    StuckFrame(Duration),
    /// The peer broke a rule.
    Violation(Violation),
    /// This side called [`shutdown`](crate::spdy::Connection::shutdown) while the stream was not finished.
    ShutDown,
    /// The [`Driver`](crate::spdy::Driver) was dropped.
    DriverDropped,
    /// All handles were dropped without [`shutdown`](crate::spdy::Connection::shutdown).
    Abandoned,
}

impl Loss {
    pub(super) fn io(error: &io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }

    /// The error that a reader or writer of the connection reports.
    #[must_use]
    pub fn to_io_error(&self) -> io::Error {
        let kind = match self {
            Self::Eof => io::ErrorKind::UnexpectedEof,
            Self::Io(kind, _) => *kind,
            Self::DeadPeer(_) | Self::WriteTimeout(_) | Self::Idle(_) | Self::StuckFrame(_) => {
                io::ErrorKind::TimedOut
            }
            Self::Violation(_) => io::ErrorKind::InvalidData,
            Self::ShutDown | Self::DriverDropped | Self::Abandoned => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, self.clone())
    }
}

impl std::error::Error for Loss {}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("the peer ended the connection"),
            Self::Io(_, text) => write!(f, "the connection failed: {text}"),
            Self::DeadPeer(after) => write!(f, "the peer acknowledged nothing for {after:?}"),
            Self::WriteTimeout(after) => write!(f, "the peer took nothing for {after:?}"),
            Self::Idle(after) => write!(f, "no data for {after:?}"),
            Self::StuckFrame(after) => write!(f, "the peer did not go on with a frame for {after:?}"),
            Self::Violation(violation) => write!(f, "the peer broke the protocol: {violation}"),
            Self::ShutDown => f.write_str("the connection was shut down here"),
            Self::DriverDropped => f.write_str("the connection's driver was dropped"),
            Self::Abandoned => f.write_str("the connection was dropped without being shut down"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { by: Side::Local, status } => write!(f, "closed here with status {}", status.0),
            Self::Closed { by: Side::Peer, status } => {
                write!(f, "closed by the peer with status {}", status.0)
            }
            Self::Lost(loss) => write!(f, "lost: {loss}"),
        }
    }
}
