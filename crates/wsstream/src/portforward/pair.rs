//! A connection on a pair of SPDY streams: one for its bytes, one for the text of what went wrong.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::PortStream;
use super::stream::{Source, Target};
#[cfg(feature = "server")]
use crate::spdy::{ResetStatus, WriteError};
use crate::spdy::{Stream, StreamWriter};

/// A server's connection, and what is left of it in the hands of the session.
#[cfg(feature = "server")]
pub(super) fn of_server(data: Stream, error: Stream) -> (PortStream, Ending) {
    let (reader, writer) = data.split();
    // A client sends nothing on its error stream; what it sends all the same is thrown away.
    let (_, error) = error.split();
    let home = Arc::new(Home(Mutex::new(Writers { data: None, error: Some(error) })));
    let target = PairTarget { writer: Some(writer), home: Some(Arc::clone(&home)) };
    (PortStream::new(Source::Stream(reader), Target::Stream(target)), Ending(home))
}

/// A client's connection. Its error stream is read beside it.
#[cfg(feature = "client")]
pub(super) fn of_client(data: Stream) -> PortStream {
    let (reader, writer) = data.split();
    let target = PairTarget { writer: Some(writer), home: None };
    PortStream::new(Source::Stream(reader), Target::Stream(target))
}

/// The writing side of the data stream. On a server it is lent to the forwarder and goes home when that drops it: only
/// then is it known whether the stream ends in good order.
#[derive(Debug)]
pub(super) struct PairTarget {
    /// There until it is dropped.
    writer: Option<StreamWriter>,
    home: Option<Arc<Home>>,
}

impl PairTarget {
    pub(super) fn writer(&mut self) -> io::Result<&mut StreamWriter> {
        self.writer.as_mut().ok_or_else(|| io::ErrorKind::BrokenPipe.into())
    }

    /// The end of this direction. On a server the error stream ends first: kubectl before 1.32 waits for that before it
    /// closes its local connection, and so do clients behind it that wait for that close before they close theirs.
    pub(super) fn close(&mut self) -> io::Result<()> {
        if let Some(home) = &self.home {
            home.lock().close_error();
        }
        Ok(self.writer()?.close()?)
    }
}

impl Drop for PairTarget {
    fn drop(&mut self) {
        if let (Some(home), Some(writer)) = (&self.home, self.writer.take()) {
            home.lock().data = Some(writer);
        }
    }
}

/// Where the writing sides of a server's pair are when the forwarder has no use for them.
#[derive(Debug)]
pub(super) struct Home(Mutex<Writers>);

#[derive(Debug)]
struct Writers {
    data: Option<StreamWriter>,
    /// There until it is closed.
    error: Option<StreamWriter>,
}

impl Home {
    fn lock(&self) -> MutexGuard<'_, Writers> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Writers {
    fn close_error(&mut self) {
        if let Some(mut error) = self.error.take() {
            // A client that has reset it has no use for its end.
            let _ = error.close();
        }
    }
}

/// How a server's connection ends.
#[cfg(feature = "server")]
#[derive(Debug)]
pub(super) struct Ending(Arc<Home>);

#[cfg(feature = "server")]
impl Ending {
    /// In good order: both streams end behind what was sent. What the client still sends is thrown away.
    pub(super) fn finish(self) {
        let mut writers = self.0.lock();
        writers.close_error();
        if let Some(mut data) = writers.data.take() {
            // Reset by the client, which has no use for the rest.
            let _ = data.close();
        }
    }

    /// The data stream is reset behind what was sent, the error stream ends without a word.
    pub(super) fn reset(self) {
        let mut writers = self.0.lock();
        writers.close_error();
        if let Some(mut data) = writers.data.take() {
            data.reset_after_data(ResetStatus::CANCEL);
        }
    }

    /// As [`reset`](Self::reset), with `text` on the error stream first. Clients of Go end their session at such a text.
    pub(super) async fn report(self, text: String) -> Result<(), WriteError> {
        // Closed already when the other direction has ended in good order: then the reset alone tells.
        let error = self.0.lock().error.take();
        let sent = match error {
            Some(mut error) => match error.send(text.into()).await {
                Ok(()) => error.close(),
                failed => failed,
            },
            None => Ok(()),
        };
        self.reset();
        sent
    }
}
