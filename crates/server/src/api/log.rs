//! The log of a container, as plain text or over a WebSocket with the reader subprotocols.

use super::{
    Api,
    answer::{Refusal, with_type},
    exec::{find_container, find_pod, refuse_when_closing},
    pods::{Names, names},
    query::Query,
    session::Session,
};
use crate::{
    pod::{Container, PodSnapshot},
    target::{LogOptions, LogStream},
};
use axum::{
    body::Body,
    extract::{Request, State},
    response::Response,
};
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use http::StatusCode;
use jiff::Timestamp;
use std::io;
use tokio_util::{io::StreamReader, sync::CancellationToken};
use wsstream::{
    proto::subprotocol::READER,
    reader::{self, ReaderOptions},
    server::Upgrade,
    upgrade::is_websocket,
};

pub(crate) async fn get(
    State(api): State<Api>,
    path: Names<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let (namespace, name) = names(path)?;
    let query = Query::of(request.uri());
    let options = options(&query)?;
    let (pod, snapshot) = find_pod(&api, &namespace, &name)?;
    let container = find_container(&pod, query.text("container"))?;
    log_of(&api, &snapshot, container, options, request).await
}

/// Sends the log of a container.
pub(crate) async fn log_of(
    api: &Api,
    snapshot: &PodSnapshot,
    container: &Container,
    options: LogOptions,
    mut request: Request,
) -> Result<Response, Refusal> {
    drop(refuse_when_closing(api)?);
    let log =
        container.target.logs(options).await.map_err(|error| Refusal::bad_request(error.to_string()))?;
    // Held from here only: a target that takes its time must not keep a server from its end.
    let _entered = refuse_when_closing(api)?;
    let log = until_closing(log, api.sessions().closing());
    if !is_websocket(request.headers()) {
        return Ok(with_type(StatusCode::OK, "text/plain; charset=utf-8", Body::from_stream(log)));
    }

    let session = Session::new(api, "log", snapshot, &container.name, &request);
    let upgrade = match Upgrade::accept(&mut request, READER) {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response().map(Body::from)),
    };
    let response = upgrade.response().map(|()| Body::empty());
    let mut limits = api.session_options();
    // A quiet log is not an idle session (upstream sets no idle timeout here either).
    limits.timeouts.idle = None;
    api.sessions().spawn(session.run(Box::pin(async move {
        let opened =
            upgrade.open(|builder| reader::sender(builder).limits(limits.limits).timeouts(limits.timeouts));
        let (connection, driver) = match opened.await {
            Ok(opened) => opened,
            Err(error) => return format!("the client left before the session began: {error}"),
        };
        // Upstream's first message is empty, too: the client knows that the log is open.
        let mut options = ReaderOptions::default();
        options.ready_message = true;
        match reader::send(connection, driver, StreamReader::new(log), options).await {
            Ok(bytes) => format!("{bytes} bytes, complete"),
            Err(error) => error.to_string(),
        }
    })));
    Ok(response)
}

/// Reads the parameters of `PodLogOptions`.
pub(crate) fn options(query: &Query<'_>) -> Result<LogOptions, Refusal> {
    let since_time = match query.text("sinceTime") {
        Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
            Refusal::bad_request(format!("the query parameter sinceTime={text:?} is not an RFC 3339 time"))
        })?),
        None => None,
    };
    if let Some(stream) = query.text("stream").filter(|stream| *stream != "All") {
        return Err(Refusal::bad_request(format!(
            "the query parameter stream={stream:?} is not supported: the log keeps one sequence of lines (All)"
        )));
    }
    Ok(LogOptions {
        follow: query.flag("follow"),
        tail_lines: query.number("tailLines")?,
        timestamps: query.flag("timestamps"),
        since_seconds: query.number("sinceSeconds")?,
        since_time,
        limit_bytes: query.number("limitBytes")?,
        previous: query.flag("previous"),
    })
}

/// A followed log would keep the server from ending. It is then cut, not ended: the client learns that more may have
/// come.
fn until_closing(log: LogStream, closing: CancellationToken) -> impl Stream<Item = io::Result<Bytes>> + Send {
    let cut = closing.clone();
    let shutdown = stream::once(async { Err(io::Error::other("the server is shutting down")) });
    log.take_until(closing.cancelled_owned())
        .chain(shutdown.filter(move |_| std::future::ready(cut.is_cancelled())))
}
