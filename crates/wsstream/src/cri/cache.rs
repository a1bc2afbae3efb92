//! Tokens that are good once, for a while, and only so many at a time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::time::Instant;

use super::Error;

/// 8 characters of base64url, which a URL takes as they are. Guessing one of a thousand within its minute takes some 2^38
/// requests.
const TOKEN_BYTES: usize = 6;

/// How often a token that happens to be taken is drawn anew.
const TRIES: usize = 10;

/// The tokens that were given out and not used yet.
#[derive(Debug)]
pub(super) struct Cache<T> {
    ttl: Duration,
    max: usize,
    entries: Mutex<HashMap<String, Entry<T>>>,
}

#[derive(Debug)]
struct Entry<T> {
    /// Good until then, inclusive.
    until: Instant,
    value: T,
}

impl<T> Cache<T> {
    pub(super) fn new(ttl: Duration, max: usize) -> Self {
        Self { ttl, max, entries: Mutex::default() }
    }

    /// Keeps `value` and returns its token. Nothing that is still good gives way to it.
    pub(super) fn insert(&self, value: T) -> Result<String, Error> {
        let now = Instant::now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        // At most `max` of them, and once for each session: nothing finer is worth it.
        entries.retain(|_, entry| now <= entry.until);
        let full = Error::ResourceExhausted { retry_after: self.ttl };
        if entries.len() >= self.max {
            return Err(full);
        }
        for _ in 0..TRIES {
            // rand's thread generator is a CSPRNG (ChaCha, seeded by the system).
            let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>());
            if !entries.contains_key(&token) {
                entries.insert(token.clone(), Entry { until: now + self.ttl, value });
                return Ok(token);
            }
        }
        Err(full)
    }

    /// Takes what the token stands for. It is used up in any case.
    pub(super) fn consume(&self, token: &str) -> Option<T> {
        let entry = self.entries.lock().unwrap_or_else(PoisonError::into_inner).remove(token)?;
        (Instant::now() <= entry.until).then_some(entry.value)
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.entries.lock().unwrap().len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use tokio::time::advance;

    const TTL: Duration = Duration::from_secs(60);

    fn cache() -> Cache<u32> {
        Cache::new(TTL, 1000)
    }

    fn full() -> Error {
        Error::ResourceExhausted { retry_after: TTL }
    }

    #[tokio::test(start_paused = true)]
    async fn tokens_are_short_safe_in_a_url_and_never_twice() {
        let cache = cache();
        let tokens: HashSet<_> = (0..1000).map(|n| cache.insert(n).unwrap()).collect();
        assert_eq!(tokens.len(), 1000);
        for token in tokens {
            assert_eq!(token.len(), 8);
            assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'), "{token}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_cache_refuses_and_forgets_nothing() {
        let cache = cache();
        let tokens: Vec<_> = (0..1000).map(|n| cache.insert(n).unwrap()).collect();
        assert_eq!(cache.insert(1000), Err(full()));
        assert_eq!(cache.consume(tokens.last().unwrap()), Some(999));
        let newest = cache.insert(1001).unwrap();
        assert_eq!(cache.insert(1002), Err(full()));
        assert_eq!(cache.consume(&tokens[0]), Some(0), "the oldest is still there");
        assert_eq!(cache.consume(&newest), Some(1001));

        let response = full().into_response();
        assert_eq!(response.status(), 429);
        assert_eq!(response.headers()["retry-after"], "60");
        assert_eq!(response.body(), "maximum number of in-flight requests exceeded");
        assert_eq!(full().grpc_code(), 8);
    }

    #[tokio::test(start_paused = true)]
    async fn each_is_good_once_in_any_order() {
        let cache = cache();
        let tokens: Vec<_> = (0..4).map(|n| cache.insert(n).unwrap()).collect();
        for n in [0, 3, 1, 2] {
            assert_eq!(cache.consume(&tokens[n as usize]), Some(n));
            assert_eq!(cache.consume(&tokens[n as usize]), None, "twice");
        }
        assert_eq!((cache.consume("AAAAAAAA"), cache.consume("")), (None, None));
        assert_eq!(cache.len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn they_expire_after_their_time_and_not_before() {
        let cache = cache();
        let (last, late) = (cache.insert(1).unwrap(), cache.insert(2).unwrap());
        advance(TTL).await;
        assert_eq!(cache.consume(&last), Some(1), "good up to the last moment");
        advance(TTL).await;
        assert_eq!(cache.consume(&late), None);
        assert_eq!(cache.len(), 0, "what has expired is gone");
    }

    #[tokio::test(start_paused = true)]
    async fn the_expired_make_room_and_the_others_stay() {
        let cache = cache();
        for n in 0..500 {
            cache.insert(n).unwrap();
        }
        advance(TTL / 2).await;
        let kept: Vec<_> = (500..1000).map(|n| cache.insert(n).unwrap()).collect();
        assert_eq!(cache.insert(1000), Err(full()));
        advance(TTL / 2 + Duration::from_millis(1)).await;
        cache.insert(1001).unwrap();
        assert_eq!(cache.len(), 501);
        assert!(kept.iter().zip(500..).all(|(token, n)| cache.consume(token) == Some(n)));

        // A cache full of what has expired takes a new one.
        let cache = self::cache();
        for n in 0..1000 {
            cache.insert(n).unwrap();
        }
        advance(2 * TTL).await;
        cache.insert(1).unwrap();
        assert_eq!(cache.len(), 1);
    }
}
