//! The HTTP server in front of a sweep's sessions: one connection at a time, as an embedder has it.

use std::convert::Infallible;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::oneshot;
use wsstream::transport::Io;
use wsstream::upgrade::Rejection;

/// How long a server waits for the head of the request, which no server does without: when the wire loses the end of a
/// client that has left, nothing else would tell.
const HEAD: Duration = Duration::from_secs(120);

/// Answers the requests of one connection until it is over or handed over.
pub(super) async fn answer(
    io: impl Io + 'static,
    with: impl FnMut(&mut Request<Incoming>) -> Response<String>,
) {
    let with = Mutex::new(with);
    let service = service_fn(|mut request: Request<Incoming>| {
        let mut with = with.lock().unwrap_or_else(PoisonError::into_inner);
        let response = (*with)(&mut request).map(Full::<Bytes>::from);
        async { Ok::<_, Infallible>(response) }
    });
    let _ = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades()
        .await;
}

/// Serves the first session that `accept` finds in one connection; `None` when there is none.
pub(super) async fn one_session<S, T>(
    io: impl Io + 'static,
    mut accept: impl FnMut(&mut Request<Incoming>) -> Result<(Response<()>, S), Rejection>,
    serve: impl AsyncFnOnce(S) -> T,
) -> Option<T> {
    let (hand_over, taken) = oneshot::channel();
    let mut hand_over = Some(hand_over);
    let answered = answer(io, move |request| match accept(request) {
        Ok((response, session)) => {
            if let Some(hand_over) = hand_over.take() {
                let _ = hand_over.send(session);
            }
            response.map(|()| String::new())
        }
        Err(rejection) => rejection.into_response(),
    });
    let served = async { Some(serve(taken.await.ok()?).await) };
    tokio::join!(answered, served).1
}
