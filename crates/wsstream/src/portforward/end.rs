//! How a session of port-forward ended, whatever carried it.

use std::fmt;

use crate::{connection, spdy};

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// Over channels.
    WebSocket(connection::End),
    /// Over SPDY, plain or through the tunnel.
    Spdy(spdy::End),
}

impl SessionEnd {
    /// One side said that it was done. How each connection went is another matter.
    #[must_use]
    pub fn is_orderly(&self) -> bool {
        matches!(self, Self::WebSocket(connection::End::Closed { .. }) | Self::Spdy(spdy::End::Closed { .. }))
    }
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WebSocket(end) => end.fmt(f),
            Self::Spdy(end) => end.fmt(f),
        }
    }
}
