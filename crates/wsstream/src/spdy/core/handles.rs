//! What the handles of a connection ask of it.

use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;
use wsstream_proto::spdy::{GoAwayStatus, Headers, ResetStatus, SendError, StreamId};

use super::super::end::{End, Loss, Side};
use super::super::slot::{Over, Slot};
use super::super::{OpenError, ReadError, Stats, WriteError};
use super::Core;

impl Core {
    // ---- streams ----

    pub(in crate::spdy) fn poll_accept(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<(StreamId, Headers, bool)>> {
        if let Some(waiting) = self.take_waiting() {
            return Poll::Ready(Some(waiting));
        }
        if self.peer_close.is_some() || self.closing.is_some() || self.end.is_some() {
            return Poll::Ready(None);
        }
        self.accept_waiters.retain(|waker| !waker.will_wake(cx.waker()));
        self.accept_waiters.push_back(cx.waker().clone());
        Poll::Pending
    }

    pub(in crate::spdy) fn accept_stream(&mut self, id: StreamId) {
        // It fails where the peer has reset the stream, or the connection is over; both are known to the handles.
        if self.session.reply(id, &Headers::default(), false).is_ok() {
            self.queued_output(None);
        }
    }

    pub(in crate::spdy) fn reject_stream(&mut self, id: StreamId, status: ResetStatus) {
        self.session.reset(id, status);
        let held = self.slots.remove(&id).map_or(0, |mut slot| slot.inbox.clear());
        self.release(held);
        self.queued_output(None);
    }

    pub(in crate::spdy) fn poll_open(
        &mut self,
        headers: &Headers,
        fin: bool,
        number: u64,
        cx: &mut Context<'_>,
        write: &Waker,
    ) -> Poll<Result<StreamId, OpenError>> {
        if let Some(loss) = self.send_loss() {
            return Poll::Ready(Err(OpenError::Lost(loss)));
        }
        if self.peer_close.is_some() {
            return Poll::Ready(Err(OpenError::GoingAway));
        }
        if !self.has_room(number) {
            self.transmit(write);
            if let Some(loss) = self.send_loss() {
                return Poll::Ready(Err(OpenError::Lost(loss)));
            }
            if !self.has_room(number) {
                self.turns.wait(number, cx.waker());
                return Poll::Pending;
            }
        }
        let opened = self.session.open(headers, fin);
        self.leave_queue(number);
        let id = opened.map_err(|error| match error {
            SendError::Headers(error) => OpenError::Headers(error),
            SendError::NoNumbersLeft => OpenError::NoNumbersLeft,
            _ => OpenError::GoingAway,
        })?;
        self.slots.insert(id, Slot::new(true, fin, false));
        self.clock.on_data(Instant::now());
        self.queued_output(Some(write));
        Poll::Ready(Ok(id))
    }

    fn has_room(&mut self, number: u64) -> bool {
        let limit = self.send_limit();
        self.session.total_out() < self.turns.limit(number, limit)
    }

    // ---- reading ----

    pub(in crate::spdy) fn poll_replied(
        &mut self,
        id: StreamId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), ReadError>> {
        let loss = self.loss();
        let Some(slot) = self.slots.get_mut(&id) else { return Poll::Ready(Err(gone())) };
        match (slot.replied, slot.over, loss) {
            (true, _, _) => Poll::Ready(Ok(())),
            (_, Some(Over::Reset(status)), _) => Poll::Ready(Err(ReadError::Reset(status))),
            (_, Some(Over::Evicted), _) => Poll::Ready(Err(ReadError::Evicted)),
            (_, _, Some(loss)) => Poll::Ready(Err(ReadError::Lost(loss))),
            _ => {
                slot.reply_waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(in crate::spdy) fn poll_chunk(
        &mut self,
        id: StreamId,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        if let Some(bytes) = self.try_chunk(id) {
            return Poll::Ready(Ok(Some(bytes)));
        }
        let Some(slot) = self.slots.get_mut(&id) else { return Poll::Ready(Err(gone())) };
        if let Some(end) = slot.read_end() {
            return Poll::Ready(end.map(|()| None));
        }
        if let Some(loss) = self.loss() {
            return Poll::Ready(Err(ReadError::Lost(loss)));
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.inbox.waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(in crate::spdy) fn try_chunk(&mut self, id: StreamId) -> Option<Bytes> {
        let slot = self.slots.get_mut(&id)?;
        let bytes = slot.inbox.pop()?;
        slot.taken = Instant::now();
        self.release(bytes.len());
        Some(bytes)
    }

    /// What has arrived, and whether the peer has ended the stream; `None`: nobody reads it.
    pub(in crate::spdy) fn watched(&self, id: StreamId) -> Option<(u64, bool)> {
        let slot = self.slots.get(&id).filter(|slot| slot.reader)?;
        let ended = matches!(slot.read_end(), Some(Ok(()) | Err(ReadError::Reset(_))));
        Some((slot.inbox.received, ended))
    }

    /// Ready when more can not arrive, or nobody reads it.
    pub(in crate::spdy) fn poll_watch(&mut self, id: StreamId, cx: &mut Context<'_>) -> Poll<()> {
        let over = self.loss().is_some();
        match self.slots.get_mut(&id) {
            Some(slot) if slot.reader && !over && slot.read_end().is_none() => {
                slot.watch_waker = Some(cx.waker().clone());
                Poll::Pending
            }
            _ => Poll::Ready(()),
        }
    }

    /// Whether the peer's FIN has come; `None`: nobody reads the stream.
    pub(in crate::spdy) fn finished(&self, id: StreamId) -> Option<bool> {
        self.slots.get(&id).filter(|slot| slot.reader).map(|slot| slot.inbox.ended)
    }

    /// Whether the stream is over before its time.
    pub(in crate::spdy) fn is_reset(&self, id: StreamId) -> bool {
        self.slots.get(&id).is_some_and(|slot| slot.over.is_some())
    }

    /// Ready when the stream is over before its time, whether or not the peer had finished it.
    pub(in crate::spdy) fn poll_reset(&mut self, id: StreamId, cx: &mut Context<'_>) -> Poll<()> {
        match self.slots.get_mut(&id) {
            Some(slot) if slot.over.is_some() => return Poll::Ready(()),
            Some(slot) => slot.watch_waker = Some(cx.waker().clone()),
            None => {}
        }
        Poll::Pending
    }

    pub(in crate::spdy) fn set_background(&mut self, id: StreamId, background: bool) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.background = background;
        }
    }

    // ---- writing ----

    pub(in crate::spdy) fn poll_send(
        &mut self,
        id: StreamId,
        payload: impl FnOnce() -> Bytes,
        cx: &mut Context<'_>,
        write: &Waker,
    ) -> Poll<Result<(), WriteError>> {
        ready!(self.poll_room(id, cx, write))?;
        let payload = payload();
        let len = payload.len();
        let sent = self.session.data(id, payload, false);
        self.unwatch(id);
        self.leave_queue(u64::from(id.get()));
        sent.map_err(|error| refused(&error))?;
        if len > 0 {
            self.totals.sent += len as u64;
            self.clock.on_data(Instant::now());
            self.queued_output(Some(write));
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when bytes would be taken now.
    fn poll_room(
        &mut self,
        id: StreamId,
        cx: &mut Context<'_>,
        write: &Waker,
    ) -> Poll<Result<(), WriteError>> {
        self.writable(id)?;
        let number = u64::from(id.get());
        let has_room =
            |core: &mut Self| (core.session.queued_out(id) < core.limits.send_stream, core.has_room(number));
        let mut room = has_room(self);
        if room != (true, true) {
            self.transmit(write);
            self.writable(id)?;
            room = has_room(self);
        }
        match room {
            (true, true) => return Poll::Ready(Ok(())),
            // Woken when half of it has gone, so that there is room for more than one write.
            (false, _) => self.watch(id, self.limits.send_stream / 2, false),
            (true, false) => self.turns.wait(number, cx.waker()),
        }
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.write_waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    fn writable(&self, id: StreamId) -> Result<(), WriteError> {
        let slot = self.slots.get(&id).ok_or(WriteError::Finished)?;
        slot.writable()?;
        self.send_loss().map_or(Ok(()), |loss| Err(WriteError::Lost(loss)))
    }

    /// Ready when the wire has taken all that is queued of the stream.
    pub(in crate::spdy) fn poll_flush(
        &mut self,
        id: StreamId,
        cx: &mut Context<'_>,
        write: &Waker,
    ) -> Poll<Result<(), WriteError>> {
        self.transmit(write);
        match self.writable(id) {
            Ok(()) => {}
            // What was finished is flushed as well, and what has arrived cannot be lost any more.
            Err(WriteError::Finished) => {}
            Err(WriteError::Lost(Loss::ShutDown)) => {}
            Err(error) => return Poll::Ready(Err(error)),
        }
        if let Some(End::Lost(loss)) = &self.end {
            return Poll::Ready(Err(WriteError::Lost(loss.clone())));
        }
        if self.session.queued_out(id) == 0 && !self.needs_flush {
            return Poll::Ready(Ok(()));
        }
        if self.end.is_some() {
            // The wire never said that it had let go of it, and is asked no more.
            return Poll::Ready(Err(WriteError::Lost(self.loss().unwrap_or(Loss::Eof))));
        }
        self.watch(id, 0, true);
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.write_waker = Some(cx.waker().clone());
        }
        Poll::Pending
    }

    pub(in crate::spdy) fn finish_stream(&mut self, id: StreamId) -> Result<(), WriteError> {
        match self.writable(id) {
            Ok(()) => {}
            Err(WriteError::Finished) => return Ok(()),
            Err(error) => return Err(error),
        }
        self.session.finish(id).map_err(|error| refused(&error))?;
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.finished = true;
        }
        self.queued_output(None);
        Ok(())
    }

    /// Ends a stream in both directions, now or behind what was sent.
    pub(in crate::spdy) fn reset_stream(&mut self, id: StreamId, status: ResetStatus, behind: bool) {
        // Behind our own goodbye nothing more can be said, and what was sent before it goes.
        if !self.session.is_open(id) || self.closing.is_some() {
            return;
        }
        if behind {
            self.session.reset_after_data(id, status);
        } else {
            self.session.reset(id, status);
        }
        self.offer_room();
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.over.get_or_insert(Over::Reset(status));
            slot.wake();
        }
        self.queued_output(None);
    }

    // ---- who is there ----

    pub(in crate::spdy) fn drop_reader(&mut self, id: StreamId) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.reader = false;
        if let Some(waker) = slot.watch_waker.take() {
            waker.wake();
        }
        slot.inbox.discard = true;
        slot.inbox.waker = None;
        let held = slot.inbox.clear();
        self.release(held);
        self.forget_if_abandoned(id);
    }

    pub(in crate::spdy) fn drop_writer(&mut self, id: StreamId) {
        self.unwatch(id);
        self.leave_queue(u64::from(id.get()));
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.writer = false;
        if !slot.finished {
            self.reset_stream(id, ResetStatus::CANCEL, true);
        }
        self.forget_if_abandoned(id);
    }

    /// Nobody is left at this end of a stream: the peer need not go on with it.
    fn forget_if_abandoned(&mut self, id: StreamId) {
        if self.slots.get(&id).is_some_and(|slot| !slot.reader && !slot.writer) {
            self.reset_stream(id, ResetStatus::CANCEL, true);
            self.slots.remove(&id);
        }
    }

    pub(in crate::spdy) fn expect_stream(&mut self, begins: bool) {
        self.expecting = if begins { self.expecting + 1 } else { self.expecting - 1 };
    }

    pub(in crate::spdy) fn add_handle(&mut self) {
        self.handles += 1;
    }

    pub(in crate::spdy) fn drop_handle(&mut self) {
        self.handles -= 1;
        if self.handles > 0 || self.end.is_some() || self.closing.is_some() {
            return;
        }
        match self.peer_close {
            // The peer was done, and so is the application.
            Some(_) => self.shutdown(GoAwayStatus::OK),
            None => {
                debug!("closing a connection that was dropped");
                self.begin_close(GoAwayStatus::INTERNAL_ERROR, End::Lost(Loss::Abandoned));
            }
        }
    }

    pub(in crate::spdy) fn add_acceptor(&mut self) {
        self.acceptors += 1;
    }

    /// Streams that nobody took will never be taken when the last handle that gives them is gone.
    pub(in crate::spdy) fn drop_acceptor(&mut self) {
        self.acceptors -= 1;
        if self.acceptors == 0 {
            self.withdraw_all();
            self.queued_output(None);
        }
    }

    // ---- the connection ----

    pub(in crate::spdy) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match &self.end {
            Some(end) => Poll::Ready(end.clone()),
            None => self.wait_for_end(cx),
        }
    }

    /// Ready once the peer has closed, or the connection is lost or closing for any reason but our shutdown.
    pub(in crate::spdy) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match (self.peer_close, &self.closing, &self.end) {
            (Some(status), _, None) => Poll::Ready(End::Closed { by: Side::Peer, status }),
            (_, Some(lost @ End::Lost(_)), None) => Poll::Ready(lost.clone()),
            (_, _, Some(end)) => Poll::Ready(end.clone()),
            _ => match &self.broken {
                Some(loss) => Poll::Ready(End::Lost(loss.clone())),
                None => self.wait_for_end(cx),
            },
        }
    }

    fn wait_for_end<T>(&mut self, cx: &mut Context<'_>) -> Poll<T> {
        // Waiters that were dropped leave their waker behind; there are few, and a task is not entered twice.
        self.end_waiters.retain(|waker| !waker.will_wake(cx.waker()));
        self.end_waiters.push_back(cx.waker().clone());
        Poll::Pending
    }

    #[cfg(feature = "server")]
    pub(in crate::spdy) fn last_data(&self) -> Instant {
        self.clock.last_data()
    }

    pub(in crate::spdy) fn stats(&self) -> Stats {
        let (totals, counts) = (&self.totals, self.session.counts());
        Stats {
            received: totals.received,
            sent: totals.sent,
            discarded: totals.discarded + counts.discarded_bytes,
            waiting: self.queued,
            most_waiting: totals.most_waiting,
            unsent: self.session.total_out(),
            most_unsent: totals.most_unsent,
            open_streams: self.session.open_streams(),
            streams_of_peer: totals.streams_of_peer,
            evicted: totals.evicted,
            pings_missed: self.clock.pings_missed(),
            counts,
        }
    }
}

/// A stream without a slot has no handle, so nobody can ask.
fn gone() -> ReadError {
    ReadError::Reset(ResetStatus::CANCEL)
}

fn refused(error: &SendError) -> WriteError {
    match error {
        SendError::GoingAway => WriteError::Lost(Loss::ShutDown),
        SendError::Finished(_) => WriteError::Finished,
        _ => WriteError::Reset(ResetStatus::CANCEL),
    }
}
