//! What a connection needs to know of the wire below it.

use std::fmt;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};

/// Any byte stream: TCP, TLS, a unix socket, a pipe in memory.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Tells how many bytes that were written to the wire have not reached the peer yet.
///
/// A connection that has sent Close waits for the peer's, and must not run out of patience while the peer is still
/// busy reading what came before. Only the kernel knows how much that is (on Linux: `SIOCOUTQ`). Without a probe,
/// any byte from the peer restarts the wait instead.
#[derive(Clone)]
pub struct UnsentProbe(Arc<dyn Fn() -> Option<usize> + Send + Sync>);

impl UnsentProbe {
    /// A probe from a function that returns the number of unsent bytes, or `None` when it cannot tell.
    pub fn new(unsent: impl Fn() -> Option<usize> + Send + Sync + 'static) -> Self {
        Self(Arc::new(unsent))
    }

    /// Bytes that the peer's side has not acknowledged.
    #[must_use]
    pub fn unsent(&self) -> Option<usize> {
        (self.0)()
    }
}

impl fmt::Debug for UnsentProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("UnsentProbe").field(&self.unsent()).finish()
    }
}
