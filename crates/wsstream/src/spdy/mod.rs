//! SPDY/3.1 connections over any byte stream, and their streams.
//!
//! A [`Builder`] turns a stream whose upgrade is done into a [`Connection`] (the handle) and a [`Driver`] (the future
//! that moves it). It runs over a socket and, unchanged, through a [`Tunnel`]. What a stream
//! means is the business of the layers above.
//!
//! # Back-pressure
//!
//! SPDY as Kubernetes speaks it has no flow control. Each stream has a queue of its own, and reading goes on while all
//! queues together stay inside [`receive_buffer`](crate::limits::SpdyLimits::receive_buffer): a stream that nobody
//! reads does not hold the others up until then. When the buffer is full nothing more is read and TCP pushes back; only
//! when that starves another stream for [`stall_grace`](crate::limits::SpdyLimits::stall_grace) is the stalled one
//! given up. Reading never waits for writing, so two peers that flood each other get on as long as their readers do.
//!
//! # Events
//!
//! `tracing` events, target `wsstream::spdy::core`: at `warn` a protocol violation by the peer, a stream refused or
//! evicted; at `debug` GOAWAY, resets, idle and dead peers, IO errors, and how the connection ended. No payload and no
//! header is ever logged.

mod arrivals;
mod clock;
mod core;
mod driver;
mod end;
mod incoming;
mod reader;
mod slot;
mod stream;
mod turns;
mod watch;
mod writer;

use std::any::Any;
use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use wsstream_proto::spdy::Session;

use self::arrivals::Arrivals;
use self::clock::Clock;
use self::core::{Core, Shared};
use crate::limits::{SpdyLimits, Timeouts};
use crate::transport::{Io, UnsentProbe};
use crate::tunnel::Tunnel;

pub use driver::Driver;
pub use end::{End, Loss, Side};
pub use incoming::Incoming;
pub use reader::{ReadError, StreamReader};
pub use stream::Stream;
pub use watch::Watch;
pub use writer::{StreamWriter, WriteError};
pub use wsstream_proto::spdy::{
    Counts, GoAwayStatus, Headers, HeadersError, ResetStatus, StreamId, Violation,
};

/// What a handle holds on to; the last one dropped closes the connection.
struct Handle {
    shared: Arc<Shared>,
}

impl Handle {
    fn new(shared: Arc<Shared>) -> Self {
        shared.lock().add_handle();
        Self { shared }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared))
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().drop_handle();
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Handle")
    }
}

/// Why no stream was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The connection is over, or ending.
    #[error("{0}")]
    Lost(#[from] Loss),
    /// The peer has said GOAWAY: it takes no more streams.
    #[error("the peer is going away")]
    GoingAway,
    /// All numbers are used up: a new connection is needed.
    #[error("the connection has no stream numbers left")]
    NoNumbersLeft,
    /// The headers cannot be put into a block.
    #[error("the headers cannot be sent: {0}")]
    Headers(#[from] HeadersError),
}

/// What went over a connection so far, and what waits in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Payload bytes that arrived on streams, read or not, without those that nobody was left to read.
    pub received: u64,
    /// Payload bytes that were queued to be sent.
    pub sent: u64,
    /// Payload bytes that arrived and were thrown away: their reader was dropped, or the stream was over.
    pub discarded: u64,
    /// Bytes that wait in this process for their readers, headers of streams that were not accepted yet included.
    pub waiting: usize,
    /// The most that ever waited so.
    pub most_waiting: usize,
    /// Bytes that the wire has not taken.
    pub unsent: usize,
    /// The most that the wire ever had not taken.
    pub most_unsent: usize,
    /// Streams that are open in at least one direction.
    pub open_streams: usize,
    /// Streams that the peer opened.
    pub streams_of_peer: u64,
    /// Streams that were given up because nobody read them while others waited.
    pub evicted: u64,
    /// Pings that were sent and that nothing followed before the next was due or the peer was given up.
    pub pings_missed: u64,
    /// What the session counted.
    pub counts: Counts,
}

/// Prepares a connection.
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `start` is called"]
pub struct Builder {
    is_server: bool,
    limits: SpdyLimits,
    timeouts: Timeouts,
    probe: Option<UnsentProbe>,
    already_read: Bytes,
}

impl Builder {
    /// Begins the server's end. It sends nothing before the client's first frame: client-go loses what comes earlier.
    pub fn server() -> Self {
        Self::new(true)
    }

    /// Begins the client's end. Its default limits let the peer open no streams.
    pub fn client() -> Self {
        let mut builder = Self::new(false);
        builder.limits.session.max_streams = 0;
        builder
    }

    fn new(is_server: bool) -> Self {
        Self {
            is_server,
            limits: SpdyLimits::default(),
            timeouts: Timeouts::default(),
            probe: None,
            already_read: Bytes::new(),
        }
    }

    /// How much may be held and taken.
    pub fn limits(mut self, limits: SpdyLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The clocks. [`unsolicited_pong`](Timeouts::unsolicited_pong) has no meaning here. Without an
    /// [`unsent_probe`](Self::unsent_probe) a silent peer is never taken for dead: Go leaves pings unanswered while one
    /// of its streams is not read.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How to learn what the kernel has not delivered yet; asked while closing, and of a peer that is silent.
    pub fn unsent_probe(mut self, probe: Option<UnsentProbe>) -> Self {
        self.probe = probe;
        self
    }

    /// As [`unsent_probe`](Self::unsent_probe), for a probe that the caller may have given: one that was given counts for
    /// more than the one that was found in the upgrade.
    #[cfg(any(feature = "client", feature = "server"))]
    pub(crate) fn given_probe(self, given: Option<UnsentProbe>) -> Self {
        if given.is_some() { self.unsent_probe(given) } else { self }
    }

    /// Bytes that were read from the stream behind the HTTP head of the upgrade.
    pub fn already_read(mut self, bytes: Bytes) -> Self {
        self.already_read = bytes;
        self
    }

    /// The connection over a stream whose upgrade is done.
    pub fn start(self, io: impl Io + 'static) -> (Connection, Driver) {
        let session = self.limits.session.clone();
        let session = if self.is_server { Session::server(session) } else { Session::client(session) };
        let clock = Clock::new(self.timeouts, &self.limits);
        // Asked here, so that it holds for whoever puts the two together.
        let held = (&io as &dyn Any).downcast_ref::<Tunnel>().map(Tunnel::held);
        let core = Core::new(
            Box::new(io),
            session,
            self.is_server,
            BytesMut::from(self.already_read),
            self.limits,
            clock,
            Arrivals::new(self.probe, held),
        );
        let shared = Arc::new(Shared::new(core));
        (Connection::new(Handle::new(Arc::clone(&shared))), Driver::new(shared))
    }
}

/// The handle of one connection. Clone freely.
///
/// When it, its clones and all its streams are dropped without [`shutdown`](Self::shutdown), the connection resets what
/// is unfinished, says GOAWAY with status 2, and closes. When only streams are left of it, those that the peer opens are
/// refused.
#[derive(Debug)]
pub struct Connection {
    handle: Handle,
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        Self::new(self.handle.clone())
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.handle.shared.lock().drop_acceptor();
    }
}

impl Connection {
    fn new(handle: Handle) -> Self {
        handle.shared.lock().add_acceptor();
        Self { handle }
    }

    /// The next stream that the peer has opened; `None` when no more will come, because the peer said GOAWAY or the
    /// connection is over or closing. Cancel-safe: a dropped call loses no stream. Several may wait.
    pub async fn accept(&self) -> Option<Incoming> {
        poll_fn(|cx| {
            let next = self.handle.shared.lock().poll_accept(cx);
            next.map(|next| {
                next.map(|(id, headers, fin)| Incoming::new(self.handle.clone(), id, headers, fin))
            })
        })
        .await
    }

    /// Opens a stream; with `fin` this side sends nothing on it.
    ///
    /// Resolves when the stream is queued, which waits while
    /// [`send_total`](SpdyLimits::send_total) bytes are queued, and not for the peer's reply: see
    /// [`Stream::replied`]. Cancel-safe: a dropped call has opened nothing.
    ///
    /// # Errors
    ///
    /// One of the sides is going away, the connection is over, or the headers cannot be sent.
    pub async fn open(&self, headers: &Headers, fin: bool) -> Result<Stream, OpenError> {
        let shared = &self.handle.shared;
        let turn = core::Opening::new(shared);
        let id = poll_fn(|cx| shared.lock().poll_open(headers, fin, turn.number(), cx, &shared.write_waker));
        let id = id.await?;
        Ok(Stream::new(self.handle.clone(), id))
    }

    /// Says that somebody waits for a stream that the peer has yet to open, such as the other half of a pair, for as
    /// long as the guard lives: reason enough to evict one that is not read.
    #[must_use]
    pub fn expect_stream(&self) -> Expecting {
        self.handle.shared.lock().expect_stream(true);
        Expecting(Arc::clone(&self.handle.shared))
    }

    /// Ends the connection in good order: resets what this side has not finished behind its data, says GOAWAY behind
    /// everything, shuts the sending side down when the wire has taken all of it, reads and discards until the peer
    /// ends, and ends. The wait is bounded by [`Timeouts::close`], with patience for a peer that is still reading.
    ///
    /// What the peer sends from now on is thrown away, and readers of unfinished streams report [`Loss::ShutDown`].
    /// Calling it again changes nothing.
    pub fn shutdown(&self, status: GoAwayStatus) {
        self.handle.shared.lock().shutdown(status);
    }

    /// Waits until the connection is over and tells how it ended. Cancel-safe; resolves at once afterwards.
    pub async fn ended(&self) -> End {
        poll_fn(|cx| self.handle.shared.lock().poll_end(cx)).await
    }

    /// Waits until the peer has said GOAWAY or ended, or the connection is lost, whichever comes first; not for this
    /// side's own shutdown. Streams that are open go on after GOAWAY. Cancel-safe.
    pub async fn disconnected(&self) -> End {
        poll_fn(|cx| self.handle.shared.lock().poll_disconnect(cx)).await
    }

    /// A handle for [`disconnected`](Self::disconnected) alone, which does not keep the connection open.
    #[must_use]
    pub fn disconnect(&self) -> Disconnect {
        Disconnect(Arc::clone(&self.handle.shared))
    }

    /// When data last went either way; at first, when the connection began.
    #[cfg(feature = "server")]
    pub(crate) fn last_data(&self) -> tokio::time::Instant {
        self.handle.shared.lock().last_data()
    }

    /// Bytes of either this process or its kernel that the peer's kernel has not acknowledged, as far as anybody can tell.
    #[cfg(feature = "client")]
    pub(crate) fn undelivered(&self) -> usize {
        self.handle.shared.lock().undelivered()
    }

    /// What went over the connection so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.shared.lock().stats()
    }
}

/// Tells when the peer has gone or the connection is lost. Clone freely; it does not keep the connection open.
#[derive(Clone)]
pub struct Disconnect(Arc<Shared>);

impl Disconnect {
    /// Waits for it, and tells what happened. Cancel-safe; resolves at once afterwards.
    pub async fn wait(&self) -> End {
        poll_fn(|cx| self.0.lock().poll_disconnect(cx)).await
    }
}

impl fmt::Debug for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disconnect")
    }
}

/// Somebody waits for a stream that the peer has yet to open; see [`Connection::expect_stream`].
pub struct Expecting(Arc<Shared>);

impl Drop for Expecting {
    fn drop(&mut self) {
        self.0.lock().expect_stream(false);
    }
}

impl fmt::Debug for Expecting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Expecting")
    }
}
