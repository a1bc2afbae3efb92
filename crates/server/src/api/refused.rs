//! Requests that would have run something and were refused, whoever refused them: for the record.

use super::{Api, SessionKind, answer, peer_of};
use crate::{audit::Refused, auth::Identity};
use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::StatusCode;

/// What a request to this path would have run; `None`: nothing. By its shape alone, also where nothing of the name exists.
pub(crate) fn would_run(path: &str) -> Option<SessionKind> {
    let mut parts = path.split('/').filter(|part| !part.is_empty());
    let word = match parts.next()? {
        "api" => parts.next_back()?,
        first => first,
    };
    match word {
        "exec" | "run" => Some(SessionKind::Exec),
        "attach" => Some(SessionKind::Attach),
        "portforward" | "portForward" => Some(SessionKind::PortForward),
        _ => None,
    }
}

/// In the extensions of a refusal: who was refused.
#[derive(Clone)]
struct Who(Identity);

/// Behind authentication: keeps the name for [`record`].
pub(super) async fn name(State(api): State<Api>, request: Request, next: Next) -> Response {
    if api.sessions().audit().is_none() || would_run(request.uri().path()).is_none() {
        return next.run(request).await;
    }
    let who = request.extensions().get::<Identity>().cloned();
    let mut response = next.run(request).await;
    if let Some(who) = who {
        response.extensions_mut().insert(Who(who));
    }
    response
}

/// In front of everything that refuses: counts, and records.
pub(super) async fn record(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(kind) = would_run(request.uri().path()) else { return next.run(request).await };
    let seen =
        api.sessions().audit().map(|audit| (audit, request.uri().path().to_owned(), peer_of(&request)));
    let mut response = next.run(request).await;
    let code = response.status();
    if code == StatusCode::SWITCHING_PROTOCOLS {
        return response;
    }
    api.sessions().metrics().refused(code.as_u16());
    let Some((audit, path, peer)) = seen else { return response };
    let who = response.extensions_mut().remove::<Who>();
    let reason = response.extensions().get::<answer::Refused>().map_or("", |refused| &refused.0);
    audit.refused(Refused {
        user: who.as_ref().map(|who| who.0.user.as_str()),
        groups: who.as_ref().map_or(&[], |who| &who.0.groups),
        peer: &peer,
        kind: kind.as_str(),
        path: &path,
        code: code.as_u16(),
        reason: if reason.is_empty() { code.canonical_reason().unwrap_or_default() } else { reason },
    });
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shape_of_a_path_says_what_it_would_run() {
        for (path, kind) in [
            ("/api/v1/namespaces/default/pods/host/exec", Some(SessionKind::Exec)),
            ("/api/v1/namespaces/default/pods/host/attach/", Some(SessionKind::Attach)),
            ("/api/v1/namespaces/default/pods/host/portforward", Some(SessionKind::PortForward)),
            ("/exec/default/host/host", Some(SessionKind::Exec)),
            ("/portForward/default/host", Some(SessionKind::PortForward)),
            ("/api/v1/namespaces/default/pods/host/log", None),
            ("/api/v1/namespaces/default/pods/host", None),
            ("/", None),
        ] {
            assert_eq!(would_run(path), kind, "{path}");
        }
    }
}
