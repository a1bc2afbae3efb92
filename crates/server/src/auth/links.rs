//! One-time links: a person who is known already (by a socket, by a terminal) gets a code to open a page with, and the page
//! trades it for a token of its own that soon ends.
//!
//! The code travels in the fragment of a URL, which browsers send to nobody, and in the body of `POST /auth/exchange`; never
//! in a path or a query, which end up in logs and histories. It is good once and for a minute: who finds it later finds
//! nothing.

use super::{
    Authenticator, Denied, Identity, Token,
    bearer::{Digest, digest},
    presented,
};
use crate::limits::{LINK_CODE, LINK_TOKEN, LINKS};
use futures_util::future::BoxFuture;
use http::request::Parts;
use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use subtle::ConstantTimeEq;

/// The open links of a server and the tokens that they were traded for. Clones are handles to the same ones.
#[derive(Clone, Default)]
pub struct Links {
    shared: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    codes: Vec<Entry>,
    tokens: Vec<Entry>,
}

struct Entry {
    digest: Digest,
    identity: Identity,
    expires: Instant,
}

/// Every entry is compared, whether or not one has matched before.
fn find(entries: &[Entry], secret: &[u8]) -> Option<usize> {
    let secret = digest(secret);
    let mut found = None;
    for (index, entry) in entries.iter().enumerate() {
        if bool::from(entry.digest.ct_eq(&secret)) {
            found = Some(index);
        }
    }
    found
}

impl Links {
    /// No links.
    pub fn new() -> Self {
        Self::default()
    }

    /// A code of 256 random bits that lets its bearer in as `identity`: once, and within a minute. Show it to that person
    /// alone, as `https://HOST/#CODE`. `None` when a thousand are open. What it is traded for is good for as long as a user
    /// that is [`listed`](Identity::listed) is, and with the groups that it has then.
    pub fn mint(&self, identity: &Identity) -> Option<Token> {
        self.mint_at(identity, Instant::now())
    }

    fn mint_at(&self, identity: &Identity, now: Instant) -> Option<Token> {
        let mut state = self.lock();
        let code = add(&mut state.codes, identity.clone(), LINK_CODE, now)?;
        drop(state);
        tracing::info!(user = ?identity.user, "one-time link made");
        Some(code)
    }

    /// Trades a code for a token and tells how long that is good. `None` for a code that is unknown, used or too old, and
    /// when a thousand tokens are in use; the code is used up whatever comes of it.
    pub(crate) fn exchange(&self, code: &str) -> Option<(Identity, Token, Duration)> {
        self.exchange_at(code, Instant::now())
    }

    fn exchange_at(&self, code: &str, now: Instant) -> Option<(Identity, Token, Duration)> {
        let mut state = self.lock();
        let at = find(&state.codes, code.as_bytes())?;
        let Entry { identity, expires, .. } = state.codes.swap_remove(at);
        if now >= expires {
            return None;
        }
        let token = add(&mut state.tokens, identity.clone(), LINK_TOKEN, now)?;
        Some((identity, token, LINK_TOKEN))
    }

    fn check(&self, head: &Parts, now: Instant) -> Result<Identity, Denied> {
        let token = presented(head)?.ok_or(Denied::Missing)?;
        let state = self.lock();
        let found = find(&state.tokens, &token).and_then(|at| state.tokens.get(at)).ok_or(Denied::Unknown)?;
        if now >= found.expires { Err(Denied::Expired) } else { Ok(found.identity.clone()) }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // No section leaves the state half changed.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Drops what is over and adds one, if there is room.
fn add(entries: &mut Vec<Entry>, identity: Identity, good: Duration, now: Instant) -> Option<Token> {
    entries.retain(|entry| now < entry.expires);
    let expires = now.checked_add(good)?;
    if entries.len() >= LINKS {
        return None;
    }
    let secret = Token::random();
    entries.push(Entry { digest: digest(secret.expose().as_bytes()), identity, expires });
    Some(secret)
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Links")
            .field("codes", &state.codes.len())
            .field("tokens", &state.tokens.len())
            .finish()
    }
}

impl Authenticator for Links {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Identity, Denied>> {
        Box::pin(std::future::ready(self.check(head, Instant::now())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(token: &Token) -> Parts {
        let request = http::Request::builder().header("authorization", format!("Bearer {}", token.expose()));
        request.body(()).unwrap().into_parts().0
    }

    #[test]
    fn a_code_is_good_once_for_a_minute_and_its_token_for_an_hour() {
        let (links, now) = (Links::new(), Instant::now());
        let ann = Identity::new("ann").groups(["ops"]);
        let code = links.mint_at(&ann, now).unwrap();
        assert_eq!(links.check(&head(&code), now), Err(Denied::Unknown), "a code is no token");
        let late = links.mint_at(&ann, now).unwrap();
        let soon = now + Duration::from_secs(59);
        let (user, token, good) = links.exchange_at(code.expose(), soon).unwrap();
        assert_eq!((user, good), (ann.clone(), Duration::from_secs(3600)));
        assert!(links.exchange_at(code.expose(), soon).is_none(), "used");
        assert!(links.exchange_at(token.expose(), soon).is_none(), "a token is no code");
        assert!(links.exchange_at(late.expose(), now + LINK_CODE).is_none(), "too old");
        assert!(links.exchange_at("", now).is_none());
        assert_eq!(links.check(&head(&token), soon), Ok(ann));
        assert_eq!(links.check(&head(&token), soon + LINK_TOKEN), Err(Denied::Expired));
    }

    #[test]
    fn open_links_are_counted_and_old_ones_make_room() {
        let (links, now) = (Links::new(), Instant::now());
        for _ in 0..LINKS {
            links.mint_at(&Identity::new("a"), now).unwrap();
        }
        assert!(links.mint_at(&Identity::new("a"), now).is_none());
        assert!(links.mint_at(&Identity::new("a"), now + LINK_CODE).is_some());
        assert_eq!(format!("{links:?}"), "Links { codes: 1, tokens: 0 }");
    }
}
