//! The way from a request to what it names. It leads through the [`Authorizer`](crate::authz::Authorizer): handlers are
//! given a [`Caller`] and no [`Api`], and what they serve takes a place that only a caller who was let in can make. So a
//! route that forgets to ask does not compile.
//!
//! The answer to somebody who may not do a thing is the same whether or not it exists.

use super::{
    Api,
    answer::Refusal,
    exec::{find_container, find_pod},
};
use crate::{
    auth::{Denied, Identity},
    authz::Attributes,
    pod::{Container, Pod, PodSnapshot},
};
use axum::extract::FromRequestParts;
use http::request::Parts;
use std::{marker::PhantomData, sync::Arc};
use wsstream::{proto::status::Status, remotecommand::Spelling};

/// The state of the guarded routes: an [`Api`] that nobody gets at.
#[derive(Clone)]
pub(crate) struct Gate(Api);

impl Gate {
    pub(super) fn new(api: Api) -> Self {
        Self(api)
    }
}

/// Who sent a request, in front of the gate.
pub(crate) struct Caller {
    api: Api,
    identity: Identity,
}

impl FromRequestParts<Gate> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(head: &mut Parts, gate: &Gate) -> Result<Self, Refusal> {
        // A route that lies outside of authentication by mistake is closed.
        let identity = head.extensions.get::<Identity>().cloned();
        let identity = identity.ok_or_else(|| Status::unauthorized(Denied::Missing.to_string()))?;
        Ok(Self { api: gate.0.clone(), identity })
    }
}

/// What can be done with a pod.
pub(crate) trait Action: Send + Sync {
    const VERB: &'static str;
    const SUBRESOURCE: &'static str;
}

macro_rules! actions {
    ($($name:ident: $verb:literal $subresource:literal, $doc:literal;)*) => {$(
        #[doc = $doc]
        #[derive(Debug)]
        pub(crate) struct $name;
        impl Action for $name {
            const VERB: &'static str = $verb;
            const SUBRESOURCE: &'static str = $subresource;
        }
    )*};
}

actions! {
    Look: "get" "", "Look at it.";
    Exec: "create" "exec", "Run a command.";
    Attach: "create" "attach", "Attach to its main process.";
    PortForward: "create" "portforward", "Connect to its ports.";
    ReadLog: "get" "log", "Read a log.";
}

/// Proof that this action was allowed. Made here and nowhere else.
pub(crate) struct Allowed<A> {
    api: Api,
    action: PhantomData<A>,
}

impl<A> Allowed<A> {
    pub(crate) fn api(&self) -> &Api {
        &self.api
    }
}

/// What a request names, decoded once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Named<'a> {
    pub(crate) namespace: &'a str,
    pub(crate) pod: &'a str,
    /// Asked for by who wants this pod and no later one of the same name.
    pub(crate) uid: Option<&'a str>,
    pub(crate) container: Option<&'a str>,
    /// How the rest of the request is spelled, and what its errors look like.
    pub(crate) spelling: Spelling,
}

/// A pod that the caller may do `A` with.
pub(crate) struct PodPlace<A> {
    pub(crate) pod: Arc<Pod>,
    pub(crate) snapshot: Arc<PodSnapshot>,
    pub(crate) spelling: Spelling,
    pub(crate) allowed: Allowed<A>,
}

/// A container that the caller may do `A` in.
pub(crate) struct Place<A> {
    pub(crate) snapshot: Arc<PodSnapshot>,
    pub(crate) container: Container,
    pub(crate) spelling: Spelling,
    pub(crate) allowed: Allowed<A>,
}

impl<A> Place<A> {
    pub(crate) fn api(&self) -> &Api {
        self.allowed.api()
    }
}

impl Caller {
    pub(crate) fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What the server counts, for who may `get` the path.
    pub(crate) async fn metrics(&self) -> Result<String, Refusal> {
        let user = &self.identity;
        let (resource, empty) = ("/metrics", "");
        let asked = Attributes {
            user,
            verb: "get",
            resource,
            subresource: empty,
            namespace: empty,
            name: empty,
            container: empty,
        };
        self.authorize(asked).await?;
        Ok(self.api.metrics())
    }

    /// Leads to a pod, for what concerns all of it.
    pub(crate) async fn pod<A: Action>(&self, named: Named<'_>) -> Result<PodPlace<A>, Refusal> {
        let allowed = self.ask(named, "").await?;
        let (pod, snapshot) = self.find(named)?;
        Ok(PodPlace { pod, snapshot, spelling: named.spelling, allowed })
    }

    /// Leads to a container: the one named, or the only one.
    pub(crate) async fn place<A: Action>(&self, named: Named<'_>) -> Result<Place<A>, Refusal> {
        let found = self.find(named);
        // Which one is the only one has to be known for the question; whether there is one is not told with a no.
        let only = match &found {
            Ok((pod, _)) => match pod.containers.as_slice() {
                [only] => only.name.as_str(),
                _ => "",
            },
            Err(_) => "",
        };
        let allowed = self.ask(named, named.container.unwrap_or(only)).await?;
        let (pod, snapshot) = found?;
        let container = match named.spelling {
            Spelling::Kubelet => {
                let asked = named.container.unwrap_or_default();
                let found = pod.containers.iter().find(|container| container.name == asked);
                let message = || format!("container not found ({asked:?})");
                found.ok_or_else(|| Status::failure(404, "NotFound", message()))?.clone()
            }
            _ => find_container(&pod, named.container)?.clone(),
        };
        Ok(Place { container, snapshot, spelling: named.spelling, allowed })
    }

    /// Leads to many: `verb` on `resource` in a namespace, or in all if it is empty. `name` narrows it to one object.
    pub(crate) async fn collection(
        &self,
        verb: &'static str,
        resource: &'static str,
        namespace: &str,
        name: &str,
    ) -> Result<&Api, Refusal> {
        let asked = Attributes {
            user: &self.identity,
            verb,
            resource,
            subresource: "",
            namespace,
            name,
            container: "",
        };
        self.authorize(asked).await?;
        Ok(&self.api)
    }

    fn find(&self, named: Named<'_>) -> Result<(Arc<Pod>, Arc<PodSnapshot>), Refusal> {
        match named.spelling {
            Spelling::Kubelet => {
                let found = self.api.pods().get(named.namespace, named.pod);
                let found = found.filter(|(_, pod)| named.uid.is_none_or(|uid| *uid == *pod.uid));
                found.ok_or_else(|| Status::failure(404, "NotFound", "pod does not exist").into())
            }
            _ => find_pod(&self.api, named.namespace, named.pod),
        }
    }

    async fn ask<A: Action>(&self, named: Named<'_>, container: &str) -> Result<Allowed<A>, Refusal> {
        let Named { namespace, pod: name, .. } = named;
        let (user, verb, subresource) = (&self.identity, A::VERB, A::SUBRESOURCE);
        self.authorize(Attributes { user, verb, resource: "pods", subresource, namespace, name, container })
            .await?;
        Ok(Allowed { api: self.api.clone(), action: PhantomData })
    }

    async fn authorize(&self, asked: Attributes<'_>) -> Result<(), Refusal> {
        let Err(forbidden) = self.api.shared.access.authorizer.authorize(asked).await else { return Ok(()) };
        let Attributes { user, verb, resource, namespace, name, .. } = asked;
        let full = asked.full_resource();
        // The names are the caller's: quoted, so that no line of the log is theirs.
        tracing::info!(
            user = ?user.user, verb, resource = full, ?namespace, ?name, container = ?asked.container, "request forbidden"
        );
        let place = match namespace {
            "" => "at the cluster scope".to_owned(),
            namespace => format!("in the namespace {namespace:?}"),
        };
        // A path has no kind.
        let (kind, what) = match resource.starts_with('/') {
            true => ("", format!("path {full:?}")),
            false => (resource, format!("resource {full:?} in API group \"\" {place}")),
        };
        let reason = if forbidden.reason.is_empty() { String::new() } else { format!(": {forbidden}") };
        let why = format!("User {:?} cannot {verb} {what}{reason}", user.user);
        Err(Status::forbidden(kind, name, why).into())
    }
}
