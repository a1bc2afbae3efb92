//! `/healthz`, `/livez` and `/readyz`, as Kubernetes' API server answers them: `ok`, or with `?verbose` a line for each check.
//!
//! They are open: a load balancer has no token, and the answers name checks and never say why one fails. A server that
//! drains lives and is not ready.

use super::{
    Api,
    answer::{self, Refusal},
    query::Query,
};
use axum::{
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use std::fmt::Write as _;
use wsstream::proto::status::Status;

/// `/healthz` and `/livez`: a process that answers lives.
pub(crate) async fn live(request: Request) -> Response {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    answer(&path, &[("ping", true)], Query::of(request.uri()).flag("verbose"))
}

/// `/readyz`: whether new work may be sent here.
pub(crate) async fn ready(State(api): State<Api>, request: Request) -> Response {
    let mut checks = vec![("ping", true), ("shutdown", !api.sessions().is_closing())];
    checks.extend(api.readiness().checks().iter().map(|check| (check.name(), check.passes())));
    answer("readyz", &checks, Query::of(request.uri()).flag("verbose"))
}

fn answer(path: &str, checks: &[(&'static str, bool)], verbose: bool) -> Response {
    let failing: Vec<&str> = checks.iter().filter(|(_, passes)| !passes).map(|(name, _)| *name).collect();
    if verbose {
        let mut text = String::new();
        // Writing to a String does not fail.
        for (name, passes) in checks {
            let _ = match passes {
                true => writeln!(text, "[+]{name} ok"),
                false => writeln!(text, "[-]{name} failed: reason withheld"),
            };
        }
        let (code, end) = match failing.is_empty() {
            true => (StatusCode::OK, "passed"),
            false => (StatusCode::SERVICE_UNAVAILABLE, "failed"),
        };
        let _ = writeln!(text, "{path} check {end}");
        return answer::with_type(code, "text/plain; charset=utf-8", text);
    }
    if failing.is_empty() {
        return answer::text("ok");
    }
    let message = format!("{path} check failed: {}", failing.join(", "));
    Refusal::from(Status::failure(503, "ServiceUnavailable", message)).into_response()
}
