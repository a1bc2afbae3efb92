//! The writing side of one stream.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wsstream_proto::spdy::limits::MAX_DATA_SENT;
use wsstream_proto::spdy::{ResetStatus, StreamId};

use super::Handle;
use super::end::Loss;

/// Why a stream takes nothing. The bytes of the failed call were not sent, in whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The connection is over, or ending.
    #[error("{0}")]
    Lost(#[from] Loss),
    /// The stream was reset, by the peer or here.
    #[error("the stream was reset ({0})")]
    Reset(ResetStatus),
    /// The stream was ended here because its reader took nothing while others waited for the room that it held.
    #[error("the stream was not read for too long while others waited")]
    Evicted,
    /// This side has said that it sends nothing more.
    #[error("the stream is closed for writing")]
    Finished,
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match error {
            WriteError::Lost(loss) => return loss.to_io_error(),
            WriteError::Reset(_) => io::ErrorKind::ConnectionReset,
            WriteError::Evicted => io::ErrorKind::ConnectionAborted,
            WriteError::Finished => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// Writes to one stream.
///
/// Dropped without [`close`](Self::close), it resets the stream with CANCEL behind what was sent: an end of input that
/// nobody asked for would be taken for a complete one.
#[derive(Debug)]
pub struct StreamWriter {
    handle: Handle,
    id: StreamId,
}

impl StreamWriter {
    pub(super) fn new(handle: Handle, id: StreamId) -> Self {
        Self { handle, id }
    }

    /// The number of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// Sends bytes, of any length; empty ones send nothing.
    ///
    /// Resolves when they are queued whole, which waits while
    /// [`send_stream`](crate::limits::SpdyLimits::send_stream) bytes of the stream or
    /// [`send_total`](crate::limits::SpdyLimits::send_total) bytes of all streams are queued. On a stream that this side
    /// opened they leave when the peer has replied. Cancel-safe: a dropped call has sent all of it or nothing.
    ///
    /// # Errors
    ///
    /// The stream or the connection takes nothing any more.
    pub async fn send(&mut self, bytes: Bytes) -> Result<(), WriteError> {
        let mut bytes = Some(bytes);
        poll_fn(|cx| self.poll_send(&mut bytes, cx)).await
    }

    /// The polled form of [`send`](Self::send): takes `bytes` when it is ready.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn poll_send(
        &mut self,
        bytes: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        let payload = || bytes.take().unwrap_or_default();
        self.handle.shared.lock().poll_send(self.id, payload, cx, &self.handle.shared.write_waker)
    }

    /// Waits until the wire has taken all that was sent on this stream. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The stream was reset or the connection is lost.
    pub async fn flushed(&mut self) -> Result<(), WriteError> {
        poll_fn(|cx| self.poll_flushed(cx)).await
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        self.handle.shared.lock().poll_flush(self.id, cx, &self.handle.shared.write_waker)
    }

    /// Tells the peer that nothing more comes on this stream: FIN, behind all that was sent. Doing it twice is the same
    /// as once.
    ///
    /// # Errors
    ///
    /// The stream was reset, or the connection is over.
    pub fn close(&mut self) -> Result<(), WriteError> {
        self.handle.shared.lock().finish_stream(self.id)
    }

    /// Ends the stream in both directions now. What was not sent yet is thrown away; the reader keeps what had arrived.
    /// Nothing happens where the stream is over.
    pub fn reset(&mut self, status: ResetStatus) {
        self.handle.shared.lock().reset_stream(self.id, status, false);
    }

    /// As [`reset`](Self::reset), behind all that was sent: how an exec server ends its error stream.
    pub fn reset_after_data(&mut self, status: ResetStatus) {
        self.handle.shared.lock().reset_stream(self.id, status, true);
    }
}

/// `shutdown` is [`close`](StreamWriter::close), and waits until the wire has taken what came before.
impl AsyncWrite for StreamWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        // One frame is what a peer keeps in memory at a time.
        let data = data.get(..data.len().min(MAX_DATA_SENT)).unwrap_or_default();
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Bytes are copied only when they are taken.
        let payload = || Bytes::copy_from_slice(data);
        ready!(self.handle.shared.lock().poll_send(self.id, payload, cx, &self.handle.shared.write_waker))?;
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map_err(Into::into)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.close()?;
        self.poll_flushed(cx).map_err(Into::into)
    }
}

impl Drop for StreamWriter {
    fn drop(&mut self) {
        self.handle.shared.lock().drop_writer(self.id);
    }
}
