//! How often something may happen: as people type it (`20`, `20/s:100`, `30/m`), and the bucket that counts it.

use std::{fmt, str::FromStr, time::Duration};
use tokio::time::Instant;

/// So many in a time, and so many at once after a pause. `Display` and `FromStr` are the words of flags and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many come back in [`per`](Self::per); at least 1.
    pub count: u32,
    /// In which time; not zero.
    pub per: Duration,
    /// How many there are at most; at least 1.
    pub burst: u32,
}

impl Rate {
    /// From one to the next, in seconds.
    fn interval(&self) -> f64 {
        self.per.as_secs_f64() / f64::from(self.count.max(1))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = if self.per == MINUTE { "m" } else { "s" };
        write!(f, "{}/{unit}", self.count)?;
        if self.burst == self.count { Ok(()) } else { write!(f, ":{}", self.burst) }
    }
}

const MINUTE: Duration = Duration::from_secs(60);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{text:?} is not a rate: write how many a second or a minute, and how many at once, such as 20/s, 30/m or \
                 20/s:100"
            )
        };
        let (often, burst) = text.split_once(':').map_or((text, None), |(often, burst)| (often, Some(burst)));
        let (count, per) = match often.split_once('/') {
            None | Some((_, "s")) => (often.trim_end_matches("/s"), Duration::from_secs(1)),
            Some((count, "m")) => (count, MINUTE),
            Some(_) => return Err(wrong()),
        };
        let number = |text: &str| {
            text.parse::<u32>().ok().filter(|n| *n > 0 && text.starts_with(|c: char| c.is_ascii_digit()))
        };
        let count = number(count).ok_or_else(wrong)?;
        let burst = burst.map_or(Some(count), number).ok_or_else(wrong)?;
        Ok(Self { count, per, burst })
    }
}

/// Counts by a [`Rate`]: full at first.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    tokens: f64,
    at: Instant,
}

impl Bucket {
    pub(crate) fn full(rate: &Rate) -> Self {
        Self { tokens: f64::from(rate.burst), at: Instant::now() }
    }

    fn refill(&mut self, rate: &Rate, now: Instant) {
        let gained = now.saturating_duration_since(self.at).as_secs_f64() / rate.interval();
        self.tokens = (self.tokens + gained).min(f64::from(rate.burst));
        self.at = now;
    }

    /// How long until there is one; `None`: there is one now.
    pub(crate) fn wait(&mut self, rate: &Rate) -> Option<Duration> {
        self.refill(rate, Instant::now());
        let missing = 1.0 - self.tokens;
        (missing > 0.0)
            .then(|| Duration::try_from_secs_f64(missing * rate.interval()).unwrap_or(Duration::MAX))
    }

    /// Takes one that is there.
    pub(crate) fn take(&mut self) {
        self.tokens -= 1.0;
    }

    /// Nothing would be lost by forgetting it.
    pub(crate) fn is_full(&mut self, rate: &Rate) -> bool {
        self.refill(rate, Instant::now());
        self.tokens >= f64::from(rate.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_slips_are_named() {
        let second = Duration::from_secs(1);
        for (text, count, per, burst, shown) in [
            ("20", 20, second, 20, "20/s"),
            ("20/s", 20, second, 20, "20/s"),
            ("20/s:100", 20, second, 100, "20/s:100"),
            ("20:5", 20, second, 5, "20/s:5"),
            ("30/m", 30, MINUTE, 30, "30/m"),
        ] {
            let rate: Rate = text.parse().unwrap();
            assert_eq!(rate, Rate { count, per, burst });
            assert_eq!(rate.to_string(), shown);
        }
        for text in ["", "0", "/s", "5/h", "5/s:", "5/s:0", "-1", "+1", "1.5/s", "5/s/s", "5:5:5"] {
            assert!(text.parse::<Rate>().unwrap_err().contains("is not a rate"), "{text}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bucket_gives_its_burst_and_then_by_its_rate() {
        let rate: Rate = "2/s:3".parse().unwrap();
        let mut bucket = Bucket::full(&rate);
        for _ in 0..3 {
            assert_eq!(bucket.wait(&rate), None);
            bucket.take();
        }
        assert_eq!(bucket.wait(&rate), Some(Duration::from_millis(500)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert_eq!(bucket.wait(&rate), None);
        bucket.take();
        assert!(!bucket.is_full(&rate));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!(bucket.is_full(&rate), "and holds no more than its burst");
        assert!((bucket.tokens - 3.0).abs() < 1e-9);
    }
}
