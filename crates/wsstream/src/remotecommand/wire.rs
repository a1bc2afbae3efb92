//! One stream of a command, whatever carries it: a channel of a WebSocket, or a SPDY stream.
//!
//! This is the only place where remote commands see the difference; everything above it has one surface.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
#[cfg(feature = "server")]
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use wsstream_proto::channel::ChannelId;
use wsstream_proto::stream_type::StreamType;

#[cfg(feature = "server")]
use super::SessionEnd;
#[cfg(feature = "server")]
use crate::connection;
use crate::connection::{ChannelReader, ChannelWriter, Stats};
#[cfg(feature = "server")]
use crate::spdy;
use crate::spdy::{ReadError, StreamReader, StreamWriter};

/// How many bytes went over the streams of a SPDY session. Stream ids say nothing about what a stream is for, so it is
/// counted here, under the numbers of the channels.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Received and sent.
    counts: [[AtomicU64; 5]; 2],
    /// A reader found that the connection was over before its stream was.
    cut: AtomicBool,
    /// Writers that say nothing, until the session is over.
    silent: Mutex<Vec<StreamWriter>>,
}

impl Counts {
    fn add(&self, way: usize, channel: ChannelId, bytes: usize) {
        if let Some(count) = self.0.counts.get(way).and_then(|way| way.get(usize::from(channel.0))) {
            count.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// Whether a reader has found its stream cut.
    #[cfg(feature = "client")]
    pub(super) fn is_cut(&self) -> bool {
        self.0.cut.load(Ordering::Relaxed)
    }

    /// Notes why a stream could not be read any further. A reset that the peer sent is an end of sorts.
    fn note(&self, error: &ReadError) {
        if !matches!(error, ReadError::Reset(_)) {
            self.0.cut.store(true, Ordering::Relaxed);
        }
    }

    /// Keeps the writing side of a stream that this side only reads. Ending it early would be understood: client-go
    /// ends stdin when the server ends its side of it.
    pub(super) fn keep_silent(&self, writer: StreamWriter) {
        self.0.silent.lock().unwrap_or_else(PoisonError::into_inner).push(writer);
    }

    /// What was read and sent so far.
    pub(super) fn stats(&self) -> Stats {
        let [received, sent] = &self.0.counts;
        let load =
            |counts: &[AtomicU64; 5]| counts.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let mut stats = Stats::default();
        (stats.received, stats.sent) = (load(received), load(sent));
        stats
    }
}

/// The channel that carries over WebSocket what `kind` is over SPDY.
fn channel(kind: StreamType) -> ChannelId {
    match kind {
        StreamType::Stdin => ChannelId::STDIN,
        StreamType::Stdout | StreamType::Data => ChannelId::STDOUT,
        StreamType::Stderr => ChannelId::STDERR,
        StreamType::Error => ChannelId::ERROR,
        StreamType::Resize => ChannelId::RESIZE,
    }
}

/// The reading side.
#[derive(Debug)]
pub(super) enum WireReader {
    Channel(ChannelReader),
    Stream(StreamReader, Counts, ChannelId),
}

impl WireReader {
    /// Of a SPDY stream that carries `kind`.
    pub(super) fn stream(reader: StreamReader, counts: &Counts, kind: StreamType) -> Self {
        Self::Stream(reader, counts.clone(), channel(kind))
    }

    /// The next bytes, never empty, or `None` at their end. Cancel-safe.
    pub(super) async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        match self {
            Self::Channel(reader) => Ok(reader.chunk().await?),
            Self::Stream(reader, counts, channel) => {
                let chunk = reader.chunk().await.inspect_err(|error| counts.note(error))?;
                counts.add(0, *channel, chunk.as_ref().map_or(0, Bytes::len));
                Ok(chunk)
            }
        }
    }

    /// What has come already, without waiting.
    pub(super) fn try_chunk(&mut self) -> Option<Bytes> {
        match self {
            Self::Channel(reader) => reader.try_chunk(),
            Self::Stream(reader, counts, channel) => {
                let chunk = reader.try_chunk()?;
                counts.add(0, *channel, chunk.len());
                Some(chunk)
            }
        }
    }
}

impl AsyncRead for WireReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Channel(reader) => Pin::new(reader).poll_read(cx, buf),
            Self::Stream(reader, counts, channel) => {
                let before = buf.filled().len();
                if let Err(error) = ready!(Pin::new(reader).poll_read(cx, buf)) {
                    if let Some(error) = error.get_ref().and_then(|error| error.downcast_ref()) {
                        counts.note(error);
                    } else {
                        counts.0.cut.store(true, Ordering::Relaxed);
                    }
                    return Poll::Ready(Err(error));
                }
                counts.add(0, *channel, buf.filled().len() - before);
                Poll::Ready(Ok(()))
            }
        }
    }
}

/// The writing side.
#[derive(Debug)]
pub(super) enum WireWriter {
    Channel(ChannelWriter),
    Stream(StreamWriter, Counts, ChannelId),
}

impl WireWriter {
    /// Of a SPDY stream that carries `kind`.
    pub(super) fn stream(writer: StreamWriter, counts: &Counts, kind: StreamType) -> Self {
        Self::Stream(writer, counts.clone(), channel(kind))
    }

    /// Sends `data`, which is not empty: as one message, or in frames. Cancel-safe: whole or not at all.
    pub(super) async fn send(&mut self, data: Bytes) -> io::Result<()> {
        match self {
            Self::Channel(writer) => Ok(writer.send(data).await?),
            Self::Stream(writer, counts, channel) => {
                let length = data.len();
                writer.send(data).await?;
                counts.add(1, *channel, length);
                Ok(())
            }
        }
    }

    /// Says nothing any more. A SPDY stream stays open until the session ends: a reset would be an end of input to Go's
    /// servers, so that a copy that failed half-way would pass for a whole one.
    #[cfg(feature = "client")]
    pub(super) fn leave(self) {
        if let Self::Stream(writer, counts, _) = self {
            counts.keep_silent(writer);
        }
    }

    /// Ends a SPDY stream behind what was sent, and is nothing on a channel: servers send no CLOSE.
    #[cfg(feature = "server")]
    pub(super) fn finish(&mut self) {
        if let Self::Stream(writer, ..) = self {
            // A stream that is over needs no end.
            let _ = writer.close();
        }
    }

    /// Says that nothing follows what was sent, where the wire can: CLOSE (a client's, from v5 on) or FIN.
    #[cfg(feature = "client")]
    pub(super) fn close(&mut self) -> io::Result<()> {
        match self {
            Self::Channel(writer) => Ok(writer.close()?),
            Self::Stream(writer, ..) => Ok(writer.close()?),
        }
    }
}

impl AsyncWrite for WireWriter {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Channel(writer) => Pin::new(writer).poll_write(cx, data),
            Self::Stream(writer, counts, channel) => {
                let written = ready!(Pin::new(writer).poll_write(cx, data))?;
                counts.add(1, *channel, written);
                Poll::Ready(Ok(written))
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Channel(writer) => Pin::new(writer).poll_flush(cx),
            Self::Stream(writer, ..) => Pin::new(writer).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Channel(writer) => Pin::new(writer).poll_shutdown(cx),
            Self::Stream(writer, ..) => Pin::new(writer).poll_shutdown(cx),
        }
    }
}

/// Tells when the peer has left.
#[cfg(feature = "server")]
#[derive(Debug, Clone)]
pub(super) enum Gone {
    WebSocket(connection::Disconnect),
    Spdy(spdy::Disconnect),
}

#[cfg(feature = "server")]
impl Gone {
    pub(super) async fn wait(&self) -> SessionEnd {
        match self {
            Self::WebSocket(gone) => SessionEnd::WebSocket(gone.wait().await),
            Self::Spdy(gone) => SessionEnd::Spdy(gone.wait().await),
        }
    }

    /// What a handler is told when the session has been idle for too long.
    pub(super) fn idle(&self, after: Duration) -> SessionEnd {
        match self {
            Self::WebSocket(_) => SessionEnd::WebSocket(connection::End::Lost(connection::Loss::Idle(after))),
            Self::Spdy(_) => SessionEnd::Spdy(spdy::End::Lost(spdy::Loss::Idle(after))),
        }
    }
}
