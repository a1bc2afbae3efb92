//! The future that moves a connection.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until};

use super::core::{Shared, Step};
use super::end::{End, Loss};

/// Reads, writes, answers pings, and keeps time.
///
/// Spawn it, or poll it beside your own work; nothing moves without it. It resolves when the connection is over, and is
/// cancel-safe in the sense that polling can stop and go on at any time. Dropped before its end, it drops the wire and
/// every handle reports [`Loss::DriverDropped`].
#[must_use = "a connection does nothing unless its driver is polled"]
pub struct Driver {
    shared: Arc<Shared>,
    /// Set for the earliest deadline seen; deadlines move back with every byte, so it may fire early and is set anew.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Driver {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, timer: None }
    }

    /// Ready when a deadline may have passed.
    fn poll_timer(&mut self, at: Instant, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.timer {
            Some(timer) if timer.deadline() <= at => {}
            Some(timer) => timer.as_mut().reset(at),
            None => self.timer = Some(Box::pin(sleep_until(at))),
        }
        if let Some(timer) = &mut self.timer {
            ready!(timer.as_mut().poll(cx));
            self.timer = None;
        }
        Poll::Ready(())
    }
}

impl Future for Driver {
    type Output = End;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<End> {
        let this = &mut *self;
        this.shared.driver.set(cx.waker());
        loop {
            // The lock is taken anew for each step, so that handles on other threads get their turn.
            let step = this.shared.lock().step(cx, &this.shared.write_waker);
            match step {
                Step::Again => continue,
                Step::Done(end) => return Poll::Ready(end),
                Step::Wait => {}
            }
            let next = this.shared.lock().next_deadline();
            let Some((at, due)) = next else {
                this.timer = None;
                return Poll::Pending;
            };
            let now = Instant::now();
            if at <= now {
                this.shared.lock().handle_due(due, now);
            } else {
                ready!(this.poll_timer(at, cx));
            }
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.shared.lock().finish(End::Lost(Loss::DriverDropped));
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").finish_non_exhaustive()
    }
}
