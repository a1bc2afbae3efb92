//! The heart of a connection: the wire, the state machine, and what waits on either side of them.
//!
//! One lock guards all of it. It is held for short synchronous sections only: parse what was read, queue a frame,
//! try to write. Nothing is held across an await, so whoever is dropped leaves no frame cut in two.

mod arrivals;
mod closing;
mod handles;

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tracing::{debug, warn};
use wsstream_proto::channel::ChannelId;
use wsstream_proto::connection::{Connection as Machine, Dropped, Event};
use wsstream_proto::subprotocol::Encoding;
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::clock::{Clock, Due, Situation};
use super::end::{End, Loss};
use super::inbox::Inbox;
use super::wakers::Wakers;
use crate::limits::{Grant, Limits};
use crate::transport::{Io, UnsentProbe, poll_write_some};

/// How much is read from the wire at once. Measured: 32 KiB reads are the best compromise on both sides.
pub(crate) const READ_SIZE: usize = 32 << 10;

/// What the handles and the driver share.
pub(super) struct Shared {
    core: Mutex<Core>,
    pub(super) wakers: Arc<Wakers>,
    /// The wire is always polled for writing with this one: see [`Wakers`].
    pub(super) write_waker: Waker,
    next_handle: AtomicU64,
}

impl Shared {
    pub(super) fn new(core: Core) -> Self {
        let wakers = Arc::clone(&core.wakers);
        let write_waker = Waker::from(Arc::clone(&wakers));
        Self { core: Mutex::new(core), wakers, write_waker, next_handle: AtomicU64::new(0) }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn next_handle(&self) -> u64 {
        self.next_handle.fetch_add(1, Ordering::Relaxed)
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

pub(super) struct Core {
    io: Option<Box<dyn Io>>,
    machine: Machine,
    is_server: bool,
    inboxes: Vec<Inbox>,
    sent: Vec<u64>,
    /// Bytes of all frames that handles have queued.
    queued_frames: u64,
    /// Bytes from the wire that the machine has not taken yet.
    input: BytesMut,
    /// Bytes in all inboxes.
    queued: usize,
    limits: Limits,
    grant: Grant,
    /// For what waits beyond the own share.
    /// The most that ever waited.
    most_queued: usize,
    waiting: Grant,
    clock: Clock,
    probe: Option<UnsentProbe>,
    wakers: Arc<Wakers>,
    /// The wire took everything but has not been flushed.
    needs_flush: bool,
    blocked: bool,
    /// Nothing is read because the receive buffer is full,
    paused: bool,
    /// or because there is no shared memory for more.
    short: bool,
    /// The peer's byte stream has ended.
    eof: bool,
    /// What the peer sends is not looked at any more: it broke a rule, or there is no memory for it.
    deaf: bool,
    /// This side's byte stream was ended.
    shut: bool,
    /// Writing failed with this. What had arrived by then is still taken in: a server that is done with its session
    /// may close its socket under a client that still sends, and its last words are the status.
    broken: Option<Loss>,
    /// Bytes that the wire has taken.
    handed_over: u64,
    /// That number when the kernel was last asked how many of them had arrived.
    handed_over_then: u64,
    /// How many of them had arrived at the peer's kernel, and since when no more have.
    arrived: Option<(u64, Instant)>,
    peer_close: Option<CloseReason>,
    /// This side has begun to close; this is what will be reported.
    closing: Option<End>,
    end: Option<End>,
    handles: usize,
    end_waiters: VecDeque<Waker>,
    pings: u64,
}

impl Core {
    #[allow(clippy::too_many_arguments, reason = "called once, by the builder that collects them")]
    pub(super) fn new(
        io: Box<dyn Io>,
        machine: Machine,
        is_server: bool,
        reads: impl Iterator<Item = bool>,
        input: BytesMut,
        mut limits: Limits,
        clock: Clock,
        probe: Option<UnsentProbe>,
    ) -> Self {
        // A buffer of nothing would never have room.
        limits.send_buffer = limits.send_buffer.max(1);
        limits.receive_buffer = limits.receive_buffer.max(1);
        let inboxes: Vec<_> = reads.map(Inbox::new).collect();
        Self {
            io: Some(io),
            machine,
            is_server,
            sent: vec![0; inboxes.len()],
            queued_frames: 0,
            inboxes,
            input,
            queued: 0,
            grant: limits.partial_messages.grant(),
            most_queued: 0,
            waiting: limits.shared.grant(),
            limits,
            clock,
            probe,
            wakers: Arc::default(),
            needs_flush: false,
            blocked: false,
            paused: false,
            short: false,
            eof: false,
            deaf: false,
            shut: false,
            broken: None,
            handed_over: 0,
            handed_over_then: 0,
            arrived: None,
            peer_close: None,
            closing: None,
            end: None,
            handles: 0,
            end_waiters: VecDeque::new(),
            pings: 0,
        }
    }

    // ---- the driver's side ----

    /// One step of the driver: write what waits, then take in one event or one read.
    pub(super) fn step(&mut self, cx: &mut Context<'_>, write: &Waker) -> Step {
        self.transmit(write);
        if let Some(end) = &self.end {
            return Step::Done(end.clone());
        }
        let through = self.closing.is_some() && (self.machine.received_close() || self.eof);
        // A peer that is not understood any more is told at once that nothing follows the Close: it may be waiting for
        // that, and what it sends meanwhile is still read, so that the Close gets through.
        if (through || self.deaf) && !self.blocked && !self.shut && self.poll_shutdown(write).is_pending() {
            return Step::Wait;
        }
        if through && !self.blocked {
            return self.done_closing();
        }
        match (self.eof, &self.broken) {
            (true, Some(_)) => self.done_closing(),
            (true, None) => Step::Wait,
            (false, _) => self.receive(cx),
        }
    }

    fn receive(&mut self, cx: &mut Context<'_>) -> Step {
        let full = !self.discards() && self.is_full();
        if full != self.paused {
            self.paused = full;
            self.arrived = None;
            self.clock.on_pause_changed(Instant::now());
        }
        if full {
            return Step::Wait;
        }
        if self.deaf {
            self.input.clear();
        } else {
            match self.machine.handle_input(&mut self.input) {
                Ok(Some(event)) => {
                    self.handle_event(event);
                    return Step::Again;
                }
                Ok(None) => {}
                Err(violation) => {
                    warn!(%violation, code = %violation.close_code(), "the peer broke the protocol");
                    self.give_up(Loss::Violation(violation));
                    return Step::Again;
                }
            }
            if !self.hold() {
                warn!(bytes = self.machine.collected_bytes(), "no memory for an unfinished base64 message");
                self.machine.close(&CloseReason::new(CloseCode::TRY_AGAIN, "no memory"));
                self.give_up(Loss::NoMemory);
                return Step::Again;
            }
        }
        match ready_or_wait(self.poll_read(cx)) {
            // Everything that had arrived when writing failed is in.
            None if self.broken.is_some() => self.done_closing(),
            None => Step::Wait,
            Some(Ok(0)) => self.handle_eof(),
            // TLS says so of a stream that ends without its own farewell. Close frames tell what is complete here.
            Some(Err(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => self.handle_eof(),
            Some(Ok(_)) => {
                let now = Instant::now();
                self.clock.on_received(now);
                if !self.is_server && self.closing.is_some() {
                    // A client that has closed still takes what the server sends; that is progress.
                    self.clock.on_closing(now);
                }
                Step::Again
            }
            Some(Err(error)) => {
                debug!(%error, "reading failed");
                match (&self.closing, &self.broken, self.machine.received_close()) {
                    (Some(_), _, true) | (Some(End::Lost(_)), _, _) | (_, Some(_), _) => self.done_closing(),
                    _ => self.done(End::Lost(Loss::io(&error))),
                }
            }
        }
    }

    /// Whether nothing more may be read for now.
    fn is_full(&mut self) -> bool {
        self.short = !self.hold_waiting();
        self.short || self.queued >= self.limits.receive_buffer
    }

    /// Takes from the shared budget what waits here beyond the own share. False: there is not so much.
    fn hold_waiting(&mut self) -> bool {
        self.waiting.cover(self.queued.saturating_sub(self.limits.own_share))
    }

    /// Takes from the budget for unfinished messages what this connection holds beyond its own buffer: an unfinished base64
    /// message, and of a whole one, until it is read, what the shared budget does not cover. False: there is not so much.
    fn hold(&mut self) -> bool {
        let whole = self.machine.encoding() == Encoding::Base64;
        let covered = if whole { self.limits.own_share + self.waiting.held() } else { usize::MAX };
        let beyond = self.queued.saturating_sub(covered.min(self.limits.receive_buffer));
        self.grant.resize(self.machine.collected_bytes() + beyond)
    }

    /// What waits has become more, or less. The shared budget first: the other one covers the rest.
    fn hold_both(&mut self) {
        self.hold_waiting();
        self.hold();
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

    #[cfg(feature = "server")]
    pub(super) fn peer_hung_up(&self) -> bool {
        self.eof
    }

    fn handle_eof(&mut self) -> Step {
        self.eof = true;
        match &self.closing {
            _ if self.broken.is_some() => self.done_closing(),
            // A server's peer that has said all: the application still decides when this side closes.
            _ if self.machine.received_close() => Step::Again,
            Some(End::Lost(_)) => Step::Again,
            // The peer did not wait for the handshake; stock clients do so.
            Some(End::Closed { .. }) if self.is_server => Step::Again,
            // A server that does not answer a client's Close may have had more to say.
            _ => self.done(End::Lost(Loss::Eof)),
        }
    }

    /// Whether what comes in is thrown away: a server that has closed reads on only so that closing its socket does
    /// not reset the connection under what it sent.
    fn discards(&self) -> bool {
        match &self.closing {
            None => false,
            Some(End::Lost(_)) => true,
            Some(End::Closed { .. }) => self.is_server,
        }
    }

    fn handle_event(&mut self, event: Event) {
        match event {
            Event::Data { channel, data } => self.handle_data(channel, data),
            Event::Empty { channel } => {
                if let Some(inbox) = self.inboxes.get_mut(usize::from(channel.0)) {
                    inbox.empty_messages += 1;
                    wake(&mut inbox.waker);
                }
            }
            Event::HalfClosed { channel } => {
                debug!(%channel, "the peer closed a channel");
                if let Some(inbox) = self.inboxes.get_mut(usize::from(channel.0)) {
                    inbox.ended = true;
                    wake(&mut inbox.waker);
                }
            }
            Event::Ping => self.pings += 1,
            Event::Closed(reason) => self.handle_peer_close(reason),
            Event::Dropped(dropped @ (Dropped::NotRead { .. } | Dropped::AfterClose { .. })) => {
                debug!(%dropped, "dropped a message");
            }
            Event::Dropped(dropped) => warn!(%dropped, "dropped a message"),
            _ => {}
        }
    }

    fn handle_data(&mut self, channel: ChannelId, data: BytesMut) {
        let discards = self.discards();
        let Some(inbox) = self.inboxes.get_mut(usize::from(channel.0)) else { return };
        inbox.received += data.len() as u64;
        self.clock.on_data(Instant::now());
        if discards || inbox.discard {
            return;
        }
        self.queued += data.len();
        self.most_queued = self.most_queued.max(self.queued);
        inbox.push(data);
        wake(&mut inbox.waker);
        // No more in all than was held for its text.
        self.hold_both();
    }

    /// The next deadline.
    pub(super) fn next_deadline(&self) -> Option<(Instant, Due)> {
        self.clock.next(Situation {
            blocked: self.blocked,
            paused: self.paused,
            short: self.short,
            closing: self.closing.is_some(),
            half_closed: self.machine.received_close() || self.eof || self.broken.is_some(),
        })
    }

    /// A deadline has passed.
    pub(super) fn handle_due(&mut self, due: Due, now: Instant) {
        match due {
            Due::Ping => {
                self.note_arrivals(now);
                self.machine.ping(&[]);
                self.clock.on_pinged(now);
            }
            Due::UnsolicitedPong => {
                if let Some(after) = self.vanished(now) {
                    debug!(?after, "the peer acknowledges nothing any more");
                    return self.finish(End::Lost(Loss::DeadPeer(after)));
                }
                self.machine.unsolicited_pong();
                self.clock.on_ponged(now);
            }
            Due::Idle(after) => {
                debug!(?after, "closing an idle connection");
                let reason = CloseReason::new(CloseCode::GOING_AWAY, "idle timeout");
                self.begin_close(&reason, End::Lost(Loss::Idle(after)));
            }
            // A ping waits behind all that is on its way to the peer: over a slow line that takes its time, and what
            // arrives there meanwhile is a sign of life as well. One that had a clear way had to be answered.
            Due::DeadPeer(_) if self.behind() && self.note_arrivals(now) => self.clock.on_received(now),
            Due::DeadPeer(after) => {
                debug!(?after, "the peer is dead");
                self.clock.on_dead();
                self.finish(End::Lost(Loss::DeadPeer(after)));
            }
            Due::WriteTimeout(after) => self.finish(End::Lost(Loss::WriteTimeout(after))),
            Due::AskKernel => {
                self.clock.on_asked(now);
                self.give_up_the_vanished();
            }
            Due::Retry => self.clock.on_retried(now),
            Due::CloseTimeout => self.handle_close_timeout(now),
        }
    }

    // ---- both sides ----

    /// Writes as much of the outbox as the wire takes.
    fn transmit(&mut self, write: &Waker) {
        if self.broken.is_some() {
            self.machine.outbox().clear();
        }
        let before = self.machine.outbox().len();
        if self.end.is_some() || (before == 0 && !self.needs_flush) {
            return;
        }
        let result = self.poll_transmit(&mut Context::from_waker(write));
        if let Poll::Ready(Err(error)) = result {
            debug!(%error, "writing failed");
            self.broken = Some(Loss::io(&error));
            self.machine.outbox().clear();
            self.needs_flush = false;
            self.blocked = false;
            return self.wake_all();
        }
        let after = self.machine.outbox().len();
        self.handed_over += before.saturating_sub(after) as u64;
        let was_blocked = std::mem::replace(&mut self.blocked, result.is_pending());
        if after < before || self.blocked != was_blocked {
            let now = Instant::now();
            self.clock.on_written(now);
            if was_blocked && !self.blocked {
                self.clock.on_unblocked(now);
            }
        }
        if self.blocked && !was_blocked {
            // The driver's deadlines have changed.
            self.wakers.wake_driver();
        }
        if (before >= self.limits.send_buffer && after < self.limits.send_buffer)
            || (was_blocked && !self.blocked)
        {
            self.wakers.wake_writers();
        }
    }

    fn poll_transmit(&mut self, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        let Some(io) = self.io.as_mut() else { return Poll::Ready(Ok(())) };
        while !self.machine.outbox().is_empty() {
            let n = ready!(poll_write_some(io, cx, self.machine.outbox()))?;
            if n == 0 {
                return Poll::Ready(Err(std::io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Room was made in the receive buffer.
    fn resume(&mut self) {
        self.hold_both();
        if self.paused && self.queued < self.limits.receive_buffer {
            self.wakers.wake_driver();
        }
    }

    fn discard_all(&mut self) {
        for inbox in &mut self.inboxes {
            self.queued -= inbox.clear();
        }
        self.hold_both();
    }

    /// What has come of a message will never be whole; what it held is others' now.
    fn discard_unfinished(&mut self) {
        self.machine.discard_unfinished();
        self.hold();
    }

    fn wake_readers(&mut self) {
        for inbox in &mut self.inboxes {
            wake(&mut inbox.waker);
        }
        self.end_waiters.drain(..).for_each(Waker::wake);
    }

    fn wake_all(&mut self) {
        self.wake_readers();
        self.wakers.wake_writers();
        self.wakers.wake_driver();
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn ready_or_wait<T>(poll: Poll<T>) -> Option<T> {
    match poll {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}
