//! What the handles of a connection ask of it: read a channel, send a message, close, wait for the end.

use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use tokio::time::Instant;
use tracing::debug;
use wsstream_proto::channel::ChannelId;
use wsstream_proto::connection::SendError;
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::super::end::{End, Loss, Side};
use super::super::{ReadError, Stats, WriteError};
use super::Core;

impl Core {
    pub(in crate::connection) fn poll_chunk(
        &mut self,
        channel: usize,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Option<Bytes>, ReadError>> {
        if let Some(data) = self.try_chunk(channel) {
            return Poll::Ready(Ok(Some(data)));
        }
        let Some(inbox) = self.inboxes.get_mut(channel) else { return Poll::Ready(Ok(None)) };
        if inbox.ended {
            return Poll::Ready(Ok(None));
        }
        match (&self.peer_close, &self.closing, &self.end) {
            (Some(reason), _, _) if reason.is_normal() || (self.is_server && reason.code.is_none()) => {
                Poll::Ready(Ok(None))
            }
            (Some(reason), _, _) => Poll::Ready(Err(ReadError::Closed(reason.clone()))),
            (None, Some(End::Lost(loss)), _) | (None, _, Some(End::Lost(loss))) => {
                Poll::Ready(Err(ReadError::Lost(loss.clone())))
            }
            (None, _, Some(End::Closed { .. })) => Poll::Ready(Ok(None)),
            (None, Some(End::Closed { .. }), None) if self.is_server => Poll::Ready(Ok(None)),
            (None, _, None) => {
                inbox.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    pub(in crate::connection) fn try_chunk(&mut self, channel: usize) -> Option<Bytes> {
        let data = self.inboxes.get_mut(channel)?.pop()?;
        self.queued -= data.len();
        self.resume();
        Some(data)
    }

    /// How many bytes of a channel were read or thrown away, and the beginning of those that wait.
    #[cfg(feature = "client")]
    pub(in crate::connection) fn glimpse(&self, channel: usize, limit: usize) -> (u64, Vec<u8>) {
        let inbox = self.inboxes.get(channel);
        inbox.map(|inbox| (inbox.received - inbox.len() as u64, inbox.peek(limit))).unwrap_or_default()
    }

    pub(in crate::connection) fn poll_send(
        &mut self,
        channel: ChannelId,
        payload: impl FnOnce() -> Bytes,
        cx: &mut Context<'_>,
        write: &Waker,
        handle: u64,
    ) -> Poll<Result<(), WriteError>> {
        ready!(self.poll_queue(channel, payload, cx, write, handle))?;
        self.transmit(write);
        Poll::Ready(Ok(()))
    }

    /// The same without writing: for a message that another one follows at once, so that both are one write.
    pub(in crate::connection) fn poll_queue(
        &mut self,
        channel: ChannelId,
        payload: impl FnOnce() -> Bytes,
        cx: &mut Context<'_>,
        write: &Waker,
        handle: u64,
    ) -> Poll<Result<(), WriteError>> {
        ready!(self.poll_room(channel, cx, write, handle))?;
        let payload = payload();
        let len = payload.len();
        let before = self.machine.outbox().len();
        self.machine.send(channel, payload)?;
        self.queued_frames += (self.machine.outbox().len() - before) as u64;
        if let Some(sent) = self.sent.get_mut(usize::from(channel.0)) {
            *sent += len as u64;
        }
        if len > 0 {
            self.clock.on_data(Instant::now());
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when a message would be taken now.
    fn poll_room(
        &mut self,
        channel: ChannelId,
        cx: &mut Context<'_>,
        write: &Waker,
        handle: u64,
    ) -> Poll<Result<(), WriteError>> {
        self.writable(channel)?;
        if self.machine.outbox().len() >= self.limits.send_buffer {
            self.transmit(write);
            self.writable(channel)?;
            if self.machine.outbox().len() >= self.limits.send_buffer {
                self.wakers.wait_for_room(handle, cx.waker());
                return Poll::Pending;
            }
        }
        if self.wakers.lets_others_go_first(handle) {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }

    fn writable(&self, channel: ChannelId) -> Result<(), WriteError> {
        match (&self.end, &self.closing) {
            (Some(End::Lost(loss)), _) | (None, Some(End::Lost(loss))) => Err(WriteError::Lost(loss.clone())),
            (Some(End::Closed { .. }), _) => Err(WriteError::Refused(SendError::Closing)),
            _ => {
                self.machine.may_send(channel)?;
                self.broken.clone().map_or(Ok(()), |loss| Err(WriteError::Lost(loss)))
            }
        }
    }

    /// Why nothing can be sent, unless this side or the peer has closed in good order.
    fn loss(&self) -> Option<Loss> {
        match self.end.as_ref().or(self.closing.as_ref()) {
            Some(End::Lost(loss)) => Some(loss.clone()),
            Some(End::Closed { .. }) if self.end.is_some() => None,
            _ => self.broken.clone(),
        }
    }

    /// Ready when the wire has taken all that was queued when `mark` was first seen empty. Others may go on to queue.
    pub(in crate::connection) fn poll_flush(
        &mut self,
        mark: &mut Option<u64>,
        cx: &mut Context<'_>,
        write: &Waker,
        handle: u64,
    ) -> Poll<Result<(), WriteError>> {
        let mark_at = *mark.get_or_insert(self.queued_frames);
        self.transmit(write);
        if let Some(loss) = self.loss() {
            return Poll::Ready(Err(WriteError::Lost(loss)));
        }
        // Control frames wait there too, so what is unsent of the handles' frames is this much at most.
        let unsent = self.machine.outbox().len() as u64;
        if self.blocked && (unsent == 0 || self.queued_frames.saturating_sub(unsent) < mark_at) {
            self.wakers.wait_to_flush(handle, cx.waker());
            return Poll::Pending;
        }
        *mark = None;
        Poll::Ready(Ok(()))
    }

    pub(in crate::connection) fn half_close(
        &mut self,
        channel: ChannelId,
        write: &Waker,
    ) -> Result<(), WriteError> {
        if let Some(loss) = self.loss() {
            return Err(WriteError::Lost(loss));
        }
        let before = self.machine.outbox().len();
        self.machine.half_close(channel)?;
        self.queued_frames += (self.machine.outbox().len() - before) as u64;
        self.transmit(write);
        Ok(())
    }

    /// Begins an orderly close, behind everything that was sent.
    pub(in crate::connection) fn shutdown(&mut self, reason: &CloseReason, write: &Waker) {
        let end = match &self.peer_close {
            Some(first) => End::Closed { by: Side::Peer, reason: first.clone() },
            None => End::Closed { by: Side::Local, reason: reason.clone() },
        };
        self.begin_close(reason, end);
        if self.is_server {
            self.discard_all();
            self.wake_readers();
        }
        self.transmit(write);
        self.wakers.wake_driver();
        // Nothing more is taken from those who wait to send.
        self.wakers.wake_writers();
    }

    pub(super) fn begin_close(&mut self, reason: &CloseReason, end: End) {
        if self.end.is_none() && self.closing.is_none() {
            let lost = matches!(end, End::Lost(_));
            self.machine.close(reason);
            self.closing = Some(end);
            self.clock.on_closing(Instant::now());
            if lost {
                self.wake_all();
            }
        }
    }

    pub(in crate::connection) fn add_handle(&mut self) {
        self.handles += 1;
    }

    pub(in crate::connection) fn drop_handle(&mut self, write: &Waker) {
        self.handles -= 1;
        if self.handles > 0 || self.end.is_some() || self.closing.is_some() {
            return;
        }
        match &self.peer_close {
            // The peer was done, and so is the application.
            Some(reason) => self.shutdown(&CloseReason { code: reason.code, reason: String::new() }, write),
            None => {
                let code = if self.is_server { CloseCode::INTERNAL } else { CloseCode::GOING_AWAY };
                debug!(%code, "closing a connection that was dropped");
                self.begin_close(&CloseReason::new(code, "session abandoned"), End::Lost(Loss::Abandoned));
                self.transmit(write);
                self.wakers.wake_driver();
            }
        }
    }

    /// Takes the reading side of a channel; `None` when it is taken or does not exist.
    pub(in crate::connection) fn take_reader(&mut self, channel: usize) -> Option<()> {
        let inbox = self.inboxes.get_mut(channel)?;
        (!std::mem::replace(&mut inbox.taken, true)).then_some(())
    }

    pub(in crate::connection) fn drop_reader(&mut self, channel: usize) {
        if let Some(inbox) = self.inboxes.get_mut(channel) {
            inbox.discard = true;
            inbox.waker = None;
            self.queued -= inbox.clear();
            self.resume();
        }
    }

    /// Readers that nobody took will never be taken: the handle that gives them is gone.
    pub(in crate::connection) fn drop_untaken_readers(&mut self) {
        for channel in 0..self.inboxes.len() {
            if self.inboxes.get(channel).is_some_and(|inbox| !inbox.taken) {
                self.drop_reader(channel);
            }
        }
    }

    pub(in crate::connection) fn poll_end(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match &self.end {
            Some(end) => Poll::Ready(end.clone()),
            None => self.wait_for_end(cx),
        }
    }

    /// Ready once the peer has closed, or the connection is lost or closing for any reason but our shutdown.
    pub(in crate::connection) fn poll_disconnect(&mut self, cx: &mut Context<'_>) -> Poll<End> {
        match (&self.peer_close, &self.closing, &self.end) {
            (Some(reason), _, None) => Poll::Ready(End::Closed { by: Side::Peer, reason: reason.clone() }),
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
    pub(in crate::connection) fn last_data(&self) -> Instant {
        self.clock.last_data()
    }

    pub(in crate::connection) fn stats(&self) -> Stats {
        Stats {
            received: self.inboxes.iter().map(|inbox| inbox.received).collect(),
            sent: self.sent.clone(),
            empty_messages: self.inboxes.iter().map(|inbox| inbox.empty_messages).sum(),
            dropped: self.machine.drop_counts(),
            waiting: self.queued,
            most_waiting: self.most_queued,
            pings: self.pings,
            pings_missed: self.clock.pings_missed(),
        }
    }
}
