//! Whether a silent peer is still there, as far as the kernel can tell.
//!
//! A ping that is not answered proves nothing: Go answers none while one of its streams is not read. A kernel
//! acknowledges for a program that does nothing, so what is not acknowledged either proves it, unless the peer's window
//! is closed. Hence only a silence counts in which next to nothing is on its way: that much any open window takes.

use std::time::Duration;

use tokio::time::Instant;

use crate::transport::UnsentProbe;
use crate::tunnel::Held;

/// What may be on its way when its staying away counts, in bytes: pings and the end of a reply.
const NEXT_TO_NOTHING: usize = 4096;

#[derive(Debug)]
pub(super) struct Arrivals {
    probe: Option<UnsentProbe>,
    /// How much had arrived at the peer's kernel when it was last asked, and since when no more has.
    arrived: Option<(u64, Instant)>,
    /// What was on its way when the kernel was last asked.
    unsent: Option<usize>,
    /// What a tunnel holds: it takes much at once, and then only this tells that the wire gets on.
    held: Option<Held>,
    /// How much that was when it was last looked at.
    held_before: usize,
}

impl Arrivals {
    pub(super) fn new(probe: Option<UnsentProbe>, held: Option<Held>) -> Self {
        Self { probe, arrived: None, unsent: None, held, held_before: 0 }
    }

    /// Bytes that the wire has accepted and, being a tunnel, still holds.
    pub(super) fn held(&self) -> usize {
        self.held.as_ref().map_or(0, Held::bytes)
    }

    /// Whether these have become fewer since this was last asked.
    pub(super) fn drained(&mut self) -> bool {
        let held = self.held();
        held < std::mem::replace(&mut self.held_before, held)
    }

    /// Asks the kernel; `written` is what the wire has taken in all. True: the peer has acknowledged everything.
    pub(super) fn look(&mut self, now: Instant, written: u64) -> bool {
        self.unsent = self.unsent();
        if let Some(unsent) = self.unsent {
            // Under TLS the kernel counts more bytes than were written here: only the direction of change counts.
            let arrived = written.saturating_sub(unsent as u64);
            if self.arrived.is_none_or(|(before, _)| arrived > before) {
                self.arrived = Some((arrived, now));
            }
        }
        self.unsent == Some(0)
    }

    /// Whether nothing was acknowledged for `limit` although the way was free.
    pub(super) fn vanished(&self, now: Instant, limit: Duration) -> bool {
        self.unsent.is_some_and(|unsent| unsent > 0 && unsent <= NEXT_TO_NOTHING)
            && self.arrived.is_some_and(|(_, since)| now - since >= limit)
    }

    /// See [`UnsentProbe::silence`].
    pub(super) fn silent_for(&self, limit: Duration) -> bool {
        self.probe.as_ref().is_some_and(|probe| probe.silent_for(limit))
    }

    /// Bytes that the peer's kernel has not acknowledged; `None` when nobody can tell.
    pub(super) fn unsent(&self) -> Option<usize> {
        self.probe.as_ref().and_then(UnsentProbe::unsent)
    }
}
