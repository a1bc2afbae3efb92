//! What comes in: events of the session, the budget of what waits, and who is given up when it is used up.

use std::time::Duration;

use bytes::BytesMut;
use tokio::time::Instant;
use tracing::{debug, warn};
use wsstream_proto::spdy::{Dropped, Event, Headers, ResetStatus, StreamId};

use super::super::slot::{Over, Slot};
use super::{Core, Waiting};

impl Core {
    /// Whether what comes in is thrown away: this side has closed, and reads on only so that closing its socket does
    /// not reset the connection under what it sent.
    pub(super) fn discards(&mut self) -> bool {
        // A server's last words wait for the first frame of the client, so that one still has to be recognised.
        let silenced = self.session.outbox().is_empty() && self.session.total_out() > 0;
        self.deaf || (self.closing.is_some() && !silenced)
    }

    /// Whether nothing more may be read for now.
    pub(super) fn is_full(&mut self) -> bool {
        self.short = !self.hold();
        self.short || self.queued >= self.limits.receive_buffer
    }

    /// Takes from the shared budget what this connection holds beyond its own share. False: there is not so much.
    pub(super) fn hold(&mut self) -> bool {
        self.grant.cover(self.queued.saturating_sub(self.limits.own_share))
    }

    /// Bytes are waited for no more: their reader took them, or nobody will.
    pub(super) fn release(&mut self, bytes: usize) {
        self.queued -= bytes;
        self.hold();
        if self.paused && self.queued < self.limits.receive_buffer {
            self.call_driver();
        }
    }

    fn occupy(&mut self, bytes: usize) {
        self.queued += bytes;
        self.totals.most_waiting = self.totals.most_waiting.max(self.queued);
    }

    pub(super) fn handle_event(&mut self, event: Event) {
        match event {
            Event::StreamOpened { id, headers, fin } => self.handle_opened(id, headers, fin),
            Event::Replied { id, fin, .. } => {
                self.clock.on_data(Instant::now());
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.replied = true;
                    slot.inbox.ended |= fin;
                    slot.wake();
                }
            }
            Event::Data { id, bytes } => self.handle_data(id, bytes),
            Event::Fin { id } => {
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.inbox.ended = true;
                    slot.wake();
                }
            }
            Event::Reset { id, status } => {
                debug!(stream = %id, %status, "a stream was reset");
                // What it had queued is gone.
                self.offer_room();
                if self.withdraw(id) {
                    return;
                }
                if let Some(slot) = self.slots.get_mut(&id) {
                    slot.over.get_or_insert(Over::Reset(status));
                    slot.wake();
                }
            }
            Event::GoAway { status, .. } => {
                debug!(status = status.0, "the peer says GOAWAY");
                self.peer_close = Some(status);
                self.wake_acceptors();
                self.turns.dismiss();
                self.end_waiters.drain(..).for_each(std::task::Waker::wake);
            }
            Event::Dropped(
                dropped @ (Dropped::Unused(_) | Dropped::UnknownType(_) | Dropped::AfterGoAway(_)),
            ) => {
                debug!(%dropped, "read over");
            }
            Event::Dropped(dropped) => warn!(%dropped, "refused"),
            _ => {}
        }
    }

    fn handle_opened(&mut self, id: StreamId, headers: Headers, fin: bool) {
        self.clock.on_data(Instant::now());
        self.totals.streams_of_peer += 1;
        if self.acceptors == 0 {
            debug!(stream = %id, "refused a stream: nobody accepts any more");
            return self.session.reset(id, ResetStatus::REFUSED_STREAM);
        }
        // Headers wait in memory as data does.
        self.occupy(size(&headers));
        self.slots.insert(id, Slot::new(false, false, fin));
        self.backlog.push_back(Waiting { id, headers, fin });
        self.wake_acceptors();
    }

    fn handle_data(&mut self, id: StreamId, bytes: BytesMut) {
        let discards = self.closing.is_some();
        let Some(slot) = self.slots.get_mut(&id).filter(|slot| !discards && !slot.inbox.discard) else {
            self.totals.discarded += bytes.len() as u64;
            return;
        };
        let now = Instant::now();
        self.clock.on_data(now);
        if slot.inbox.len() == 0 {
            // From now on its reader can be slow.
            slot.taken = now;
        }
        let len = bytes.len();
        slot.inbox.received += len as u64;
        slot.inbox.push(bytes);
        if let Some(waker) = slot.inbox.waker.take() {
            waker.wake();
        }
        self.totals.received += len as u64;
        self.occupy(len);
    }

    /// Takes a stream that nobody has accepted out of the backlog, with all it holds; false when there is none.
    pub(super) fn withdraw(&mut self, id: StreamId) -> bool {
        let Some(at) = self.backlog.iter().position(|waiting| waiting.id == id) else { return false };
        let headers = self.backlog.remove(at).map_or(0, |waiting| size(&waiting.headers));
        let held = self.slots.remove(&id).map_or(0, |mut slot| slot.inbox.clear());
        self.release(headers + held);
        true
    }

    /// All streams that nobody has accepted.
    pub(super) fn withdraw_all(&mut self) {
        while let Some(id) = self.backlog.front().map(|waiting| waiting.id) {
            self.session.reset(id, ResetStatus::REFUSED_STREAM);
            self.withdraw(id);
        }
    }

    /// A stream is taken from the backlog to be given out.
    pub(super) fn take_waiting(&mut self) -> Option<(StreamId, Headers, bool)> {
        let Waiting { id, headers, fin } = self.backlog.pop_front()?;
        self.release(size(&headers));
        Some((id, headers, fin))
    }

    /// Nothing was read for as long as a stalled stream is borne with: gives one up where another would get on by it.
    ///
    /// False: nobody would, and then this is plain back-pressure, which may last.
    pub(super) fn evict_one(&mut self, now: Instant, grace: Duration) -> bool {
        let soft = self.limits.soft_stream;
        let stalled = self.slots.iter().filter(|(_, slot)| slot.inbox.len() > 0 && now - slot.taken >= grace);
        // One that hoards goes before one that does not; among those the one that was not read for longest, among the
        // others the one that holds most.
        let victim = stalled.max_by_key(|(_, slot)| {
            let held = slot.inbox.len();
            let hoards = held > soft;
            (hoards, if hoards { now - slot.taken } else { Duration::ZERO }, held)
        });
        let Some((id, held)) = victim.map(|(id, slot)| (*id, slot.inbox.len())) else { return false };
        let profits = |(other, slot): (&StreamId, &Slot)| *other != id && slot.waits_for_input();
        if self.expecting == 0 && !self.slots.iter().any(profits) {
            return false;
        }
        warn!(stream = %id, bytes = held, "giving up a stream that nobody reads while others wait");
        self.totals.evicted += 1;
        self.session.reset(id, ResetStatus::FLOW_CONTROL_ERROR);
        self.offer_room();
        if !self.withdraw(id) {
            let freed = self.slots.get_mut(&id).map_or(0, |slot| {
                slot.over = Some(Over::Evicted);
                slot.wake();
                slot.inbox.clear()
            });
            self.release(freed);
        }
        true
    }
}

fn size(headers: &Headers) -> usize {
    headers.iter().map(|(name, value)| name.len() + value.len()).sum()
}
