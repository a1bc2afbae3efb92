//! The writing side of one channel.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::AsyncWrite;
use wsstream_proto::channel::ChannelId;
use wsstream_proto::connection::SendError;

use super::Handle;
use super::end::Loss;

/// The longest message that [`AsyncWrite`] makes of one write, in bytes. Every known client takes it, and client-go's
/// buffers are made for it.
pub const MAX_WRITE: usize = 32 << 10;

/// Why a channel takes nothing. The bytes of the failed call were not sent, in whole or in part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The connection broke.
    #[error("{0}")]
    Lost(#[from] Loss),
    /// The channel, or the connection, is closed for writing, or the version cannot do it. The peer is not at fault.
    #[error("{0}")]
    Refused(#[from] SendError),
}

impl From<WriteError> for io::Error {
    fn from(error: WriteError) -> Self {
        let kind = match error {
            WriteError::Lost(loss) => return loss.to_io_error(),
            WriteError::Refused(SendError::NoHalfClose(_)) => io::ErrorKind::Unsupported,
            WriteError::Refused(_) => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}

/// Writes to one channel.
///
/// Dropped, it sends nothing: an end of input that nobody asked for would be taken for a complete one. Say it with
/// [`close`](Self::close).
#[derive(Debug)]
pub struct ChannelWriter {
    handle: Handle,
    channel: ChannelId,
    /// Accepts and discards, as upstream does on a channel that is not written.
    discards: bool,
    /// How far a flush that was begun has to get.
    flush_mark: Option<u64>,
    /// Has said CLOSE: the connection may close in good order before somebody says it again.
    closed: bool,
}

impl ChannelWriter {
    pub(super) fn new(handle: Handle, channel: ChannelId, discards: bool) -> Self {
        Self { handle, channel, discards, flush_mark: None, closed: false }
    }

    /// The channel it writes.
    #[must_use]
    pub fn channel(&self) -> ChannelId {
        self.channel
    }

    /// Sends one message, of any length that the peer takes; an empty one is the ready signal.
    ///
    /// Resolves when the message is queued whole, which waits while more than
    /// [`send_buffer`](crate::Limits::send_buffer) bytes are queued. It is written at once when the wire takes it;
    /// there is no timer that waits for more. Cancel-safe: a dropped call has sent the message whole or not at all.
    ///
    /// # Errors
    ///
    /// The connection is lost or closing.
    pub async fn send(&mut self, message: Bytes) -> Result<(), WriteError> {
        let mut message = Some(message);
        poll_fn(|cx| self.poll_send(&mut message, cx)).await
    }

    /// As [`send`](Self::send), but not written yet: something else is about to be sent or the connection to be shut down,
    /// and both go out together.
    #[cfg(feature = "server")]
    pub(crate) async fn queue(&mut self, message: Bytes) -> Result<(), WriteError> {
        let (mut message, shared) = (Some(message), &self.handle.shared);
        poll_fn(|cx| {
            let payload = || message.take().unwrap_or_default();
            shared.lock().poll_queue(self.channel, payload, cx, &shared.write_waker, self.handle.number)
        })
        .await
    }

    /// The polled form of [`send`](Self::send): takes `message` when it is ready.
    ///
    /// # Errors
    ///
    /// As [`send`](Self::send).
    pub fn poll_send(
        &mut self,
        message: &mut Option<Bytes>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), WriteError>> {
        if self.discards {
            *message = None;
            return Poll::Ready(Ok(()));
        }
        self.flush_mark = None;
        let shared = &self.handle.shared;
        let payload = || message.take().unwrap_or_default();
        shared.lock().poll_send(self.channel, payload, cx, &shared.write_waker, self.handle.number)
    }

    /// Waits until the wire has taken everything that was queued before. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The connection is lost.
    pub async fn flushed(&mut self) -> Result<(), WriteError> {
        self.flush_mark = None;
        poll_fn(|cx| self.poll_flushed(cx)).await
    }

    fn poll_flushed(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), WriteError>> {
        let shared = &self.handle.shared;
        shared.lock().poll_flush(&mut self.flush_mark, cx, &shared.write_waker, self.handle.number)
    }

    /// Tells the peer that nothing more comes on this channel: the CLOSE of v5, behind everything that was sent. Doing
    /// it twice is the same as once.
    ///
    /// # Errors
    ///
    /// [`SendError::NoHalfClose`] before v5, where no such signal exists, and on a server, whose clients do not expect
    /// it: end the connection instead. Otherwise the connection is lost or closing.
    pub fn close(&mut self) -> Result<(), WriteError> {
        if self.discards || self.closed {
            return Ok(());
        }
        self.flush_mark = None;
        let shared = &self.handle.shared;
        shared.lock().half_close(self.channel, &shared.write_waker)?;
        self.closed = true;
        Ok(())
    }
}

/// Each write is one message of at most [`MAX_WRITE`] bytes. `shutdown` is [`close`](ChannelWriter::close) after a
/// flush; on a server it only flushes.
impl AsyncWrite for ChannelWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let data = data.get(..data.len().min(MAX_WRITE)).unwrap_or_default();
        if data.is_empty() {
            return Poll::Ready(Ok(0));
        }
        if !self.discards {
            self.flush_mark = None;
            let shared = &self.handle.shared;
            // Bytes are copied only when they are taken.
            let payload = || Bytes::copy_from_slice(data);
            let number = self.handle.number;
            ready!(shared.lock().poll_send(self.channel, payload, cx, &shared.write_waker, number))?;
        }
        Poll::Ready(Ok(data.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_flushed(cx).map_err(Into::into)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flushed(cx))?;
        if self.handle.is_server {
            return Poll::Ready(Ok(()));
        }
        self.close()?;
        self.poll_flushed(cx).map_err(Into::into)
    }
}

impl Drop for ChannelWriter {
    fn drop(&mut self) {
        self.handle.shared.wakers.forget_writer(self.handle.number);
    }
}
