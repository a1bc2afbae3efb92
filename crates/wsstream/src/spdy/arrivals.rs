//! Whether a silent peer is still there, as far as the kernel can tell.
//!
//! A ping that is not answered proves nothing: Go answers none while one of its streams is not read. A kernel
//! acknowledges for a program that does nothing, so what is not acknowledged either proves it, unless the peer's window
//! is closed. Hence only a silence counts that began with everything acknowledged and in which next to nothing was sent.

use std::time::Duration;

use tokio::time::Instant;

use crate::transport::UnsentProbe;

/// What may be sent in a silence that still counts, in bytes: pings, and no more than any open window takes.
const NEXT_TO_NOTHING: u64 = 4096;

#[derive(Debug)]
pub(super) struct Arrivals {
    probe: Option<UnsentProbe>,
    /// When everything had last arrived, and how much that was.
    all_at: Option<(Instant, u64)>,
    /// What the kernel held when it was last asked.
    unsent: Option<usize>,
}

impl Arrivals {
    pub(super) fn new(probe: Option<UnsentProbe>) -> Self {
        Self { probe, all_at: None, unsent: None }
    }

    /// Asks the kernel; `written` is what the wire has taken in all. True: the peer has acknowledged everything.
    pub(super) fn look(&mut self, now: Instant, written: u64) -> bool {
        self.unsent = self.unsent();
        if self.unsent == Some(0) {
            self.all_at = Some((now, written));
        }
        self.unsent == Some(0)
    }

    /// Whether nothing was acknowledged for `limit` although the way was free.
    pub(super) fn vanished(&self, now: Instant, written: u64, limit: Duration) -> bool {
        self.unsent.is_some_and(|unsent| unsent > 0)
            && self.all_at.is_some_and(|(since, then)| {
                let since_then = written.saturating_sub(then);
                now - since >= limit && since_then > 0 && since_then <= NEXT_TO_NOTHING
            })
    }

    /// Bytes that the peer's kernel has not acknowledged; `None` when nobody can tell.
    pub(super) fn unsent(&self) -> Option<usize> {
        self.probe.as_ref().and_then(UnsentProbe::unsent)
    }
}
