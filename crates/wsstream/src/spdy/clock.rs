//! The deadlines of a connection, apart from what happens when one passes.

use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{RETRY, SpdyLimits, Timeouts};
use crate::patience::{Patience, Round};

/// When things last happened.
#[derive(Debug)]
pub(super) struct Clock {
    pub(super) timeouts: Timeouts,
    stall_grace: Option<Duration>,
    write_stall: Option<Duration>,
    partial_frame: Option<Duration>,
    /// Any byte came in, or reading began anew.
    received: Instant,
    /// The peer gave a sign of life: a byte, or its kernel's acknowledgement.
    alive: Instant,
    /// Data or a stream went either way.
    data: Instant,
    pinged: Instant,
    /// Pings that were followed by another one before anything was heard.
    missed: u64,
    /// The wire took something, or began to refuse it.
    written: Instant,
    /// The wire was blocked and nobody else had anything to send.
    write_checked: Instant,
    /// The kernel was asked whether the peer's still answers.
    asked: Instant,
    /// Reading stopped, or nobody was found who would profit from an eviction.
    stalled: Instant,
    /// The shared budget was asked in vain.
    retried: Instant,
    /// The close got on.
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
    /// So many answers wait that nothing is read.
    pub(super) choked: bool,
    /// A frame has begun and not ended.
    pub(super) inside_frame: bool,
    /// This side has begun to close.
    pub(super) closing: bool,
    /// A ping would not be answered: the peer has ended, or (at a server) not begun.
    pub(super) deaf_to_pings: bool,
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    Ping,
    Idle(Duration),
    DeadPeer(Duration),
    WriteTimeout(Duration),
    WriteStall(Duration),
    /// The wire is blocked: whether the peer has vanished is for the kernel to say.
    AskKernel,
    StuckFrame(Duration),
    Stall(Duration),
    Retry,
    CloseTimeout,
}

impl Clock {
    pub(super) fn new(timeouts: Timeouts, limits: &SpdyLimits) -> Self {
        let now = Instant::now();
        Self {
            timeouts,
            stall_grace: limits.stall_grace,
            write_stall: limits.write_stall,
            partial_frame: limits.partial_frame,
            received: now,
            alive: now,
            data: now,
            pinged: now,
            missed: 0,
            written: now,
            write_checked: now,
            asked: now,
            stalled: now,
            retried: now,
            closing: now,
            patience: Patience::default(),
        }
    }

    pub(super) fn on_received(&mut self, now: Instant) {
        self.received = now;
        self.alive = now;
    }

    pub(super) fn on_alive(&mut self, now: Instant) {
        self.alive = now;
    }

    pub(super) fn on_data(&mut self, now: Instant) {
        self.data = now;
    }

    #[cfg(feature = "server")]
    pub(super) fn last_data(&self) -> Instant {
        self.data
    }

    pub(super) fn on_pinged(&mut self, now: Instant) {
        self.on_dead();
        self.pinged = now;
    }

    /// Nothing was heard since the last ping, if there was one.
    pub(super) fn on_dead(&mut self) {
        self.missed += u64::from(self.pinged > self.alive);
    }

    pub(super) fn pings_missed(&self) -> u64 {
        self.missed
    }

    pub(super) fn on_written(&mut self, now: Instant) {
        self.written = now;
        self.closing = now;
        self.patience.on_written();
    }

    /// The wire took everything again: the peer gets a full deadline to be heard from.
    pub(super) fn on_unblocked(&mut self, now: Instant) {
        self.alive = self.alive.max(now);
    }

    pub(super) fn on_write_checked(&mut self, now: Instant) {
        self.write_checked = now;
    }

    pub(super) fn on_asked(&mut self, now: Instant) {
        self.asked = now;
    }

    pub(super) fn on_pause_changed(&mut self, now: Instant) {
        self.received = now;
        self.stalled = now;
        self.retried = now;
    }

    pub(super) fn on_stall_checked(&mut self, now: Instant) {
        self.stalled = now;
    }

    pub(super) fn on_retried(&mut self, now: Instant) {
        self.retried = now;
    }

    pub(super) fn on_closing(&mut self, now: Instant) {
        self.closing = now;
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

    /// The next deadline and what it stands for.
    pub(super) fn next(&self, situation: Situation) -> Option<(Instant, Due)> {
        let Situation { blocked, paused, short, choked, inside_frame, closing, deaf_to_pings } = situation;
        let t = &self.timeouts;
        let after = |from: Instant, duration: Option<Duration>, on: bool, due: fn(Duration) -> Due| {
            duration.filter(|_| on).and_then(|d| Some((from.checked_add(d)?, due(d))))
        };
        let listening = !closing && !deaf_to_pings && !blocked;
        let reading = !paused && !choked;
        [
            // Of two at the same time the first counts: a ping that nobody is left to answer is not sent.
            after(self.alive, t.dead_peer, listening, Due::DeadPeer),
            after(self.alive.max(self.pinged), t.ping_interval, listening, |_| Due::Ping),
            after(self.data, t.idle, !closing, Due::Idle),
            after(self.written, t.write, blocked, Due::WriteTimeout),
            after(self.written.max(self.asked), t.ask_kernel(), blocked, |_| Due::AskKernel),
            after(
                self.written.max(self.write_checked),
                self.write_stall,
                blocked && !closing,
                Due::WriteStall,
            ),
            after(self.received, self.partial_frame, inside_frame && reading && !closing, Due::StuckFrame),
            after(self.stalled, self.stall_grace, paused && !closing, Due::Stall),
            after(self.retried, Some(RETRY), paused && short, |_| Due::Retry),
            after(self.closing, Some(t.close), closing, |_| Due::CloseTimeout),
        ]
        .into_iter()
        .flatten()
        .min_by_key(|(at, _)| *at)
    }
}
