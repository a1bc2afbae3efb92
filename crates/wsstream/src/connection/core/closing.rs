//! How a connection ends, by whomever it is ended.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use tracing::debug;
use wsstream_proto::ws::CloseReason;

use super::super::end::{End, Loss, Side};
use super::{Core, Step};
use crate::patience::Round;
use crate::transport::UnsentProbe;

impl Core {
    pub(super) fn poll_shutdown(&mut self, write: &Waker) -> Poll<()> {
        if let (Some(io), None) = (self.io.as_mut(), &self.broken) {
            // This side has said all it had to say: an error now changes nothing.
            let _ = ready!(Pin::new(io).poll_shutdown(&mut Context::from_waker(write)));
        }
        self.shut = true;
        Poll::Ready(())
    }

    /// The end of a connection that can get no further, as far as it has come.
    pub(super) fn done_closing(&mut self) -> Step {
        let end = match (&self.closing, &self.broken) {
            (Some(lost @ End::Lost(_)), _) => lost.clone(),
            // A server that has closed takes nothing more, so a client has lost nothing when it could not write.
            (Some(closing), _) if !self.is_server && self.machine.received_close() => closing.clone(),
            (_, Some(loss)) => End::Lost(loss.clone()),
            (Some(closing), None) => closing.clone(),
            (None, None) => End::Lost(Loss::Eof),
        };
        self.done(end)
    }

    pub(super) fn done(&mut self, end: End) -> Step {
        self.finish(end.clone());
        Step::Done(end)
    }

    pub(super) fn handle_peer_close(&mut self, reason: CloseReason) {
        debug!(%reason, "the peer closed");
        if !self.is_server && self.closing.is_none() {
            // The machine has answered already.
            self.closing = Some(End::Closed { by: Side::Peer, reason: reason.clone() });
            self.clock.on_closing(Instant::now());
        }
        self.peer_close = Some(reason);
        self.wake_readers();
        if !self.is_server {
            // Nothing more is taken from those who wait to send.
            self.wakers.wake_writers();
        }
    }

    /// Nothing that the peer sends is looked at from now on; the Close that says why is in the outbox.
    pub(super) fn give_up(&mut self, loss: Loss) {
        self.deaf = true;
        self.input = BytesMut::new();
        self.discard_unfinished();
        // A server that has closed throws away what comes, so it loses nothing; a client may.
        if self.closing.is_none() || !self.is_server {
            self.closing = Some(End::Lost(loss));
            self.clock.on_closing(Instant::now());
            self.wake_all();
        }
    }

    pub(super) fn handle_close_timeout(&mut self, now: Instant) {
        let Some(closing) = self.closing.clone() else { return };
        if self.give_up_the_vanished() {
            return;
        }
        let unsent = self.probe.as_ref().and_then(UnsentProbe::unsent);
        let round = Round { blocked: self.blocked, unsent, is_server: self.is_server };
        // A server that has closed takes nothing more.
        let over = matches!(closing, End::Lost(_)) || (!self.is_server && self.machine.received_close());
        if !over && self.clock.keeps_waiting(now, round) {
            return;
        }
        debug!("the peer did not complete the close handshake");
        let complete = self.is_server || self.machine.received_close() || matches!(closing, End::Lost(_));
        // A server that does not answer a client's Close may have had more to say.
        self.finish(if complete {
            closing
        } else {
            End::Lost(Loss::CloseTimeout(self.clock.timeouts.close))
        });
    }

    /// The connection is over: nothing more is read or written.
    pub(in crate::connection) fn finish(&mut self, end: End) {
        if self.end.is_none() {
            debug!(%end, "connection ended");
            self.end = Some(end);
            self.io = None;
            self.input = BytesMut::new();
            self.machine.outbox().clear();
            self.blocked = false;
            self.discard_unfinished();
            self.wake_all();
        }
    }
}
