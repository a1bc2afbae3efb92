//! The heart of a connection: the wire, the session, and what waits on either side of them.
//!
//! One lock guards all of it. It is held for short synchronous sections only: parse what was read, queue bytes, try to
//! write. Nothing is held across an await, and what is queued is queued whole, so whoever is dropped cuts nothing.

mod closing;
mod handles;
mod incoming;
mod outgoing;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use bytes::BytesMut;
use futures_util::task::AtomicWaker;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tracing::{debug, warn};
use wsstream_proto::spdy::limits::RATE_WINDOW;
use wsstream_proto::spdy::{GoAwayStatus, Headers, Session, StreamId};

use super::arrivals::Arrivals;
use super::clock::{Clock, Due, Situation};
use super::end::{End, Loss, Side};
use super::slot::Slot;
use super::turns::Turns;
use crate::connection::READ_SIZE;
use crate::limits::{Grant, SpdyLimits};
use crate::transport::Io;

/// Wakes the driver, whichever task that is by now. The wire is always polled for writing with this: whoever polled it
/// last may be gone when it is ready again.
#[derive(Debug, Default)]
pub(super) struct DriverWaker(AtomicWaker);

impl DriverWaker {
    pub(super) fn set(&self, waker: &Waker) {
        self.0.register(waker);
    }
}

impl Wake for DriverWaker {
    fn wake(self: Arc<Self>) {
        self.0.wake();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.wake();
    }
}

/// What the handles and the driver share.
pub(super) struct Shared {
    core: Mutex<Core>,
    pub(super) driver: Arc<DriverWaker>,
    pub(super) write_waker: Waker,
    /// The numbers of those who open streams, above those of all streams.
    next_opening: AtomicU64,
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        let driver = Arc::clone(&core.driver);
        let write_waker = Waker::from(Arc::clone(&driver));
        Self { core: Mutex::new(core), driver, write_waker, next_opening: AtomicU64::new(1 << 32) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call that opens a stream; dropped, it waits no more.
pub(super) struct Opening<'a> {
    shared: &'a Shared,
    number: u64,
}

impl<'a> Opening<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        Self { shared, number: shared.next_opening.fetch_add(1, Ordering::Relaxed) }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        self.shared.lock().leave_queue(self.number);
    }
}

/// What the driver does after one step.
pub(super) enum Step {
    /// Takes another one: something happened.
    Again,
    /// Waits for the wire, a handle or the clock.
    Wait,
    /// Returns: the connection is over.
    Done(End),
}

/// A stream of the peer that nobody has taken yet.
struct Waiting {
    id: StreamId,
    headers: Headers,
    fin: bool,
}

/// A writer that waits until no more than `below` bytes of its stream are queued.
struct Watch {
    id: StreamId,
    below: usize,
    /// It waits for the flush of the wire as well.
    flush: bool,
}

pub(super) struct Core {
    io: Option<Box<dyn Io>>,
    session: Session,
    is_server: bool,
    slots: BTreeMap<StreamId, Slot>,
    backlog: VecDeque<Waiting>,
    /// Bytes from the wire that the session has not taken yet.
    input: BytesMut,
    /// Bytes in all inboxes, and of the headers in the backlog.
    queued: usize,
    limits: SpdyLimits,
    /// For what waits for readers beyond the own share,
    grant: Grant,
    /// and for what waits for the wire.
    output: Grant,
    clock: Clock,
    arrivals: Arrivals,
    driver: Arc<DriverWaker>,
    /// The driver was woken and has not come yet.
    driver_called: bool,
    watches: Vec<Watch>,
    turns: Turns,
    /// The wire took everything but has not been flushed.
    needs_flush: bool,
    blocked: bool,
    /// Nothing is read because the receive buffer is full,
    paused: bool,
    /// or because there is no shared memory for more.
    short: bool,
    /// Nothing is read because too many answers wait for the wire.
    choked: bool,
    /// The peer has sent something.
    begun: bool,
    /// The peer's byte stream has ended.
    eof: bool,
    /// The peer broke a rule, and what it sends is not looked at any more.
    deaf: bool,
    /// This side's byte stream was ended.
    shut: bool,
    /// Writing failed with this. What had arrived by then is still taken in.
    broken: Option<Loss>,
    /// Bytes that the wire has taken.
    written: u64,
    /// When the session's rates were last begun anew.
    rates_since: Instant,
    peer_close: Option<GoAwayStatus>,
    /// This side has begun to close; this is what will be reported.
    closing: Option<End>,
    end: Option<End>,
    handles: usize,
    /// Those of the handles that can accept streams.
    acceptors: usize,
    expecting: usize,
    accept_waiters: VecDeque<Waker>,
    end_waiters: VecDeque<Waker>,
    totals: Totals,
}

/// What is counted for [`Stats`](super::Stats).
#[derive(Debug, Default)]
struct Totals {
    received: u64,
    sent: u64,
    discarded: u64,
    most_waiting: usize,
    most_unsent: usize,
    streams_of_peer: u64,
    evicted: u64,
}

impl Core {
    pub(super) fn new(
        io: Box<dyn Io>,
        session: Session,
        is_server: bool,
        input: BytesMut,
        mut limits: SpdyLimits,
        clock: Clock,
        arrivals: Arrivals,
    ) -> Self {
        // A buffer of nothing would never have room.
        limits.receive_buffer = limits.receive_buffer.max(1);
        limits.send_stream = limits.send_stream.max(1);
        limits.send_total = limits.send_total.max(1);
        Self {
            io: Some(io),
            session,
            is_server,
            slots: BTreeMap::new(),
            backlog: VecDeque::new(),
            begun: !input.is_empty(),
            input,
            queued: 0,
            grant: limits.shared.grant(),
            output: limits.shared.grant(),
            limits,
            clock,
            arrivals,
            driver: Arc::default(),
            driver_called: false,
            watches: Vec::new(),
            turns: Turns::default(),
            needs_flush: false,
            blocked: false,
            paused: false,
            short: false,
            choked: false,
            eof: false,
            deaf: false,
            shut: false,
            broken: None,
            written: 0,
            rates_since: Instant::now(),
            peer_close: None,
            closing: None,
            end: None,
            handles: 0,
            acceptors: 0,
            expecting: 0,
            accept_waiters: VecDeque::new(),
            end_waiters: VecDeque::new(),
            totals: Totals::default(),
        }
    }

    /// One step of the driver: write what waits, then take in one event or one read.
    pub(super) fn step(&mut self, cx: &mut Context<'_>, write: &Waker) -> Step {
        self.driver_called = false;
        self.transmit(write);
        if let Some(end) = &self.end {
            return Step::Done(end.clone());
        }
        if self.closing.is_some() {
            let said = self.session.is_flushed() && !self.needs_flush;
            // Behind the peer's end nothing of ours is of any use, but a tunnel has its own farewell to say.
            if (said || (self.eof && !self.blocked)) && !self.shut {
                self.shut = self.poll_shutdown(write).is_ready();
            }
            if self.eof && (self.shut || self.broken.is_some()) {
                return self.done_closing();
            }
        }
        match (self.eof, &self.broken) {
            (true, Some(_)) => self.done_closing(),
            (true, None) => Step::Wait,
            (false, _) => match self.receive(cx) {
                // Echoes and refusals come without an event.
                Step::Wait if !self.blocked && !self.session.outbox().is_empty() => Step::Again,
                step => step,
            },
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Step {
        let discards = self.discards();
        let full = !discards && self.is_full();
        if full != self.paused {
            self.paused = full;
            self.clock.on_pause_changed(Instant::now());
        }
        if full {
            return Step::Wait;
        }
        if discards {
            self.input.clear();
        } else {
            match self.session.handle_input(&mut self.input) {
                Ok(Some(event)) => {
                    self.handle_event(event);
                    return Step::Again;
                }
                Ok(None) => {}
                Err(violation) => {
                    warn!(%violation, "the peer broke the protocol");
                    self.give_up(Loss::Violation(violation));
                    return Step::Again;
                }
            }
            self.choked = !self.session.wants_read();
            if self.choked {
                return Step::Wait;
            }
        }
        match self.poll_read(cx) {
            // Everything that had arrived when writing failed is in.
            Poll::Pending if self.broken.is_some() => self.done_closing(),
            Poll::Pending => Step::Wait,
            Poll::Ready(Ok(0)) => self.handle_eof(),
            // TLS says so of a stream that ends without its own farewell. FIN and GOAWAY tell what is complete here.
            Poll::Ready(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => self.handle_eof(),
            Poll::Ready(Ok(_)) => {
                let now = Instant::now();
                self.clock.on_received(now);
                self.begun = true;
                if now - self.rates_since >= RATE_WINDOW {
                    // Only a peer that sends can exceed a rate, so nothing has to tick for one that does not.
                    self.rates_since = now;
                    self.session.reset_rates();
                }
                Step::Again
            }
            Poll::Ready(Err(error)) => {
                debug!(%error, "reading failed");
                match (&self.closing, &self.broken) {
                    (None, None) => self.done(End::Lost(Loss::io(&error))),
                    _ => self.done_closing(),
                }
            }
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<usize>> {
        let Some(io) = self.io.as_mut() else { return Poll::Ready(Ok(0)) };
        self.input.reserve(READ_SIZE);
        let read = poll_read_buf(Pin::new(io), cx, &mut self.input);
        if read.is_pending() && self.input.is_empty() {
            // An idle connection holds no buffer.
            self.input = BytesMut::new();
        }
        read
    }

    fn handle_eof(&mut self) -> Step {
        self.eof = true;
        if self.broken.is_some() {
            return self.done_closing();
        }
        // A peer that has ended only its own direction may still read: it must not take what follows for a good end.
        let (status, end) = match self.peer_close {
            Some(status) => (GoAwayStatus::OK, End::Closed { by: Side::Peer, status }),
            None => (GoAwayStatus::INTERNAL_ERROR, End::Lost(Loss::Eof)),
        };
        self.begin_close(status, end);
        Step::Again
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<(Instant, Due)> {
        self.clock.next(Situation {
            blocked: self.blocked,
            paused: self.paused,
            short: self.short,
            choked: self.choked,
            inside_frame: self.session.inside_frame(),
            closing: self.closing.is_some(),
            deaf_to_pings: self.peer_close.is_some()
                || self.eof
                || self.broken.is_some()
                || (self.is_server && !self.begun),
        })
    }

    /// A deadline has passed.
    pub(super) fn handle_due(&mut self, due: Due, now: Instant) {
        match due {
            Due::Ping => {
                self.arrivals.look(now, self.written);
                // It only fails behind our own GOAWAY.
                _ = self.session.ping();
                self.clock.on_pinged(now);
            }
            Due::DeadPeer(after) => self.handle_silence(after, now),
            Due::Idle(after) => {
                debug!(?after, "closing an idle connection");
                self.begin_close(GoAwayStatus::INTERNAL_ERROR, End::Lost(Loss::Idle(after)));
            }
            Due::StuckFrame(after) => {
                warn!(?after, "the peer does not go on with a frame");
                self.begin_close(GoAwayStatus::PROTOCOL_ERROR, End::Lost(Loss::StuckFrame(after)));
            }
            Due::WriteTimeout(after) => self.finish(End::Lost(Loss::WriteTimeout(after))),
            Due::AskKernel => {
                self.clock.on_asked(now);
                self.give_up_the_vanished();
            }
            Due::WriteStall(_) if !self.is_contended() => self.clock.on_write_checked(now),
            Due::WriteStall(after) => {
                warn!(?after, "the peer takes nothing, and several streams wait for it");
                self.finish(End::Lost(Loss::WriteTimeout(after)));
            }
            Due::Stall(grace) => {
                if !self.evict_one(now, grace) {
                    self.clock.on_stall_checked(now);
                }
            }
            Due::Retry => self.clock.on_retried(now),
            Due::CloseTimeout => self.handle_close_timeout(now),
        }
    }

    /// Nothing came from the peer for long, although it was pinged.
    fn handle_silence(&mut self, after: std::time::Duration, now: Instant) {
        if self.give_up_the_vanished() {
            return;
        }
        let acknowledged = self.arrivals.look(now, self.written);
        // The first look in the silence was at the first ping.
        let unheard = self.clock.timeouts.ping_interval.unwrap_or_default();
        let limit = after.saturating_sub(unheard).max(after / 3);
        if !acknowledged && self.arrivals.vanished(now, limit) {
            debug!(?after, "the peer is dead");
            self.clock.on_dead();
            return self.finish(End::Lost(Loss::DeadPeer(after)));
        }
        // Its kernel lives, or nobody can tell and TCP decides.
        self.clock.on_alive(now);
    }

    fn call_driver(&mut self) {
        if !std::mem::replace(&mut self.driver_called, true) {
            self.driver.0.wake();
        }
    }

    fn wake_all(&mut self) {
        self.slots.values_mut().for_each(Slot::wake);
        self.turns.dismiss();
        self.watches.clear();
        self.wake_acceptors();
        self.end_waiters.drain(..).for_each(Waker::wake);
        self.call_driver();
    }

    fn wake_acceptors(&mut self) {
        self.accept_waiters.drain(..).for_each(Waker::wake);
    }
}
