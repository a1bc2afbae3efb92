//! One forwarded connection as a stream of bytes, whatever carries it.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::channel::{ChannelSource, ChannelTarget};
use super::pair::PairTarget;
use crate::meter::Meter;
use crate::spdy::{StreamReader, Watch};

/// A forwarded connection: bytes both ways, each with an end of its own.
///
/// Over SPDY either direction can end alone, as in TCP. The v4 channels have no bytes for that
/// ([`half_closes`](Self::half_closes)): there the client's end of data is its Close of the session, and a server that ends
/// its direction ends the other with it.
#[derive(Debug)]
pub struct PortStream {
    reader: PortReader,
    writer: PortWriter,
}

impl PortStream {
    pub(super) fn new(from: Source, to: Target) -> Self {
        Self {
            reader: PortReader { from, rest: Bytes::new(), meter: None },
            writer: PortWriter { to, closed: false, meter: None },
        }
    }

    /// Counts what goes either way from now on. What a meter counts may still be on its way to the peer.
    pub fn measure(&mut self, meter: &Arc<Meter>) {
        self.reader.meter = Some(Arc::clone(meter));
        self.writer.meter = Some(Arc::clone(meter));
    }

    /// The next bytes, never empty, or `None` when the peer has ended its direction. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The peer reset the connection, or the session is lost: what was read is not the whole.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        self.reader.chunk().await
    }

    /// Sends `data`, without copying it when it is long; keep it to 32 KiB. Resolves when it is queued whole, which waits
    /// for a peer that reads slowly. Cancel-safe: dropped, it was sent whole or not at all.
    ///
    /// # Errors
    ///
    /// The peer reset the connection, or the session is lost.
    pub async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.writer.send(data).await
    }

    /// Ends this side's direction, behind everything that was sent. Doing it twice is the same as once.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] for a client over channels, where the server sees it only when the session closes.
    /// Otherwise the connection is over already.
    pub fn close(&mut self) -> io::Result<()> {
        self.writer.close()
    }

    /// Whether one direction can end before the other.
    #[must_use]
    pub fn half_closes(&self) -> bool {
        matches!(self.reader.from, Source::Stream(_))
    }

    /// Tells what becomes of the connection while nobody reads it.
    #[cfg(feature = "server")]
    pub(super) fn fate(&self) -> Fate {
        self.reader.fate()
    }

    /// The peer's end of data was its last word: it takes nothing any more.
    pub(super) fn ends_with_input(&self) -> bool {
        matches!(&self.reader.from, Source::Channel(channel) if channel.is_server())
    }

    /// One stream of the two directions that [`split`](Self::split) gave.
    #[must_use]
    pub fn join(reader: PortReader, writer: PortWriter) -> Self {
        Self { reader, writer }
    }

    /// The two directions, to be used at the same time.
    #[must_use]
    pub fn split(self) -> (PortReader, PortWriter) {
        (self.reader, self.writer)
    }
}

impl AsyncRead for PortStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, buf)
    }
}

/// `shutdown` is [`close`](PortStream::close); where that is not possible it only flushes.
impl AsyncWrite for PortStream {
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

/// Where the bytes of a connection come from.
#[derive(Debug)]
pub(super) enum Source {
    Channel(ChannelSource),
    Stream(StreamReader),
}

/// Where they go.
#[derive(Debug)]
pub(super) enum Target {
    Channel(ChannelTarget),
    Stream(PairTarget),
}

/// What comes from the peer. Dropped, the rest of it is thrown away and holds nobody up.
#[derive(Debug)]
pub struct PortReader {
    from: Source,
    /// What `AsyncRead` has begun to hand out; counted already.
    rest: Bytes,
    meter: Option<Arc<Meter>>,
}

impl PortReader {
    /// As [`PortStream::chunk`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        std::future::poll_fn(|cx| self.poll_chunk(cx)).await
    }

    /// Whether the end that was read is only this side's own. A server's channel that has ended its direction reads nothing
    /// more, because the client cannot be told of the one without the other; it may have had more to say.
    #[must_use]
    pub fn is_cut(&self) -> bool {
        matches!(&self.from, Source::Channel(channel) if channel.is_cut())
    }

    /// Tells what becomes of the connection while nobody reads it.
    pub(super) fn fate(&self) -> Fate {
        match &self.from {
            // A session over channels is one connection for each port: its loss is theirs, and shows when writing.
            Source::Channel(_) => Fate(None),
            Source::Stream(stream) => Fate(Some(stream.watch())),
        }
    }

    /// The polled form of [`chunk`](Self::chunk).
    ///
    /// # Errors
    ///
    /// As [`chunk`](Self::chunk).
    pub fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        if !self.rest.is_empty() {
            return Poll::Ready(Ok(Some(std::mem::take(&mut self.rest))));
        }
        let chunk = match &mut self.from {
            Source::Channel(channel) => ready!(channel.poll_chunk(cx))?,
            Source::Stream(stream) => ready!(stream.poll_chunk(cx))?,
        };
        self.count(chunk.as_ref().map_or(0, Bytes::len));
        Poll::Ready(Ok(chunk))
    }

    fn count(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.add_input(bytes);
        }
    }

    /// What has come already, never empty, without waiting: `None` when nothing has, also at the end and when the
    /// connection is lost, which [`chunk`](Self::chunk) tells. To be asked behind it, so that several pieces can be handed
    /// on in one (vectored) write: a piece ends where the read from the wire did, in the middle of a message or behind one.
    pub fn try_chunk(&mut self) -> Option<Bytes> {
        if !self.rest.is_empty() {
            return Some(std::mem::take(&mut self.rest));
        }
        let chunk = match &mut self.from {
            Source::Channel(channel) => channel.try_chunk(),
            Source::Stream(stream) => stream.try_chunk(),
        }?;
        self.count(chunk.len());
        Some(chunk)
    }
}

/// What the peer did, whether or not it was read: a reset must be noticed also by whom is busy writing elsewhere.
#[derive(Debug)]
pub(super) struct Fate(Option<Watch>);

impl Fate {
    /// Waits for a reset.
    pub(super) async fn reset(&self) {
        match &self.0 {
            Some(watch) => watch.reset().await,
            None => std::future::pending().await,
        }
    }

    /// Waits for a reset that leaves what the peer has sent without its end.
    pub(super) async fn cut(&self) {
        self.reset().await;
        if self.is_whole() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether all that the peer had to send has arrived.
    pub(super) fn is_whole(&self) -> bool {
        self.0.as_ref().and_then(Watch::finished) == Some(true)
    }
}

impl AsyncRead for PortReader {
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

/// What goes to the peer.
///
/// Dropped without [`close`](Self::close), a client's connection is reset, so that what was sent is not taken for the
/// whole. On a server what the forwarder returns decides.
pub struct PortWriter {
    to: Target,
    closed: bool,
    meter: Option<Arc<Meter>>,
}

impl PortWriter {
    /// As [`PortStream::send`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.writable()?;
        if data.is_empty() {
            return Ok(());
        }
        let bytes = data.len();
        match &mut self.to {
            Target::Channel(channel) => channel.writer().send(data).await?,
            Target::Stream(pair) => pair.writer()?.send(data).await?,
        }
        self.count(bytes);
        Ok(())
    }

    fn count(&self, bytes: usize) {
        if let Some(meter) = &self.meter {
            meter.add_output(bytes);
        }
    }

    /// As [`PortStream::close`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn close(&mut self) -> io::Result<()> {
        if self.closed {
            return Ok(());
        }
        match &mut self.to {
            Target::Channel(channel) => channel.close()?,
            Target::Stream(pair) => pair.close()?,
        }
        self.closed = true;
        Ok(())
    }

    fn writable(&self) -> io::Result<()> {
        if self.closed { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }
}

/// `shutdown` is [`close`](Self::close); where that is not possible it only flushes.
impl AsyncWrite for PortWriter {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.writable()?;
        let written = match &mut self.to {
            Target::Channel(channel) => ready!(Pin::new(channel.writer()).poll_write(cx, data))?,
            Target::Stream(pair) => ready!(Pin::new(pair.writer()?).poll_write(cx, data))?,
        };
        self.count(written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.to {
            Target::Channel(channel) => Pin::new(channel.writer()).poll_flush(cx),
            Target::Stream(pair) => Pin::new(pair.writer()?).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.close() {
            Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
            done => done?,
        }
        self.poll_flush(cx)
    }
}

impl fmt::Debug for PortWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PortWriter").field("closed", &self.closed).finish_non_exhaustive()
    }
}
