//! How a session of remote command or port-forward ended, whatever carried it.

use std::fmt;

use crate::{connection, spdy};

/// How the connection of a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SessionEnd {
    /// One of channels.
    WebSocket(connection::End),
    /// SPDY, plain or through the tunnel.
    Spdy(spdy::End),
}

impl SessionEnd {
    /// Whether one side said that it was done, as opposed to a connection that was lost. How a command or a forwarded
    /// connection went is another matter.
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
