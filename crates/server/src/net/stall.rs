//! Whether the peer of a connection takes what is written to it. An answer that nobody reads would hold its place for ever: HTTP
//! has no clock for that, and asks a body for nothing meanwhile.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::time::sleep;

/// Counts the turns between taking and not taking: odd while the peer takes nothing.
#[derive(Debug, Default)]
pub(crate) struct Stall(AtomicU64);

/// Looks in the time after which a peer is given up.
const LOOKS: u32 = 4;

impl Stall {
    /// A write, or a flush, has got on or has to wait.
    pub(crate) fn saw(&self, waits: bool) {
        let turns = self.0.load(Ordering::Relaxed);
        if (turns % 2 == 1) != waits {
            // The connection's own task alone writes.
            self.0.store(turns.wrapping_add(1), Ordering::Relaxed);
        }
    }

    /// Resolves when the peer has taken nothing of what waits for this long, or up to a quarter longer. Cancel-safe.
    pub(crate) async fn lasts(&self, time: Duration) {
        let (mut before, mut looks) = (0, 0);
        while looks < LOOKS {
            sleep(time / LOOKS).await;
            let now = self.0.load(Ordering::Relaxed);
            looks = if now % 2 == 1 && now == before { looks + 1 } else { 0 };
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, timeout};

    #[tokio::test(start_paused = true)]
    async fn only_a_peer_that_takes_nothing_for_all_the_time_is_given_up() {
        let (stall, minute) = (Stall::default(), Duration::from_secs(60));
        assert!(timeout(10 * minute, stall.lasts(minute)).await.is_err(), "nothing is written");
        let slow = async {
            loop {
                stall.saw(true);
                sleep(minute * 9 / 10).await;
                stall.saw(false);
            }
        };
        assert!(
            timeout(10 * minute, async { tokio::join!(slow, stall.lasts(minute)) }).await.is_err(),
            "a slow reader reads"
        );
        stall.saw(true);
        let begun = Instant::now();
        stall.lasts(minute).await;
        assert!((minute..=minute * 5 / 4).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    }
}
