//! What a connection needs to know of the wire below it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::poll_write_buf;
use tracing::debug;

/// Any byte stream: TCP, TLS, a unix socket, a pipe in memory.
pub trait Io: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Io for T {}

/// Writes some of `data` and takes it off there. A message that is one piece needs no list of pieces, neither here nor in the
/// kernel.
pub(crate) fn poll_write_some(
    io: &mut (impl AsyncWrite + Unpin + ?Sized),
    cx: &mut Context<'_>,
    data: &mut impl Buf,
) -> Poll<io::Result<usize>> {
    let mut io = Pin::new(io);
    if data.chunk().len() < data.remaining() {
        return poll_write_buf(io, cx, data);
    }
    let n = ready!(io.as_mut().poll_write(cx, data.chunk()))?;
    data.advance(n);
    Poll::Ready(Ok(n))
}

/// Tells what only the kernel knows of the wire: how much of what was written has not reached the peer yet, and whether
/// the peer's kernel still answers.
///
/// A connection that has sent Close waits for the peer's, and must not run out of patience while the peer is still
/// busy reading what came before. Only the kernel knows how much that is (on Linux: `SIOCOUTQ`). Without a probe,
/// any byte from the peer restarts the wait instead. And a peer that reads nothing, so that nothing can be written, may be
/// busy or gone: its kernel tells which ([`silence`](Self::silence)).
#[derive(Clone)]
pub struct UnsentProbe {
    unsent: Arc<dyn Fn() -> Option<usize> + Send + Sync>,
    silence: Option<Arc<dyn Fn() -> Option<Duration> + Send + Sync>>,
}

impl UnsentProbe {
    /// A probe from a function that returns the number of unsent bytes, or `None` when it cannot tell.
    pub fn new(unsent: impl Fn() -> Option<usize> + Send + Sync + 'static) -> Self {
        Self { unsent: Arc::new(unsent), silence: None }
    }

    /// With a function for [`silence`](Self::silence).
    #[must_use]
    pub fn with_silence(self, silence: impl Fn() -> Option<Duration> + Send + Sync + 'static) -> Self {
        Self { silence: Some(Arc::new(silence)), ..self }
    }

    /// Bytes that the peer's side has not acknowledged.
    #[must_use]
    pub fn unsent(&self) -> Option<usize> {
        (self.unsent)()
    }

    /// For how long the peer's kernel has answered nothing although it was asked again and again. `None`: it answers, it
    /// was not asked, or nobody can tell. A kernel answers for a program that reads nothing, so a peer that is merely slow
    /// is never silent.
    #[must_use]
    pub fn silence(&self) -> Option<Duration> {
        self.silence.as_ref()?()
    }

    /// Whether the [`silence`](Self::silence) has lasted for `limit` at least: the peer is gone.
    pub(crate) fn silent_for(&self, limit: Duration) -> bool {
        let silence = self.silence();
        let gone = silence.is_some_and(|silence| silence >= limit);
        if gone {
            debug!(?silence, "the peer's kernel answers nothing any more");
        }
        gone
    }
}

impl fmt::Debug for UnsentProbe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UnsentProbe")
            .field("unsent", &self.unsent())
            .field("silence", &self.silence())
            .finish()
    }
}
