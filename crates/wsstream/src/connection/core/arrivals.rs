//! What the kernel tells of the peer's: how much has arrived there, and whether it still answers.

use std::time::Duration;

use tokio::time::Instant;

use super::super::end::{End, Loss};
use super::Core;
use crate::transport::UnsentProbe;

impl Core {
    /// Whether the peer's kernel has stopped acknowledging: while nothing is read here that is the only sign of life.
    /// A kernel does so for a program that reads nothing, so a peer that is merely slow is safe; while the wire is
    /// blocked TCP's own probes decide.
    pub(super) fn vanished(&mut self, now: Instant) -> Option<Duration> {
        let limit = self.clock.timeouts.dead_peer?;
        let got_on = self.note_arrivals(now);
        let (arrived, since) = self.arrived?;
        if self.blocked || arrived >= self.handed_over {
            self.arrived = Some((arrived, now));
            return None;
        }
        // The last pong before the silence was acknowledged one interval before `since`.
        (!got_on && now - since + self.clock.pong_interval() >= limit).then_some(limit)
    }

    /// Ends the connection when the peer's kernel does not answer any more. True when it has.
    pub(super) fn give_up_the_vanished(&mut self) -> bool {
        let silent = |limit: &Duration| self.probe.as_ref().is_some_and(|probe| probe.silent_for(*limit));
        let Some(after) = self.clock.timeouts.dead_peer.filter(silent) else { return false };
        let lost = End::Lost(Loss::DeadPeer(after));
        self.finish(self.closing.clone().filter(|end| matches!(end, End::Lost(_))).unwrap_or(lost));
        true
    }

    /// Whether the kernel still held something when it was last asked.
    pub(super) fn behind(&self) -> bool {
        self.arrived.is_some_and(|(arrived, _)| arrived < self.handed_over_then)
    }

    /// Asks the kernel how much of what the wire took has arrived at the peer's. True: more than when it was last asked.
    pub(super) fn note_arrivals(&mut self, now: Instant) -> bool {
        let Some(unsent) = self.probe.as_ref().and_then(UnsentProbe::unsent) else { return false };
        // Under TLS the kernel counts more bytes than were handed over here: only the direction of change counts.
        let arrived = self.handed_over.saturating_sub(unsent as u64);
        let before = self.arrived.map(|(before, _)| before);
        self.handed_over_then = self.handed_over;
        if before.is_none_or(|before| arrived > before) {
            self.arrived = Some((arrived, now));
        }
        before.is_some_and(|before| arrived > before)
    }
}
