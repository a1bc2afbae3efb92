//! What has gone over the streams of one session so far, for whoever watches it while it runs.
//!
//! A connection counts for itself, under its lock, and tells at the end. A list of running sessions and a gauge ask many
//! sessions at any time, and must not hold up a byte for that: so these are plain atomics, one addition for each piece.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// Counts bytes as a handler takes and sends them. Give it to the streams of a session
/// ([`Streams::measure`](crate::remotecommand::Streams::measure),
/// [`PortStream::measure`](crate::portforward::PortStream::measure)) or add to it yourself; any number of streams may share
/// one, and it may be read at any time.
#[derive(Debug)]
pub struct Meter {
    since: Instant,
    input: AtomicU64,
    output: AtomicU64,
    errors: AtomicU64,
    /// Nanoseconds from `since` on, plus one; 0: not yet.
    first_output: AtomicU64,
}

/// What a [`Meter`] has counted, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Metered {
    /// Taken from the client by the handler: stdin, or what goes to a forwarded port.
    pub input: u64,
    /// Queued for the client: stdout, what comes from a forwarded port, or a log.
    pub output: u64,
    /// Queued for the client as stderr.
    pub errors: u64,
}

impl Default for Meter {
    fn default() -> Self {
        let zero = || AtomicU64::new(0);
        Self { since: Instant::now(), input: zero(), output: zero(), errors: zero(), first_output: zero() }
    }
}

impl Meter {
    /// Adds to what was taken from the client.
    pub fn add_input(&self, bytes: usize) {
        self.input.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds to what was queued for the client.
    pub fn add_output(&self, bytes: usize) {
        self.first();
        self.output.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Adds to what was queued for the client as stderr.
    pub fn add_errors(&self, bytes: usize) {
        self.first();
        self.errors.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// What was counted so far.
    #[must_use]
    pub fn read(&self) -> Metered {
        let load = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Metered { input: load(&self.input), output: load(&self.output), errors: load(&self.errors) }
    }

    /// How long after this meter was made the first byte was queued for the client; `None`: none was yet.
    #[must_use]
    pub fn first_output(&self) -> Option<Duration> {
        self.first_output.load(Ordering::Relaxed).checked_sub(1).map(Duration::from_nanos)
    }

    fn first(&self) {
        // The clock is read once in a session.
        if self.first_output.load(Ordering::Relaxed) == 0 {
            let nanos = u64::try_from(self.since.elapsed().as_nanos()).unwrap_or(u64::MAX - 1);
            // Two at once are two first ones; either is right.
            self.first_output.store(nanos.saturating_add(1), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_first_output_is_timed_and_all_is_counted() {
        let meter = Meter::default();
        meter.add_input(3);
        assert_eq!(meter.first_output(), None, "input is no output");
        tokio::time::advance(Duration::from_millis(20)).await;
        meter.add_errors(5);
        tokio::time::advance(Duration::from_millis(20)).await;
        meter.add_output(7);
        meter.add_output(1);
        assert_eq!(meter.first_output(), Some(Duration::from_millis(20)));
        assert_eq!(meter.read(), Metered { input: 3, output: 8, errors: 5 });
    }
}
