//! Why one connection could not be forwarded, and whose doing it was.

use std::io;
use std::time::Duration;

/// Why a connection failed. The text may be shown to the client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ForwardError {
    /// This server does not forward to the port; nobody was asked.
    #[error("{0}")]
    Denied(String),
    /// Nothing takes connections there, or not in time.
    #[error("cannot connect to {target}: {error}")]
    Connect {
        /// What was tried.
        target: String,
        /// Why it failed.
        #[source]
        error: io::Error,
    },
    /// The connection to the port broke.
    #[error("the connection to the port broke: {0}")]
    Target(#[source] io::Error),
    /// The client reset its end or is gone. It is told nothing, and needs to be told nothing.
    #[error("the client's end broke: {0}")]
    Client(#[source] io::Error),
    /// One side had ended its direction and the other moved nothing for this long.
    #[error("half closed, and nothing moved for {0:?}")]
    Stalled(Duration),
    /// Anything else that a forwarder of your own wants to say.
    #[error("{0}")]
    Other(String),
}

impl ForwardError {
    /// Whether the client caused it and knows already.
    #[must_use]
    pub fn is_clients(&self) -> bool {
        matches!(self, Self::Client(_))
    }
}
