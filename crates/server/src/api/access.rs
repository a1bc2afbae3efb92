//! Everything that decides whether a request is served.

use crate::{
    auth::{Authenticator, Denied, Identity, Links},
    authz::{Authorizer, Everything},
    browser::Browsers,
};
use std::fmt;

/// Who is let in, and what they may do then. An [`Authenticator`] alone becomes one in which everybody who is let in may do
/// everything.
pub struct Access {
    pub(super) authenticator: Box<dyn Authenticator>,
    pub(super) authorizer: Box<dyn Authorizer>,
    pub(super) browsers: Browsers,
    pub(super) links: Links,
}

impl Access {
    /// Lets in whom `authenticator` names; they may do everything.
    pub fn new(authenticator: impl Authenticator) -> Self {
        Self {
            authenticator: Box::new(authenticator),
            authorizer: Box::new(Everything),
            browsers: Browsers::default(),
            links: Links::new(),
        }
    }

    /// The names of the server, and whose pages may use it.
    #[must_use]
    pub fn browsers(mut self, browsers: Browsers) -> Self {
        self.browsers = browsers;
        self
    }

    /// They may do what `authorizer` allows.
    #[must_use]
    pub fn authorizer(mut self, authorizer: impl Authorizer) -> Self {
        self.authorizer = Box::new(authorizer);
        self
    }

    /// What is true now of somebody who was named before.
    pub(super) fn present(&self, identity: Identity) -> Result<Identity, Denied> {
        if !identity.listed {
            return Ok(identity);
        }
        self.authenticator.listed(&identity.user).unwrap_or(Err(Denied::Unknown))
    }
}

impl<A: Authenticator> From<A> for Access {
    fn from(authenticator: A) -> Self {
        Self::new(authenticator)
    }
}

impl fmt::Debug for Access {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Access").finish_non_exhaustive()
    }
}
