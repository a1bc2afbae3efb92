//! The reading side of one stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, ReadBuf};
use wsstream_proto::spdy::{ResetStatus, StreamId};

use super::Handle;
use super::end::Loss;
use super::watch::Watch;

/// Why a stream cannot be read any further. What arrived before was read already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The connection is over, and the peer had not finished the stream.
    #[error("{0}")]
    Lost(#[from] Loss),
    /// The stream was reset before the peer had finished it: by the peer, or by this side's own writer. An exec server
    /// ends its error stream so, and whether that is a plain end there is for the layer above to say.
    #[error("the stream was reset ({0})")]
    Reset(ResetStatus),
    /// This side ended the stream because its reader took nothing while others waited for the room that it held
    /// ([`SpdyLimits::stall_grace`](crate::limits::SpdyLimits::stall_grace)). What it held is gone.
    #[error("the stream was not read for too long while others waited")]
    Evicted,
}

impl From<ReadError> for io::Error {
    fn from(error: ReadError) -> Self {
        match error {
            ReadError::Lost(loss) => loss.to_io_error(),
            ReadError::Reset(_) => Self::new(io::ErrorKind::ConnectionReset, error),
            ReadError::Evicted => Self::new(io::ErrorKind::ConnectionAborted, error),
        }
    }
}

/// Reads what the peer sends on one stream.
///
/// The end of input comes with the peer's FIN and with nothing else: every other end is an error, after all that arrived
/// was read.
///
/// Dropped, what comes on the stream is thrown away and holds nobody up. When its writer is gone as well, the peer is
/// told by a reset.
#[derive(Debug)]
pub struct StreamReader {
    handle: Handle,
    id: StreamId,
    /// What `AsyncRead` has begun to hand out.
    rest: Bytes,
}

impl StreamReader {
    pub(super) fn new(handle: Handle, id: StreamId) -> Self {
        Self { handle, id, rest: Bytes::new() }
    }

    /// The number of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Looks at the stream without reading it.
    #[must_use]
    pub fn watch(&self) -> Watch {
        Watch::new(Arc::clone(&self.handle.shared), self.id)
    }

    /// Waits until the peer has taken a stream that this side opened; at once on a stream of the peer's. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The peer refused the stream, or the connection is over.
    pub async fn replied(&mut self) -> Result<(), ReadError> {
        poll_fn(|cx| self.handle.shared.lock().poll_replied(self.id, cx)).await
    }

    /// The next bytes, never empty, or `None` at the end of input. Without a copy where they came in large pieces.
    ///
    /// Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    ///
    /// The stream or the connection ended without the peer's FIN.
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
        self.handle.shared.lock().poll_chunk(self.id, cx)
    }

    /// What has come already, never empty, without waiting: `None` when nothing has, also at the end and when the
    /// connection is lost, which [`chunk`](Self::chunk) tells. To be asked behind it, so that several pieces can be handed
    /// on in one (vectored) write: a piece ends where the read from the wire did, in the middle of a message or behind one.
    pub fn try_chunk(&mut self) -> Option<Bytes> {
        if !self.rest.is_empty() {
            return Some(std::mem::take(&mut self.rest));
        }
        self.handle.shared.lock().try_chunk(self.id)
    }

    /// Says that waiting for this stream is no reason to evict another one: it carries an occasional message beside the
    /// stream that matters, as an error stream does. Without this, the waiting reader of an error stream would count as
    /// somebody who is held up by the very stream that it belongs to.
    pub fn set_background(&mut self, background: bool) {
        self.handle.shared.lock().set_background(self.id, background);
    }
}

impl AsyncRead for StreamReader {
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

impl Drop for StreamReader {
    fn drop(&mut self) {
        self.handle.shared.lock().drop_reader(self.id);
    }
}
