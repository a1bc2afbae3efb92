//! Who is asking. What we serve is code execution, so no route but health is answered before an [`Authenticator`] has
//! named the caller; how it does so is the embedder's to choose.

mod bearer;
mod chain;
mod credential;
mod links;
mod token_file;
mod users;

pub use bearer::{BearerTokens, Token, TokenFileError};
pub use chain::{Chain, ConnectionIdentity};
pub use links::Links;
pub use token_file::TokenFile;
pub use users::{Users, UsersError};

pub(crate) use credential::{forget, normalise, presented};

use futures_util::future::BoxFuture;
use http::request::Parts;
use std::fmt;

/// A caller whose credentials were accepted. Handlers find it in the request's extensions.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Identity {
    /// The name that log lines carry. Never a credential.
    pub user: String,
    /// The groups that the caller belongs to, for authorisation; in the order in which the source of the identity has them.
    pub groups: Vec<String>,
    /// Whether its source keeps a list, and says later as well whether this user still stands on it
    /// ([`Authenticator::listed`]). Sessions and the tokens of one-time links end with the entry.
    pub listed: bool,
}

impl Identity {
    /// A caller of this name, without groups.
    pub fn new(user: impl Into<String>) -> Self {
        Self { user: user.into(), groups: Vec::new(), listed: false }
    }

    /// The same caller, whom [`Authenticator::listed`] knows.
    #[must_use]
    pub fn listed(mut self) -> Self {
        self.listed = true;
        self
    }

    /// The same caller with exactly these groups.
    #[must_use]
    pub fn groups(mut self, groups: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.groups = groups.into_iter().map(Into::into).collect();
        self
    }
}

/// Why a request was refused: answered with 401 and a Status. The text is shown to the caller and says which credential
/// was missing or wrong, never what would have been right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Denied {
    /// The request carries no credentials.
    Missing,
    /// The `Authorization` header is not `Bearer <token>`.
    Malformed,
    /// A token as a WebSocket subprotocol is not spelled as it should be, or stands alone.
    Subprotocol,
    /// Two credentials in one request: which of two callers is meant would be a guess.
    Several,
    /// The token is none of ours.
    Unknown,
    /// The token or the certificate was good; its time is over.
    Expired,
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "Unauthorized: no bearer token was sent",
            Self::Malformed => "Unauthorized: the Authorization header is not `Bearer <token>`",
            Self::Subprotocol => {
                "Unauthorized: a token in Sec-WebSocket-Protocol is base64url.bearer.authorization.k8s.io. and the token in \
                 base64url without padding, beside at least one other subprotocol"
            }
            Self::Several => "Unauthorized: the request carries more than one credential; send one",
            Self::Unknown => "Unauthorized: the bearer token is not one that this server accepts",
            Self::Expired => "Unauthorized: the credential has expired",
        })
    }
}

impl std::error::Error for Denied {}

/// Names the caller of a request, or refuses it. Everything but a positive answer is a refusal.
///
/// The future may be dropped at any time (the client went away); it must not hold a lock across an await.
pub trait Authenticator: Send + Sync + 'static {
    /// Looks at the head of a request: method, URI and headers. A token that came as a WebSocket subprotocol stands in
    /// the `Authorization` header, as if it had been sent there; handlers see neither.
    fn authenticate<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Identity, Denied>>;

    /// What the list of users says now of one of this name: with the present groups, or that its time is over. `None`: there is
    /// nobody of the name, or no list, as by default. It is asked again and again for whom it has named
    /// ([`Identity::listed`]): it must not wait for anything.
    fn listed(&self, user: &str) -> Option<Result<Identity, Denied>> {
        let _ = user;
        None
    }
}

/// Lets everybody in as `anonymous`. Only for a router that sits behind another authenticated layer, or for tests.
#[derive(Debug, Clone, Copy, Default)]
pub struct AllowAll;

impl Authenticator for AllowAll {
    fn authenticate<'a>(&'a self, _head: &'a Parts) -> BoxFuture<'a, Result<Identity, Denied>> {
        Box::pin(std::future::ready(Ok(Identity::new("anonymous"))))
    }
}
