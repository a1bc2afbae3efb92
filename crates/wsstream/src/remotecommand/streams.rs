//! The streams of one command as a handler sees them, whatever carries them.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{Notify, watch};
use wsstream_proto::terminal_size::{Decoder, TerminalSize};

use super::SessionEnd;
use super::wire::{Gone, WireReader, WireWriter};
use crate::gather::Pieces;
use crate::meter::Meter;

/// The streams that the client asked for. *Not requested* is `None`; a stream that is requested and *at its end* is
/// there and says so.
#[derive(Debug)]
#[non_exhaustive]
pub struct Streams {
    /// What the client types or pipes in.
    pub stdin: Option<Input>,
    /// What the command prints.
    pub stdout: Option<Output>,
    /// What the command complains about; never with a terminal, which has one output.
    pub stderr: Option<Output>,
    /// Sizes of the client's terminal; there exactly when a terminal was asked for.
    pub resize: Option<Resizes>,
    /// Tells when the client is gone.
    pub disconnect: Disconnect,
}

impl Streams {
    pub(super) fn new(disconnect: Disconnect) -> Self {
        Self { stdin: None, stdout: None, stderr: None, resize: None, disconnect }
    }

    /// Counts what goes over the streams from now on. What a meter counts may still be on its way to the client.
    pub fn measure(&mut self, meter: &Arc<Meter>) {
        if let Some(stdin) = &mut self.stdin {
            stdin.meter = Some(Arc::clone(meter));
        }
        if let Some(stdout) = &mut self.stdout {
            stdout.meter = Some(Arc::clone(meter));
        }
        if let Some(stderr) = &mut self.stderr {
            (stderr.meter, stderr.errors) = (Some(Arc::clone(meter)), true);
        }
    }
}

/// The command's standard input.
#[derive(Debug)]
pub struct Input {
    wire: WireReader,
    meter: Option<Arc<Meter>>,
}

impl Input {
    pub(super) fn new(wire: WireReader) -> Self {
        Self { wire, meter: None }
    }

    fn count(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.add_input(bytes);
        }
    }

    /// The next bytes, never empty, or `None` at the end of input: the client closed stdin (v5, SPDY), or, where a
    /// version has no such signal, the connection in good order. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The connection was lost, or the client reset the stream: what was read is not all of the input.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let chunk = self.wire.chunk().await?;
        self.count(chunk.as_ref().map_or(0, Bytes::len));
        Ok(chunk)
    }

    /// What has come already, never empty, without waiting: `None` when nothing has, also at the end and when the
    /// connection is lost, which [`chunk`](Self::chunk) tells. To be asked behind it, so that several pieces can be handed
    /// on in one (vectored) write: a piece ends where the read from the wire did, in the middle of a message or behind one.
    pub fn try_chunk(&mut self) -> Option<Bytes> {
        let chunk = self.wire.try_chunk()?;
        self.count(chunk.len());
        Some(chunk)
    }

    /// Hands everything on to `to`, the command's end of a pipe, until the end of input; returns how many bytes that were.
    /// Pieces that have come together are one write where `to` takes vectored writes. `to` is flushed behind each write and
    /// not shut down: drop it. Not cancel-safe: what was taken from the client may be lost with the future.
    ///
    /// # Errors
    ///
    /// As [`chunk`](Self::chunk), or `to` takes no more: a command that closes its stdin early is no failure, and the rest
    /// of the input should then be read and thrown away, so that the client is not held up.
    pub async fn hand_on(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<u64> {
        let mut bytes = 0;
        while let Some(first) = self.chunk().await? {
            let pieces = Pieces::gather(first, || self.try_chunk());
            pieces.write_to(to).await?;
            bytes += pieces.len() as u64;
        }
        Ok(bytes)
    }
}

impl AsyncRead for Input {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.wire).poll_read(cx, buf))?;
        self.count(buf.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

/// One of the command's outputs. Closing or dropping it tells a WebSocket client nothing and ends the stream of a SPDY
/// client; only the status says how the command ended.
#[derive(Debug)]
pub struct Output {
    wire: WireWriter,
    meter: Option<Arc<Meter>>,
    /// It counts as stderr.
    errors: bool,
}

impl Output {
    pub(super) fn new(wire: WireWriter) -> Self {
        Self { wire, meter: None, errors: false }
    }

    fn count(&self, bytes: usize) {
        match &self.meter {
            Some(meter) if self.errors => meter.add_errors(bytes),
            Some(meter) => meter.add_output(bytes),
            None => {}
        }
    }

    /// Sends `data` as one message, without copying it when it is long. Resolves when it is queued whole, which waits
    /// for a client that reads slowly; what is queued is delivered before the status. Cancel-safe: dropped, it was sent
    /// whole or not at all.
    ///
    /// Keep `data` to 32 KiB: more in one write is slower, and some clients take no more. Empty data is not sent: to
    /// a client it would be a ready signal.
    ///
    /// # Errors
    ///
    /// The connection is lost or closing.
    pub async fn send(&mut self, data: Bytes) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let bytes = data.len();
        self.wire.send(data).await?;
        self.count(bytes);
        Ok(())
    }
}

impl AsyncWrite for Output {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.wire).poll_write(cx, data))?;
        self.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_flush(cx)
    }
}

impl Drop for Output {
    fn drop(&mut self) {
        self.wire.finish();
    }
}

/// Tells when the client has closed the connection, the connection is lost, or the session was idle for too long.
#[derive(Debug, Clone)]
pub struct Disconnect {
    gone: Gone,
    idle: watch::Receiver<Option<Duration>>,
}

impl Disconnect {
    pub(super) fn new(gone: Gone, idle: watch::Receiver<Option<Duration>>) -> Self {
        Self { gone, idle }
    }

    /// Waits for it. A client that has closed in good order may still take output and the status. Cancel-safe;
    /// resolves at once afterwards.
    pub async fn wait(&self) -> SessionEnd {
        let mut idle = self.idle.clone();
        let idle = async {
            match idle.wait_for(Option::is_some).await.ok().and_then(|after| *after) {
                Some(after) => self.gone.idle(after),
                // The session is over, and was never idle for too long.
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            end = self.gone.wait() => end,
            end = idle => end,
        }
    }
}

/// How many sizes wait for a handler that does not take them. Two matter: kubectl's attach sends a size that is one too
/// large and then the right one, to force a redraw, and both must arrive.
const MAX_SIZES: usize = 8;

#[derive(Debug, Default)]
struct Sizes {
    waiting: VecDeque<TerminalSize>,
    ended: bool,
}

#[derive(Debug, Default)]
struct Queue {
    sizes: Mutex<Sizes>,
    changed: Notify,
}

/// Sizes of the client's terminal, in order. When the handler falls behind, the oldest are forgotten: the newest wins.
pub struct Resizes(Arc<Queue>);

impl Resizes {
    /// The next size, or `None` when no more will come. Cancel-safe.
    pub async fn next(&mut self) -> Option<TerminalSize> {
        loop {
            let changed = self.0.changed.notified();
            {
                let mut sizes = self.0.sizes.lock().unwrap_or_else(PoisonError::into_inner);
                match sizes.waiting.pop_front() {
                    Some(size) => return Some(size),
                    None if sizes.ended => return None,
                    None => {}
                }
            }
            changed.await;
        }
    }
}

impl fmt::Debug for Resizes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resizes")
    }
}

/// Decodes the resize channel. It never waits for the handler, so the channel never fills the receive buffer.
pub(super) struct ResizePump {
    reader: WireReader,
    decoder: Decoder,
    queue: Arc<Queue>,
}

impl ResizePump {
    pub(super) fn new(reader: WireReader) -> (Self, Resizes) {
        let queue = Arc::new(Queue::default());
        let resizes = Resizes(Arc::clone(&queue));
        (Self { reader, decoder: Decoder::new(), queue }, resizes)
    }

    /// Runs until the channel ends.
    pub(super) async fn run(&mut self) {
        while let Ok(Some(chunk)) = self.reader.chunk().await {
            let before = self.decoder.dropped();
            {
                let mut sizes = self.queue.sizes.lock().unwrap_or_else(PoisonError::into_inner);
                for size in self.decoder.push(&chunk) {
                    if sizes.waiting.len() == MAX_SIZES {
                        sizes.waiting.pop_front();
                    }
                    sizes.waiting.push_back(size);
                }
            }
            let dropped = self.decoder.dropped() - before;
            if dropped > 0 {
                tracing::debug!(dropped, "dropped malformed or out-of-range terminal sizes");
            }
            self.queue.changed.notify_one();
        }
        self.queue.sizes.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.queue.changed.notify_one();
    }

    /// Sizes that were malformed or out of range.
    pub(super) fn dropped(&self) -> u64 {
        self.decoder.dropped()
    }
}
