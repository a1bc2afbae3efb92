//! One stream, both directions.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wsstream_proto::spdy::StreamId;

use super::Handle;
use super::reader::{ReadError, StreamReader};
use super::writer::StreamWriter;

/// One stream: a [`StreamReader`] and a [`StreamWriter`], together or [split](Self::split).
///
/// Dropped, it is reset with CANCEL behind what was sent, unless both sides had finished.
#[derive(Debug)]
pub struct Stream {
    reader: StreamReader,
    writer: StreamWriter,
}

impl Stream {
    pub(super) fn new(handle: Handle, id: StreamId) -> Self {
        Self { reader: StreamReader::new(handle.clone(), id), writer: StreamWriter::new(handle, id) }
    }

    /// The number of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.reader.id()
    }

    /// Waits until the peer has taken a stream that this side opened; at once on a stream of the peer's. Cancel-safe.
    /// Nothing needs it: data may be sent before and leaves behind the reply.
    ///
    /// # Errors
    ///
    /// The peer refused the stream, or the connection is over.
    pub async fn replied(&mut self) -> Result<(), ReadError> {
        self.reader.replied().await
    }

    /// The two sides, to be used apart.
    #[must_use]
    pub fn split(self) -> (StreamReader, StreamWriter) {
        (self.reader, self.writer)
    }

    /// The reading side.
    pub fn reader(&mut self) -> &mut StreamReader {
        &mut self.reader
    }

    /// The writing side.
    pub fn writer(&mut self) -> &mut StreamWriter {
        &mut self.writer
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.writer).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.writer).poll_shutdown(cx)
    }
}
