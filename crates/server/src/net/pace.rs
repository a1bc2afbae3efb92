//! The bandwidth of a session. A connection that has used up what it may read or write is not read from, or written to, for
//! a while, as if the wire were slow: TCP pushes back on the other end, and nothing is held for it here.
//!
//! It stands below the protocols, so that it is one rule for all of them, and above TLS, so that it counts what a user has of
//! it. Pings and the end of a session wait their turn like everything else, as they do behind a slow link.

use std::{
    future::Future as _,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Sets the bandwidth of a connection; none until then.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pace(Arc<AtomicUsize>);

impl Pace {
    /// So many bytes a second in each direction, from now on.
    pub(crate) fn set(&self, bytes: usize) {
        self.0.store(bytes, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// The two directions of a connection that can be slowed.
#[derive(Debug)]
pub(super) struct Paced {
    pace: Pace,
    reading: Allowance,
    writing: Allowance,
}

impl Paced {
    pub(super) fn new(pace: Pace) -> Self {
        Self { pace, reading: Allowance::new(), writing: Allowance::new() }
    }

    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.reading.poll(self.pace.get(), cx)
    }

    pub(super) fn has_read(&mut self, bytes: usize) {
        self.reading.use_up(bytes);
    }

    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.writing.poll(self.pace.get(), cx)
    }

    pub(super) fn has_written(&mut self, bytes: usize) {
        self.writing.use_up(bytes);
    }
}

/// After a pause so much of a second's worth goes at once.
const BURST: f64 = 0.25;

/// Waits are at least this long, in seconds: many small ones would cost more than they smooth.
const STEP: f64 = 0.02;

/// Bytes that may go in one direction. One read or write may take more than there is; the next waits until it is paid off, so
/// that no buffer has to be cut for the sake of the pace.
#[derive(Debug)]
struct Allowance {
    bytes: f64,
    at: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Allowance {
    fn new() -> Self {
        Self { bytes: 0.0, at: Instant::now(), sleep: None }
    }

    fn poll(&mut self, rate: usize, cx: &mut Context<'_>) -> Poll<()> {
        if rate == 0 {
            // What goes before a session begins is not counted against it.
            self.bytes = 0.0;
            return Poll::Ready(());
        }
        // Far below 2^52.
        let rate = rate as f64;
        loop {
            if let Some(sleep) = &mut self.sleep {
                std::task::ready!(sleep.as_mut().poll(cx));
                self.sleep = None;
            }
            let now = Instant::now();
            let gained = now.saturating_duration_since(self.at).as_secs_f64() * rate;
            self.bytes = (self.bytes + gained).min(rate * BURST);
            self.at = now;
            if self.bytes >= 0.0 {
                return Poll::Ready(());
            }
            let wait = (-self.bytes / rate).max(STEP);
            let wait = Duration::try_from_secs_f64(wait).unwrap_or(Duration::from_secs(1));
            self.sleep = Some(Box::pin(sleep_until(now + wait)));
        }
    }

    fn use_up(&mut self, bytes: usize) {
        self.bytes -= bytes as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;

    #[tokio::test(start_paused = true)]
    async fn each_direction_goes_at_the_pace_and_none_before_it_is_set() {
        let pace = Pace::default();
        let mut paced = Paced::new(pace.clone());
        let began = Instant::now();
        for _ in 0..100 {
            poll_fn(|cx| paced.poll_write(cx)).await;
            paced.has_written(32 << 10);
        }
        assert_eq!(began.elapsed(), Duration::ZERO);
        pace.set(64 << 10);
        let began = Instant::now();
        let mut reads = 0;
        while began.elapsed() < Duration::from_secs(100) {
            poll_fn(|cx| paced.poll_read(cx)).await;
            paced.has_read(32 << 10);
            reads += 1;
            // The other direction has its own.
            poll_fn(|cx| paced.poll_write(cx)).await;
        }
        assert!((200..=202).contains(&reads), "{reads} reads of 32 KiB in 100 s at 64 KiB a second");
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_saves_up_no_more_than_a_burst() {
        let pace = Pace::default();
        pace.set(100_000);
        let mut allowance = Allowance::new();
        tokio::time::advance(Duration::from_secs(3600)).await;
        let began = Instant::now();
        let mut sent = 0;
        while began.elapsed() < Duration::from_secs(1) {
            poll_fn(|cx| allowance.poll(pace.get(), cx)).await;
            allowance.use_up(1000);
            sent += 1000;
        }
        assert!((124_000..=130_000).contains(&sent), "{sent}");
    }
}
