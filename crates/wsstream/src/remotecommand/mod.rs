//! Remote commands: exec and attach, as server and as client, in every version and both encodings.
//!
//! A server implements [`Executor`] or [`Attacher`] (a closure does too) and hands it to [`server::Exec`] or
//! [`server::Attach`]. A client calls [`client::exec`] or [`client::attach`], gets a [`client::Process`] and in the end
//! one [`Outcome`].

#[cfg(feature = "client")]
pub mod client;
#[cfg(feature = "server")]
mod handler;
#[cfg(feature = "client")]
mod outcome;
#[cfg(feature = "server")]
pub mod server;
#[cfg(feature = "server")]
mod streams;
mod wire;

use std::fmt;

use wsstream_proto::status::Status;

pub use crate::session_end::SessionEnd;
#[cfg(feature = "server")]
pub use handler::{Attacher, Executor};
#[cfg(feature = "client")]
pub use outcome::{LostSession, LostWhy, Outcome};
#[cfg(feature = "server")]
pub use streams::{Disconnect, Input, Output, Resizes, Streams};
pub use wsstream_proto::remotecommand::{Request, RequestError, Spelling};
pub use wsstream_proto::status::ExitCode;
pub use wsstream_proto::terminal_size::TerminalSize;

/// Why a command could not be run or attached to; the client is told by a Failure status. It is not for a command that
/// ran and failed: that is an [`ExitCode`].
#[derive(Debug, Clone, PartialEq)]
pub struct Failure(Box<Status>);

impl Failure {
    /// Something went wrong on this side: reason `InternalError`, message `Internal error occurred: <message>`.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self(Box::new(Status::internal(message.to_string())))
    }

    /// Tells the client exactly this.
    #[must_use]
    pub fn status(status: Status) -> Self {
        Self(Box::new(status))
    }

    /// What the client is told.
    #[must_use]
    pub fn as_status(&self) -> &Status {
        &self.0
    }
}

impl std::error::Error for Failure {}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}
