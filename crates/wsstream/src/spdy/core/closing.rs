//! How a connection ends, by whomever it is ended.

use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use bytes::BytesMut;
use tokio::io::AsyncWrite as _;
use tokio::time::Instant;
use tracing::debug;
use wsstream_proto::spdy::GoAwayStatus;

use super::super::end::{End, Loss, Side};
use super::{Core, Step};
use crate::patience::Round;

impl Core {
    /// Begins an orderly close, behind everything that was sent.
    pub(in crate::spdy) fn shutdown(&mut self, status: GoAwayStatus) {
        let end = match self.peer_close {
            Some(first) => End::Closed { by: Side::Peer, status: first },
            None => End::Closed { by: Side::Local, status },
        };
        self.begin_close(status, end);
    }

    pub(super) fn begin_close(&mut self, status: GoAwayStatus, end: End) {
        if self.end.is_none() && self.closing.is_none() {
            self.session.close(status);
            self.closing = Some(end);
            self.clock.on_closing(Instant::now());
            while let Some(id) = self.backlog.front().map(|waiting| waiting.id) {
                self.withdraw(id);
            }
            self.wake_all();
        }
    }

    /// Nothing that the peer sends is looked at from now on; the GOAWAY that says why is in the outbox.
    pub(super) fn give_up(&mut self, loss: Loss) {
        self.deaf = true;
        self.input = BytesMut::new();
        // Behind our own GOAWAY nothing was looked at but for the sign that the client has begun.
        self.begin_close(GoAwayStatus::PROTOCOL_ERROR, End::Lost(loss));
    }

    pub(super) fn poll_shutdown(&mut self, write: &Waker) -> Poll<()> {
        if let (Some(io), None) = (self.io.as_mut(), &self.broken) {
            // This side has said all it had to say: an error now changes nothing.
            let _ = ready!(Pin::new(io).poll_shutdown(&mut Context::from_waker(write)));
        }
        Poll::Ready(())
    }

    /// The end of a connection that can get no further, as far as it has come.
    pub(super) fn done_closing(&mut self) -> Step {
        let end = match (&self.closing, &self.broken) {
            (Some(closing), _) => closing.clone(),
            (None, Some(loss)) => End::Lost(loss.clone()),
            (None, None) => End::Lost(Loss::Eof),
        };
        self.done(end)
    }

    pub(super) fn done(&mut self, end: End) -> Step {
        self.finish(end);
        // The next one tells how it ended.
        Step::Again
    }

    pub(super) fn handle_close_timeout(&mut self, now: Instant) {
        let Some(closing) = self.closing.clone() else { return };
        if self.give_up_the_vanished() {
            return;
        }
        let round =
            Round { blocked: self.blocked, unsent: self.arrivals.unsent(), is_server: self.is_server };
        // Whoever ends its stream reads nothing more.
        let over = matches!(closing, End::Lost(_)) || self.eof;
        if !over && self.clock.keeps_waiting(now, round) {
            return;
        }
        debug!("the peer did not end the connection");
        // Behind our GOAWAY nothing counts, so nothing is lost.
        self.finish(closing);
    }

    /// Ends the connection when the peer's kernel does not answer any more. True when it has.
    pub(super) fn give_up_the_vanished(&mut self) -> bool {
        let Some(after) = self.clock.timeouts.dead_peer.filter(|limit| self.arrivals.silent_for(*limit))
        else {
            return false;
        };
        let lost = End::Lost(Loss::DeadPeer(after));
        self.finish(self.closing.clone().filter(|end| matches!(end, End::Lost(_))).unwrap_or(lost));
        true
    }

    /// The connection is over: nothing more is read or written.
    pub(in crate::spdy) fn finish(&mut self, end: End) {
        if self.end.is_none() {
            let end = match (end, &self.broken) {
                (End::Closed { by: Side::Local, .. }, Some(loss)) => End::Lost(loss.clone()),
                // The peer ended its stream and did not take all that we had to say.
                (End::Closed { by: Side::Local, .. }, None) if self.begun && !self.session.is_flushed() => {
                    End::Lost(Loss::Eof)
                }
                (end, _) => end,
            };
            debug!(%end, "connection ended");
            self.end = Some(end);
            self.io = None;
            self.input = BytesMut::new();
            // Also what is held back for want of a reply.
            self.session.go_away(GoAwayStatus::OK);
            self.discard_output();
            self.blocked = false;
            self.paused = false;
            while let Some(id) = self.backlog.front().map(|waiting| waiting.id) {
                self.withdraw(id);
            }
            self.wake_all();
        }
    }

    /// Why nothing can be read or sent any more; `None` while the connection is in order.
    pub(super) fn loss(&self) -> Option<Loss> {
        match self.closing.as_ref().or(self.end.as_ref())? {
            End::Lost(loss) => Some(loss.clone()),
            End::Closed { by: Side::Local, .. } => Some(Loss::ShutDown),
            End::Closed { by: Side::Peer, .. } if self.eof => Some(Loss::Eof),
            // The peer had said GOAWAY first, and then this side closed.
            End::Closed { by: Side::Peer, .. } => Some(Loss::ShutDown),
        }
    }

    /// As [`loss`](Self::loss), for those who want to send.
    pub(super) fn send_loss(&self) -> Option<Loss> {
        self.loss().or_else(|| self.broken.clone())
    }
}
