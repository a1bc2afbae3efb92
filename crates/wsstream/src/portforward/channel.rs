//! A connection on a data channel of the v4 protocols, which knows neither connections nor their ends.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::{Buf, Bytes};
use wsstream_proto::channel::ChannelId;
use wsstream_proto::portforward::preamble;

use super::PortStream;
use super::stream::{Source, Target};
use crate::connection::{ChannelReader, ChannelWriter, ReadError};

/// What our server gives as the reason of a session's end (code 1011) when its last connection failed.
pub(super) const FAILED: &str = "the connection to the port failed";

/// A server's connection. It has said its port already.
#[cfg(feature = "server")]
pub(super) fn of_server(reader: ChannelReader, writer: ChannelWriter) -> PortStream {
    let tie = Arc::<Tie>::default();
    let source = ChannelSource {
        reader,
        tie: Some(Arc::clone(&tie)),
        preamble: Preamble::read(),
        errors: None,
        cut: false,
    };
    PortStream::new(Source::Channel(source), Target::Channel(ChannelTarget { writer, tie: Some(tie) }))
}

/// A client's connection to `port`.
#[cfg(feature = "client")]
pub(super) fn of_client(port: u16, reader: ChannelReader, writer: ChannelWriter) -> PortStream {
    let errors = reader.channel().0.checked_add(1).map(ChannelId);
    let source = ChannelSource { reader, tie: None, preamble: Preamble::expect(port), errors, cut: false };
    PortStream::new(Source::Channel(source), Target::Channel(ChannelTarget { writer, tie: None }))
}

#[derive(Debug)]
pub(super) struct ChannelSource {
    reader: ChannelReader,
    tie: Option<Arc<Tie>>,
    preamble: Preamble,
    /// A client's: where the server says that the connection failed. What comes there is read elsewhere.
    errors: Option<ChannelId>,
    /// The end that was read is not the peer's.
    cut: bool,
}

impl ChannelSource {
    pub(super) fn is_cut(&self) -> bool {
        self.cut
    }

    pub(super) fn is_server(&self) -> bool {
        self.tie.is_some()
    }

    /// Behind [`poll_chunk`](Self::poll_chunk), which knows of the preamble and of the ends.
    pub(super) fn try_chunk(&mut self) -> Option<Bytes> {
        if self.cut || !self.preamble.is_read() { None } else { self.reader.try_chunk() }
    }

    pub(super) fn poll_chunk(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        loop {
            if self.tie.as_ref().is_some_and(|tie| tie.is_cut(cx)) {
                self.cut = true;
                return Poll::Ready(Ok(None));
            }
            let chunk = match ready!(self.reader.poll_chunk(cx)) {
                // The session has one end for all of its connections. Which of them failed, the error channels say.
                Err(ReadError::Closed(end)) if self.errors.is_some() && end.reason == FAILED => None,
                read => read?,
            };
            let Some(mut chunk) = chunk else {
                return Poll::Ready(self.failure().map_or(Ok(None), Err));
            };
            self.preamble.take(&mut chunk)?;
            if !chunk.is_empty() {
                return Poll::Ready(Ok(Some(chunk)));
            }
        }
    }
}

#[cfg(not(feature = "client"))]
impl ChannelSource {
    fn failure(&self) -> Option<io::Error> {
        None
    }
}

#[cfg(feature = "client")]
impl ChannelSource {
    /// What makes of the end of the session no end of this connection. Upstream's server ends with Close 1000 also when the
    /// last connection failed, and what it says on the error channel before is the only sign.
    fn failure(&self) -> Option<io::Error> {
        let (gone, waiting) = self.reader.glimpse(self.errors?, MAX_REASON);
        let preamble = preamble(self.preamble.port).len();
        let unread = preamble.saturating_sub(usize::try_from(gone).unwrap_or(usize::MAX));
        let text = waiting.get(unread..).unwrap_or_default();
        if gone <= preamble as u64 && text.is_empty() {
            return None;
        }
        // It may have been read already, by whom it is meant for.
        let text = String::from_utf8_lossy(text);
        let text = match text.trim() {
            "" => "the server says on the error channel that it failed",
            text => text,
        };
        Some(io::Error::new(io::ErrorKind::ConnectionAborted, text))
    }
}

/// How much of the server's text an error has, in bytes; the report has all of it.
#[cfg(feature = "client")]
const MAX_REASON: usize = 1024;

#[derive(Debug)]
pub(super) struct ChannelTarget {
    writer: ChannelWriter,
    tie: Option<Arc<Tie>>,
}

impl ChannelTarget {
    pub(super) fn writer(&mut self) -> &mut ChannelWriter {
        &mut self.writer
    }

    pub(super) fn close(&mut self) -> io::Result<()> {
        let text = "channels have no end of data before the session's";
        let tie = self.tie.as_ref().ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, text))?;
        tie.cut();
        Ok(())
    }
}

/// The port that comes first on a channel, as far as it was not read yet. Messages mean nothing here: it may come in two.
#[derive(Debug)]
pub(super) struct Preamble {
    port: u16,
    read: usize,
}

impl Preamble {
    /// The server of this port says it first.
    #[cfg(feature = "client")]
    pub(super) fn expect(port: u16) -> Self {
        Self { port, read: 0 }
    }

    /// It was said already, or is never said.
    #[cfg(feature = "server")]
    fn read() -> Self {
        Self { port: 0, read: 2 }
    }

    fn is_read(&self) -> bool {
        self.read == preamble(self.port).len()
    }

    /// Takes it off what was received.
    pub(super) fn take(&mut self, chunk: &mut Bytes) -> io::Result<()> {
        while let (Some(expected), Some(byte)) = (preamble(self.port).get(self.read), chunk.first()) {
            if byte != expected {
                let text = format!("the server answers for another port than {}", self.port);
                return Err(io::Error::new(io::ErrorKind::InvalidData, text));
            }
            self.read += 1;
            chunk.advance(1);
        }
        Ok(())
    }
}

/// Ties the two directions of a server's channel to each other: when what is written has ended, so has what is read,
/// because the client cannot be told of the one alone.
#[derive(Debug, Default)]
pub(super) struct Tie(Mutex<Tied>);

#[derive(Debug, Default)]
struct Tied {
    cut: bool,
    reader: Option<Waker>,
}

impl Tie {
    fn lock(&self) -> MutexGuard<'_, Tied> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asked by the reader, which is woken when it changes.
    fn is_cut(&self, cx: &mut Context<'_>) -> bool {
        let mut tied = self.lock();
        if !tied.cut && tied.reader.as_ref().is_none_or(|waker| !waker.will_wake(cx.waker())) {
            tied.reader = Some(cx.waker().clone());
        }
        tied.cut
    }

    fn cut(&self) {
        let waker = {
            let mut tied = self.lock();
            tied.cut = true;
            tied.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}
