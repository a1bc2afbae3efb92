//! Several sources of identities behind one another.
//!
//! A token decides alone: one that is wrong is refused, whatever certificate or socket the request came by. So nobody is
//! taken for somebody else because the credential that was meant did not work.

use super::{Authenticator, Denied, Identity};
use futures_util::future::BoxFuture;
use http::request::Parts;
use jiff::Timestamp;
use std::sync::Arc;

/// Asks each source of tokens until one knows the token; a source that says anything but [`Denied::Unknown`] or
/// [`Denied::Missing`] has the last word. Without a token, who the connection belongs to ([`ConnectionIdentity`]) counts.
#[derive(Default)]
pub struct Chain {
    sources: Vec<Box<dyn Authenticator>>,
}

/// Who a connection belongs to: the subject of its client certificate, or the user at the other end of a unix socket. In
/// the extensions of its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConnectionIdentity {
    /// Who.
    pub identity: Arc<Identity>,
    /// Until when. A connection may be open for longer than a certificate is good.
    pub expires: Option<Timestamp>,
}

impl ConnectionIdentity {
    /// For as long as the connection lasts.
    pub fn new(identity: Identity) -> Self {
        Self { identity: Arc::new(identity), expires: None }
    }

    /// No longer than this.
    #[must_use]
    pub fn until(mut self, end: Timestamp) -> Self {
        self.expires = Some(end);
        self
    }
}

impl Chain {
    /// Knows nobody yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a source, to be asked after those before it.
    #[must_use]
    pub fn then(mut self, source: impl Authenticator) -> Self {
        self.sources.push(Box::new(source));
        self
    }

    async fn check(&self, head: &Parts) -> Result<Identity, Denied> {
        if super::presented(head)?.is_none() {
            let connection = head.extensions.get::<ConnectionIdentity>().ok_or(Denied::Missing)?;
            if connection.expires.is_some_and(|end| Timestamp::now() > end) {
                return Err(Denied::Expired);
            }
            return Ok((*connection.identity).clone());
        }
        for source in &self.sources {
            match source.authenticate(head).await {
                Err(Denied::Unknown | Denied::Missing) => {}
                decided => return decided,
            }
        }
        Err(Denied::Unknown)
    }
}

impl std::fmt::Debug for Chain {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chain").field("sources", &self.sources.len()).finish()
    }
}

impl Authenticator for Chain {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Identity, Denied>> {
        Box::pin(self.check(head))
    }

    fn listed(&self, user: &str) -> Option<Result<Identity, Denied>> {
        self.sources.iter().find_map(|source| source.listed(user))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{BearerTokens, Token};

    #[tokio::test]
    async fn a_token_decides_and_without_one_the_connection_does() {
        let mut first = BearerTokens::default();
        first.insert("ann", &Token::new("a").unwrap());
        let mut second = BearerTokens::default();
        second.insert("ben", &Token::new("b").unwrap());
        let chain = Chain::new().then(first).then(second);
        let ask = async |token: Option<&str>, connection: Option<&str>| {
            let mut request = http::Request::builder();
            if let Some(token) = token {
                request = request.header("authorization", format!("Bearer {token}"));
            }
            if let Some(name) = connection {
                request = request.extension(ConnectionIdentity::new(Identity::new(name)));
            }
            chain.authenticate(&request.body(()).unwrap().into_parts().0).await
        };
        assert_eq!(ask(Some("a"), None).await, Ok(Identity::new("ann")));
        assert_eq!(ask(Some("b"), Some("cert")).await, Ok(Identity::new("ben")));
        assert_eq!(ask(None, Some("cert")).await, Ok(Identity::new("cert")));
        let mut late = http::Request::new(()).into_parts().0;
        late.extensions.insert(ConnectionIdentity::new(Identity::new("cert")).until(Timestamp::UNIX_EPOCH));
        assert_eq!(chain.authenticate(&late).await, Err(Denied::Expired));
        assert_eq!(ask(None, None).await, Err(Denied::Missing));
        assert_eq!(ask(Some("x"), Some("cert")).await, Err(Denied::Unknown), "no falling back");
        assert_eq!(
            Chain::new().authenticate(&http::Request::new(()).into_parts().0).await,
            Err(Denied::Missing)
        );
    }
}
