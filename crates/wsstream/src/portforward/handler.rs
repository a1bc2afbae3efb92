//! What a server implements.

use std::future::Future;

use super::{ForwardError, PortStream};

/// Leads connections to ports.
pub trait PortForwarder: Send + Sync {
    /// Connects `stream` to `port` and moves bytes both ways until the connection is over. Called once for each
    /// connection of the client, many at a time.
    ///
    /// Returning `Ok` ends the stream in good order, behind everything that was written. An error resets it, so that
    /// nobody takes what arrived for the whole; the other connections of the session go on in either case. When the
    /// future is dropped the client is gone: let go of the port.
    ///
    /// # Errors
    ///
    /// The port cannot be reached or the connection broke.
    fn forward(&self, port: u16, stream: PortStream)
    -> impl Future<Output = Result<(), ForwardError>> + Send;
}

impl<F, T> PortForwarder for F
where
    F: Fn(u16, PortStream) -> T + Send + Sync,
    T: Future<Output = Result<(), ForwardError>> + Send,
{
    fn forward(
        &self,
        port: u16,
        stream: PortStream,
    ) -> impl Future<Output = Result<(), ForwardError>> + Send {
        self(port, stream)
    }
}
