//! The reading side of one channel.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use wsstream_proto::channel::ChannelId;
use wsstream_proto::ws::CloseReason;

use super::Handle;
use super::end::Loss;

/// Why a channel cannot be read any further. What arrived before was read already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The connection broke.
    #[error("{0}")]
    Lost(#[from] Loss),
    /// The peer closed the connection, and not in good order.
    #[error("closed by the peer: {0}")]
    Closed(CloseReason),
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lost(loss) => loss.to_io_error(),
            ReadError::Closed(_) => Self::new(io::ErrorKind::ConnectionAborted, error),
        }
    }
}

/// Reads what the peer sends on one channel.
///
/// A channel is a stream of bytes: where the peer's messages begin and end has no meaning. The end of input comes with
/// the CLOSE of v5, or with a Close of the connection in good order (code 1000, and for a server also one without a
/// code); everything else is an error, after all that arrived was read.
///
/// Dropped, what comes on the channel is thrown away and holds nobody up.
#[derive(Debug)]
pub struct ChannelReader {
    handle: Handle,
    channel: ChannelId,
    /// What `AsyncRead` has begun to hand out.
    rest: Bytes,
}

impl ChannelReader {
    pub(super) fn new(handle: Handle, channel: ChannelId) -> Self {
        Self { handle, channel, rest: Bytes::new() }
    }

    /// The channel it reads.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// The next bytes, never empty, or `None` at the end of input. Without a copy where they came in large pieces.
    ///
    /// Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    ///
    /// The connection ended before the channel did.
    pub async fn chunk(&mut self) -> Result<Option<Bytes>, ReadError> {
        poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// The polled form of [`chunk`](Self::chunk).
    ///
    /// # Errors
    ///
    /// As [`chunk`](Self::chunk).
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        self.handle.shared.lock().poll_chunk(usize::from(self.channel.0), cx)
    }

    /// What has come already, never empty, without waiting: `None` when nothing has, also at the end and when the
    /// connection is lost, which [`chunk`](Self::chunk) tells. To be asked behind it, so that several pieces can be handed
    /// on in one (vectored) write: a piece ends where the read from the wire did, in the middle of a message or behind one.
    pub fn try_chunk(&mut self) -> Option<Bytes> {
        if !self.rest.is_empty() {
            return Some(std::mem::take(&mut self.rest));
        }
        self.handle.shared.lock().try_chunk(usize::from(self.channel.0))
    }

    /// A look at another channel of the connection without reading it: how many of its bytes were read or thrown away, and
    /// at most `limit` of those that wait behind them.
    #[cfg(feature = "client")]
    pub(crate) fn glimpse(&self, other: ChannelId, limit: usize) -> (u64, Vec<u8>) {
        self.handle.shared.lock().glimpse(usize::from(other.0), limit)
    }
}

impl AsyncRead for ChannelReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.rest.is_empty() {
            match ready!(self.poll_chunk(cx))? {
                Some(chunk) => self.rest = chunk,
                None => return Poll::Ready(Ok(())),
            }
        }
        let n = self.rest.len().min(buf.remaining());
        buf.put_slice(self.rest.get(..n).unwrap_or_default());
        self.rest.advance(n);
        Poll::Ready(Ok(()))
    }
}

impl Drop for ChannelReader {
    fn drop(&mut self) {
        self.handle.shared.lock().drop_reader(usize::from(self.channel.0));
    }
}
