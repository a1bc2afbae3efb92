//! How a connection ended, and whose doing it was.

use std::fmt;
use std::io;
use std::time::Duration;

use wsstream_proto::connection::Violation;
use wsstream_proto::ws::CloseReason;

/// Which side did something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// This program.
    Local,
    /// The other end of the connection.
    Peer,
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// Both sides are done: everything that was sent before the Close was taken by the peer's kernel at least, and the
    /// Close frames say how it went.
    Closed {
        /// Who closed first.
        by: Side,
        /// What the first Close frame said.
        reason: CloseReason,
    },
    /// The connection broke. What had arrived before can still be read; what was on its way is unknown.
    Lost(Loss),
}

/// Why a connection was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Loss {
    /// The peer ended the byte stream without a Close frame (clients report this as 1006).
    Eof,
    /// Reading or writing failed.
    Io(io::ErrorKind, String),
    /// Nothing came from the peer for this long, although it was pinged.
    DeadPeer(Duration),
    /// The wire took nothing for this long ([`Timeouts::write`](crate::Timeouts::write)).
    WriteTimeout(Duration),
    /// No data went either way for this long; this side closed with 1001.
    Idle(Duration),
    /// This client closed, and the server gave no sign for this long and never closed itself: it may have had more to
    /// send. A server does not report this; stock clients often leave without a Close.
    CloseTimeout(Duration),
    /// The peer broke a rule; this side closed with the code that names it.
    Violation(Violation),
    /// There was no memory for the peer's unfinished message; this side closed with 1013.
    NoMemory,
    /// The [`Driver`](crate::Driver) was dropped.
    DriverDropped,
    /// All handles were dropped without [`shutdown`](crate::Connection::shutdown); this side closed with 1011 (server)
    /// or 1001 (client), so that nobody takes it for a success.
    Abandoned,
}

impl Loss {
    pub(crate) fn io(error: &io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }

    /// The error that a reader or writer of the connection reports.
    #[must_use]
    pub fn to_io_error(&self) -> io::Error {
        let kind = match self {
            Self::Eof => io::ErrorKind::UnexpectedEof,
            Self::Io(kind, _) => *kind,
            Self::DeadPeer(_) | Self::WriteTimeout(_) | Self::Idle(_) | Self::CloseTimeout(_) => {
                io::ErrorKind::TimedOut
            }
            Self::Violation(_) => io::ErrorKind::InvalidData,
            Self::NoMemory => io::ErrorKind::OutOfMemory,
            Self::DriverDropped | Self::Abandoned => io::ErrorKind::ConnectionAborted,
        };
        io::Error::new(kind, self.clone())
    }
}

impl std::error::Error for Loss {}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Eof => f.write_str("the peer ended the connection without a close frame"),
            Self::Io(_, text) => write!(f, "the connection failed: {text}"),
            Self::DeadPeer(after) => write!(f, "nothing came from the peer for {after:?}"),
            Self::WriteTimeout(after) => write!(f, "the peer took nothing for {after:?}"),
            Self::Idle(after) => write!(f, "no data for {after:?}"),
            Self::CloseTimeout(after) => write!(f, "the server did not answer the close within {after:?}"),
            Self::Violation(violation) => write!(f, "the peer broke the protocol: {violation}"),
            Self::NoMemory => f.write_str("no memory left for the peer's unfinished message"),
            Self::DriverDropped => f.write_str("the connection's driver was dropped"),
            Self::Abandoned => f.write_str("the connection was dropped without being shut down"),
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed { by: Side::Local, reason } => write!(f, "closed here: {reason}"),
            Self::Closed { by: Side::Peer, reason } => write!(f, "closed by the peer: {reason}"),
            Self::Lost(loss) => write!(f, "lost: {loss}"),
        }
    }
}
