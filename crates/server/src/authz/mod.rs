//! Who may do what. Authentication has named the caller; an [`Authorizer`] says yes or no to one request, in the terms of
//! Kubernetes: a verb on a resource in a namespace. How it decides is the embedder's to choose (a policy file here, a
//! SubjectAccessReview there).

mod policy;

pub use policy::{Policy, PolicyError};

use crate::auth::Identity;
use futures_util::future::BoxFuture;
use std::fmt;

/// What a request would do. All names are decoded, as the handlers use them: nothing looks at the path again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a Identity,
    /// `get`, `list`, `watch` or `create`. Exec, attach and port-forward are `create` whatever their HTTP method: a
    /// role that may only read must not run code by a GET.
    pub verb: &'static str,
    /// `pods` or `namespaces`; or `/metrics`, a path that is no resource, for which all that follows is empty.
    pub resource: &'static str,
    /// `exec`, `attach`, `portforward` or `log`; empty for the resource itself.
    pub subresource: &'static str,
    /// Empty where all namespaces are meant. For a namespace itself: its name.
    pub namespace: &'a str,
    /// Empty for a list or a watch, unless its field selector names one object. A pod of this name need not exist.
    pub name: &'a str,
    /// The container: the one asked for, else the only one of the pod. Empty where there is no such thing (port-forward,
    /// lists) and where none was named and the pod has several or does not exist.
    pub container: &'a str,
}

impl Attributes<'_> {
    /// `pods/exec`, or `pods`.
    pub fn full_resource(&self) -> String {
        match self.subresource {
            "" => self.resource.to_owned(),
            subresource => format!("{}/{subresource}", self.resource),
        }
    }
}

/// A no: answered with 403 and a Status in the words of Kubernetes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Forbidden {
    /// Shown to the caller behind the sentence that says what was forbidden; empty for none. It must not tell whether
    /// something exists.
    pub reason: String,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Says whether a request may be carried out. Asked once for each, before anything that it names is looked at on its
/// behalf, and again while what was allowed goes on, when [`version`](Self::version) has changed.
///
/// The future may be dropped at any time (the client went away); it must not hold a lock across an await. An authorizer
/// that cannot decide refuses.
pub trait Authorizer: Send + Sync + 'static {
    /// `Ok` and nothing else lets the request through.
    fn authorize<'a>(&'a self, asked: Attributes<'a>) -> BoxFuture<'a, Result<(), Forbidden>>;

    /// Changes when the answers may have: running sessions, watches and logs are asked about again then
    /// ([`Api::keep_access`](crate::Api::keep_access)). Never, by default. It is asked once a second and must not wait.
    fn version(&self) -> u64 {
        0
    }
}

/// Everybody who was authenticated may do everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Everything;

impl Authorizer for Everything {
    fn authorize<'a>(&'a self, _asked: Attributes<'a>) -> BoxFuture<'a, Result<(), Forbidden>> {
        Box::pin(std::future::ready(Ok(())))
    }
}
