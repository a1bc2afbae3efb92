//! The deadlines of a connection, apart from what happens when one passes.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{RETRY, Timeouts};
use crate::patience::{Patience, Round};

/// When things last happened.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) timeouts: Timeouts,
    /// Any byte came in.
    received: Instant,
    /// A message with data went either way.
    data: Instant,
    /// A ping went out.
    pinged: Instant,
    /// Pings that were followed by another one, or by the end of the patience, before anything came.
    missed: u64,
    /// An unasked pong went out, or reading stopped.
    ponged: Instant,
    /// The wire took something, or began to refuse it.
    written: Instant,
    /// The kernel was asked whether the peer's still answers.
    asked: Instant,
    /// The shared budget was asked in vain.
    retried: Instant,
    /// The close handshake got on.
    closing: Instant,
    patience: Patience,
}

/// What the connection is doing, as far as deadlines depend on it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation {
    /// Something waits for the wire.
    pub(super) blocked: bool,
    /// The receive buffer is full and nothing is read.
    pub(super) paused: bool,
    /// It is so for want of shared memory.
    pub(super) short: bool,
    /// This side has begun to close.
    pub(super) closing: bool,
    /// The peer has sent Close or ended its stream: no ping will be answered.
    pub(super) half_closed: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    UnsolicitedPong,
    Idle(Duration),
    DeadPeer(Duration),
    WriteTimeout(Duration),
    /// The wire is blocked: whether the peer has vanished is for the kernel to say.
    AskKernel,
    Retry,
    CloseTimeout,
}

impl Clock {
    pub(super) fn new(timeouts: Timeouts) -> Self {
        let now = Instant::now();
        Self {
            timeouts,
            received: now,
            data: now,
            pinged: now,
            missed: 0,
            ponged: now,
            written: now,
            asked: now,
            retried: now,
            closing: now,
            patience: Patience::default(),
        }
    }

    pub(super) fn on_received(&mut self, now: Instant) {
        self.received = now;
    }

    pub(super) fn on_data(&mut self, now: Instant) {
        self.data = now;
    }

    pub(super) fn on_written(&mut self, now: Instant) {
        self.written = now;
        self.closing = now;
        self.patience.on_written();
    }

    /// The wire took everything again: the peer gets a full deadline to be heard from.
    pub(super) fn on_unblocked(&mut self, now: Instant) {
        self.received = self.received.max(now);
    }

    pub(super) fn on_pause_changed(&mut self, now: Instant) {
        self.ponged = now;
        self.received = now;
        self.closing = now;
        self.retried = now;
    }

    pub(super) fn on_asked(&mut self, now: Instant) {
        self.asked = now;
    }

    pub(super) fn on_retried(&mut self, now: Instant) {
        self.retried = now;
    }

    pub(super) fn on_closing(&mut self, now: Instant) {
        self.closing = now;
    }

    #[cfg(feature = "server")]
    pub(super) fn last_data(&self) -> Instant {
        self.data
    }

    pub(super) fn on_pinged(&mut self, now: Instant) {
        self.on_dead();
        self.pinged = now;
    }

    /// Nothing came since the last ping, if there was one.
    pub(super) fn on_dead(&mut self) {
        self.missed += u64::from(self.pinged > self.received);
    }

    pub(super) fn pings_missed(&self) -> u64 {
        self.missed
    }

    pub(super) fn on_ponged(&mut self, now: Instant) {
        self.ponged = now;
    }

    /// The close timeout has passed: whether the peer is waited for all the same, and then it runs anew.
    pub(super) fn keeps_waiting(&mut self, now: Instant, round: Round) -> bool {
        let heard = self.received > self.closing;
        let lasts = self.patience.lasts(now, round, heard, self.timeouts.linger);
        if lasts {
            self.closing = now;
        }
        lasts
    }

    /// Often enough to tell within the dead peer's deadline that pongs are not acknowledged.
    pub(super) fn pong_interval(&self) -> Duration {
        let t = &self.timeouts;
        t.dead_peer.map_or(t.unsolicited_pong, |dead| t.unsolicited_pong.min(dead / 3))
    }

    /// The next deadline and what it stands for.
    pub(super) fn next(&self, situation: Situation) -> Option<(Instant, Due)> {
        let Situation { blocked, paused, short, closing, half_closed } = situation;
        let t = &self.timeouts;
        let after = |from: Instant, duration: Option<Duration>, on: bool, due: fn(Duration) -> Due| {
            duration.filter(|_| on).and_then(|d| Some((from.checked_add(d)?, due(d))))
        };
        let listening = !closing && !half_closed && !paused && !blocked;
        // A peer that only sends hears nothing of this side either, and its own ping may stand behind all it sends.
        let quiet_since = self.received.min(self.written).max(self.pinged);
        [
            // Of two at the same time the first counts: a ping that nobody is left to answer is not sent.
            after(self.received, t.dead_peer, listening, Due::DeadPeer),
            after(quiet_since, t.ping_interval, listening, |_| Due::Ping),
            after(self.data, t.idle, !closing, Due::Idle),
            after(self.written, t.write, blocked, Due::WriteTimeout),
            after(self.written.max(self.asked), t.ask_kernel(), blocked, |_| Due::AskKernel),
            after(self.ponged, Some(self.pong_interval()), paused && !closing && !half_closed, |_| {
                Due::UnsolicitedPong
            }),
            after(self.retried, Some(RETRY), paused && short, |_| Due::Retry),
            // A client that has closed still hands on what comes; that its reader is slow is not the server's fault.
            after(self.closing, Some(t.close), closing && !paused, |_| Due::CloseTimeout),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}
