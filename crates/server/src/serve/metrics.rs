//! The listener for a Prometheus on this machine: one page, plain HTTP, nobody is asked for a name. So it is on loopback only;
//! what it tells names nobody.

use crate::{
    api::{Api, answer::with_type},
    metrics::CONTENT_TYPE,
};
use axum::response::Response;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, time::Duration};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};

/// Scrapes at once. One takes milliseconds, and more than a few have been left open by somebody.
const AT_ONCE: usize = 16;

/// How long one may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Answers until dropped, which ends what is under way.
pub(super) async fn run(listener: TcpListener, api: Api) {
    let mut scrapes = JoinSet::new();
    loop {
        while scrapes.len() >= AT_ONCE {
            scrapes.join_next().await;
        }
        tokio::select! {
            Some(_) = scrapes.join_next() => {}
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let api = api.clone();
                    scrapes.spawn(async move {
                        let service = service_fn(move |request| std::future::ready(answer(&api, &request)));
                        let mut builder = http1::Builder::new();
                        builder.timer(TokioTimer::new()).header_read_timeout(PATIENCE).keep_alive(false);
                        let served = timeout(PATIENCE, builder.serve_connection(TokioIo::new(stream), service));
                        if let Ok(Err(error)) = served.await {
                            tracing::debug!(%error, "a scrape failed");
                        }
                    });
                }
                // A shortage of descriptors passes; until then there is nothing to do.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
        }
    }
}

#[allow(clippy::unnecessary_wraps, reason = "a service may fail")]
fn answer(api: &Api, request: &hyper::Request<Incoming>) -> Result<Response, Infallible> {
    let found = request.uri().path() == "/metrics";
    let readable = matches!(*request.method(), http::Method::GET | http::Method::HEAD);
    Ok(match (found, readable) {
        (true, true) => with_type(http::StatusCode::OK, CONTENT_TYPE, api.metrics()),
        (true, false) => with_type(http::StatusCode::METHOD_NOT_ALLOWED, "text/plain", "GET /metrics\n"),
        (false, _) => with_type(http::StatusCode::NOT_FOUND, "text/plain", "there is /metrics here\n"),
    })
}
