//! The client's ends of a command's streams.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wsstream_proto::terminal_size::TerminalSize;

use crate::remotecommand::wire::{WireReader, WireWriter};

/// What a command prints on stdout or stderr. Dropped, the rest of it is thrown away and holds nothing up.
#[derive(Debug)]
pub struct OutputReader(pub(super) WireReader);

impl OutputReader {
    /// The next bytes, never empty, or `None` at the end of the output. Without a copy where they came in large pieces.
    /// Cancel-safe: a dropped call loses nothing.
    ///
    /// # Errors
    ///
    /// The session ended before the output did; the [`Outcome`](crate::remotecommand::Outcome) tells more.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.0.chunk().await
    }

    /// What has come already, never empty, without waiting: `None` when nothing has, also at the end and when the session
    /// is lost, which [`chunk`](Self::chunk) tells. To be asked behind it, so that several pieces can be handed on in one
    /// (vectored) write.
    pub fn try_chunk(&mut self) -> Option<Bytes> {
        self.0.try_chunk()
    }
}

impl AsyncRead for OutputReader {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

/// The command's standard input.
#[derive(Debug)]
pub struct Stdin(Option<WireWriter>);

impl Stdin {
    pub(super) fn new(writer: WireWriter) -> Self {
        Self(Some(writer))
    }

    /// There until it is dropped.
    fn writer(&mut self) -> io::Result<&mut WireWriter> {
        self.0.as_mut().ok_or_else(|| io::ErrorKind::NotConnected.into())
    }

    /// Sends `data` as one message; resolves when it is queued whole. Cancel-safe: sent whole or not at all.
    ///
    /// # Errors
    ///
    /// The connection is lost or closing, which happens also when the command ends early.
    pub async fn send(&mut self, data: Bytes) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        self.writer()?.send(data).await
    }

    /// Ends the command's input, behind everything that was sent.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] over WebSocket before v5, where no such signal exists. Otherwise the connection is lost or closing.
    pub fn close(&mut self) -> io::Result<()> {
        self.writer()?.close()
    }
}

/// Each write is one message of at most 32 KiB; `shutdown` ends the command's input, and is an error over WebSocket before
/// v5.
impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self.writer()?).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.writer()?).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.writer()?).poll_shutdown(cx)
    }
}

impl Drop for Stdin {
    fn drop(&mut self) {
        if let Some(writer) = self.0.take() {
            writer.leave();
        }
    }
}

/// Tells the server the size of the terminal.
pub struct ResizeSender(pub(super) WireWriter);

impl ResizeSender {
    /// Sends a size. Cancel-safe: sent whole or not at all.
    ///
    /// # Errors
    ///
    /// The connection is lost or closing.
    pub async fn send(&mut self, size: TerminalSize) -> io::Result<()> {
        self.0.send(size.encode().into()).await
    }
}

impl fmt::Debug for ResizeSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResizeSender")
    }
}
