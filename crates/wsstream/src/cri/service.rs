//! The three routes.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};

use http::header::ALLOW;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::error::text;
use super::request::Granted;
use super::runtime::Within;
use super::server::Shared;
use super::{Error, Runtime, Server};
use crate::portforward::server::PortForward;
use crate::remotecommand::server::{Attach, Exec};
use crate::upgrade::Rejection;

impl<R: Runtime> Server<R> {
    /// Answers a request for a URL that was given out, and starts its session. The request must come from an HTTP server
    /// that upgrades connections when the answer is 101: hyper's with `with_upgrades`, axum's.
    ///
    /// Call it within a tokio runtime: the session is a task there.
    pub fn respond<B>(&self, request: &mut Request<B>) -> Response<String> {
        self.start(request).unwrap_or_else(|refused| *refused)
    }

    fn start<B>(&self, http: &mut Request<B>) -> Result<Response<String>, Box<Response<String>>> {
        let Shared { runtime, base, commands, forward, tokens, sessions, .. } = &*self.shared;
        let (route, token) = base.split(http.uri().path()).ok_or_else(not_found)?;
        if !matches!(route, "exec" | "attach" | "portforward") {
            return Err(not_found());
        }
        if !matches!(*http.method(), Method::GET | Method::POST) {
            let mut refused = text(StatusCode::METHOD_NOT_ALLOWED, "405: Method Not Allowed");
            refused.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, POST"));
            return Err(Box::new(refused));
        }
        // Used up by the first request, whatever it is worth.
        let granted =
            tokens.consume(token).filter(|granted| granted.route() == route).ok_or_else(not_found)?;
        // Held until the session is a task.
        let _entered = sessions
            .enter()
            .ok_or_else(|| Box::new(text(StatusCode::SERVICE_UNAVAILABLE, Error::Unavailable.to_string())))?;
        let within = |id: &str| Within {
            runtime: runtime.clone(),
            id: id.to_owned(),
            ending: sessions.ending.clone(),
        };
        let response = match granted {
            Granted::Exec { container_id: id, request } => {
                let exec = Exec::accept_request(http, request).map_err(refused)?.options(commands.clone());
                let (response, runtime) = (exec.response(), within(&id));
                sessions.spawn("exec", id, exec.serve(runtime));
                response
            }
            Granted::Attach { container_id: id, request } => {
                let attach =
                    Attach::accept_request(http, request).map_err(refused)?.options(commands.clone());
                let (response, runtime) = (attach.response(), within(&id));
                sessions.spawn("attach", id, attach.serve(runtime));
                response
            }
            Granted::PortForward { pod_sandbox_id: id, ports } => {
                let session =
                    PortForward::accept_ports(http, &ports).map_err(refused)?.options(forward.clone());
                let (response, runtime) = (session.response(), within(&id));
                let closing = sessions.closing.clone().cancelled_owned();
                sessions.spawn("portforward", id, session.serve_until(runtime, closing));
                response
            }
        };
        Ok(response.map(|()| String::new()))
    }
}

/// In the words of Go's `http.NotFound`; nothing tells a used token from one that never was.
fn not_found() -> Box<Response<String>> {
    Box::new(text(StatusCode::NOT_FOUND, "404 page not found\n"))
}

fn refused(rejection: Rejection) -> Box<Response<String>> {
    Box::new(rejection.into_response())
}

impl<R: Runtime, B> hyper::service::Service<Request<B>> for Server<R> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn call(&self, mut request: Request<B>) -> Self::Future {
        ready(Ok(self.respond(&mut request)))
    }
}

impl<R: Runtime, B> tower_service::Service<Request<B>> for Server<R> {
    type Response = Response<String>;
    type Error = Infallible;
    type Future = Ready<Result<Response<String>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        ready(Ok(self.respond(&mut request)))
    }
}
