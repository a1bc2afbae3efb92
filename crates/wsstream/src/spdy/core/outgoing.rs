//! What goes out: one write of as many frames as wait, and who may queue more after it.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::Buf as _;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use tracing::debug;
use wsstream_proto::spdy::{SendQueue, StreamId};

use super::super::end::Loss;
use super::{Core, Watch};
use crate::transport::Io;

/// Slices in one write: the session cuts at most 32 frames ahead, each a head and a payload.
const SLICES: usize = 64;

/// What a writer leaves to the driver, in bytes: below it, frames gather until the driver's turn and go in one write.
/// From here on a write of its own is worth a system call, and saves the change of tasks.
const WORTH_A_WRITE: usize = 32 << 10;

/// A wire that takes one slice at a time gets frames copied together up to this many bytes.
const GATHERED: usize = 64 << 10;

impl Core {
    /// Writes as much of the outbox as the wire takes.
    pub(super) fn transmit(&mut self, write: &Waker) {
        if self.broken.is_some() {
            // Answers to what still comes in.
            self.discard_output();
        }
        if self.end.is_some() {
            return;
        }
        if self.session.outbox().is_empty() && !self.needs_flush {
            return;
        }
        let before = self.written;
        let result = self.poll_transmit(&mut Context::from_waker(write));
        if let Poll::Ready(Err(error)) = result {
            debug!(%error, "writing failed");
            self.broken = Some(Loss::io(&error));
            self.discard_output();
            self.needs_flush = false;
            self.blocked = false;
            return self.wake_all();
        }
        let took = self.written > before;
        let drained = self.arrivals.drained();
        let was_blocked = std::mem::replace(&mut self.blocked, result.is_pending());
        if took || drained || self.blocked != was_blocked {
            let now = Instant::now();
            self.clock.on_written(now);
            if was_blocked && !self.blocked {
                self.clock.on_unblocked(now);
            }
        }
        if (self.blocked && !was_blocked) || (self.choked && self.session.wants_read()) {
            // Its deadlines have changed, or it may read again.
            self.call_driver();
        }
        if took || !self.blocked {
            self.wake_writers(took);
        }
    }

    fn poll_transmit(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(io) = self.io.as_mut() else { return Poll::Ready(Ok(())) };
        let outbox = self.session.outbox();
        while !outbox.is_empty() {
            let n = ready!(poll_write(io.as_mut(), outbox, cx))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            outbox.advance(n);
            self.written += n as u64;
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// All that the peer's kernel has not acknowledged, as far as anybody can tell.
    #[cfg(feature = "client")]
    pub(in crate::spdy) fn undelivered(&self) -> usize {
        self.session.total_out() + self.arrivals.held() + self.arrivals.unsent().unwrap_or_default()
    }

    /// What is queued will never be sent.
    pub(super) fn discard_output(&mut self) {
        let outbox = self.session.outbox();
        while !outbox.is_empty() {
            outbox.advance(outbox.remaining());
        }
        self.send_limit();
    }

    /// Something was queued. Small things gather until the driver's turn.
    pub(super) fn queued_output(&mut self, write: Option<&Waker>) {
        let total = self.session.total_out();
        self.totals.most_unsent = self.totals.most_unsent.max(total);
        match write {
            Some(write) if total >= WORTH_A_WRITE && !self.blocked => self.transmit(write),
            // The wire calls the driver when it is ready again.
            _ if self.blocked => {}
            _ => self.call_driver(),
        }
    }

    /// A writer waits until its own stream has less queued.
    pub(super) fn watch(&mut self, id: StreamId, below: usize, flush: bool) {
        let watch = Watch { id, below, flush };
        match self.watches.iter_mut().find(|watch| watch.id == id) {
            Some(old) => *old = watch,
            None => self.watches.push(watch),
        }
    }

    pub(super) fn unwatch(&mut self, id: StreamId) {
        self.watches.retain(|watch| watch.id != id);
    }

    /// The wire took something, or was flushed.
    fn wake_writers(&mut self, took: bool) {
        let (session, slots, flushed) = (&self.session, &mut self.slots, !self.needs_flush);
        self.watches.retain(|watch| {
            let ready = session.queued_out(watch.id) <= watch.below && (flushed || !watch.flush);
            if ready && let Some(waker) = slots.get_mut(&watch.id).and_then(|slot| slot.write_waker.take()) {
                waker.wake();
            }
            !ready
        });
        let limit = self.send_limit();
        self.turns.offer(self.session.total_out(), limit, took);
    }

    /// Gives up a place in the queue for room: it was used, or is not wanted any more.
    pub(super) fn leave_queue(&mut self, number: u64) {
        self.turns.leave(number);
        self.offer_room();
    }

    /// There may be room that nobody has taken.
    pub(super) fn offer_room(&mut self) {
        let limit = self.send_limit();
        self.turns.offer(self.session.total_out(), limit, false);
    }

    /// What may wait for the wire before writers have to wait: less where there is no shared memory for it. The wire makes
    /// room below that as well, so nobody has to be told when others give something back.
    pub(super) fn send_limit(&mut self) -> usize {
        let own = self.limits.own_share.max(1);
        let has_more = self.output.cover(self.session.total_out().saturating_sub(own));
        if has_more { self.limits.send_total } else { self.limits.send_total.min(own) }
    }

    /// Whether at least two streams have data for the wire.
    pub(super) fn is_contended(&self) -> bool {
        self.slots.keys().filter(|id| self.session.queued_out(**id) > 0).take(2).count() == 2
    }
}

fn poll_write(io: &mut dyn Io, outbox: &SendQueue, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let n = outbox.chunks_vectored(&mut slices);
    let slices = slices.get(..n).unwrap_or_default();
    if io.is_write_vectored() || n == 1 {
        return Pin::new(io).poll_write_vectored(cx, slices);
    }
    let mut gathered = Vec::with_capacity(outbox.remaining().min(GATHERED));
    for slice in slices {
        let room = GATHERED - gathered.len();
        gathered.extend_from_slice(slice.get(..slice.len().min(room)).unwrap_or_default());
    }
    Pin::new(io).poll_write(cx, &gathered)
}
