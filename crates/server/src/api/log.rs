//! The log of a container, as plain text or over a WebSocket with the reader subprotocols.

use super::{
    Api,
    answer::{Refusal, with_type},
    exec::{named, protocol},
    followed,
    gate::{Caller, Place, ReadLog},
    outcome::{LogEnd, LogReport, NOT_BEGUN, channel_loss},
    pods::Names,
    query::Query,
    recheck::Question,
    registry::{Entry, Protocol, SessionKind},
    session::{Facts, Session},
    sessions::SHUTTING_DOWN,
};
use crate::target::{LogOptions, LogStream};
use crate::{audit::Asked, auth::Identity};
use axum::{body::Body, extract::Request, response::Response};
use bytes::Bytes;
use futures_util::{
    FutureExt, StreamExt,
    future::BoxFuture,
    stream::{self, BoxStream},
};
use http::StatusCode;
use jiff::Timestamp;
use std::{io, sync::Arc};
use tokio_util::io::StreamReader;
use wsstream::{
    Meter,
    connection::End,
    proto::subprotocol::READER,
    reader::{self, ReaderError, ReaderOptions},
    server::Upgrade,
    upgrade::is_websocket,
};

pub(crate) async fn get(
    caller: Caller,
    path: Names<(String, String)>,
    request: Request,
) -> Result<Response, Refusal> {
    let uri = request.uri().clone();
    let place = named(&caller, path, &uri).await?;
    log_of(&place, options(&Query::of(&uri))?, request).await
}

/// Sends the log of a container.
pub(crate) async fn log_of(
    place: &Place<ReadLog>,
    options: LogOptions,
    mut request: Request,
) -> Result<Response, Refusal> {
    let (api, snapshot, container) = (place.api(), &place.snapshot, &place.container);
    drop(api.sessions().enter()?);
    let follow = options.follow;
    let log =
        container.target.logs(options).await.map_err(|error| Refusal::bad_request(error.to_string()))?;
    // Held from here only: a target that takes its time must not keep a server from its end.
    let _entered = api.sessions().enter()?;
    let facts = |protocol| Facts { kind: SessionKind::Log, snapshot, container: &container.name, protocol };
    if !is_websocket(request.headers()) {
        let body = if follow {
            let http = Protocol { carrier: "http", name: String::new() };
            let mut session = Session::begin(api, facts(http), &request)?;
            session.record(Asked::default()).await?;
            let log = measured(until(log, ended(api, &session.entry)), &session.entry.meter);
            let (body, sending) = followed::body(log);
            session.spawn(Box::pin(sending));
            body
        } else {
            let (verb, subresource) = SessionKind::Log.right();
            let question = Question {
                verb,
                subresource,
                namespace: snapshot.namespace.clone(),
                name: snapshot.name.clone(),
                container: container.name.clone(),
            };
            let place = api.sessions().stream(request.extensions().get::<Identity>().cloned(), question)?;
            let (closing, end) = (closing(api), place.end().clone());
            let stop = async move {
                tokio::select! {
                    text = closing => text,
                    () = end.cancelled() => "you may no longer read it".to_owned(),
                }
            };
            Body::from_stream(until(log, stop.boxed()).inspect(move |_| _ = &place))
        };
        return Ok(with_type(StatusCode::OK, "text/plain; charset=utf-8", body));
    }

    let upgrade = match Upgrade::accept(&mut request, READER) {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response().map(Body::from)),
    };
    let mut session = Session::begin(api, facts(protocol(upgrade.subprotocol(), false)), &request)?;
    session.record(Asked::default()).await?;
    let response = upgrade.response().map(|()| Body::empty());
    let mut limits = api.session_options();
    // A quiet log is not an idle session (upstream sets no idle timeout here either); one that nobody reads is.
    limits.timeouts.write = limits.timeouts.idle.take();
    let log = measured(until(log, ended(api, &session.entry)), &session.entry.meter);
    session.spawn(Box::pin(async move {
        let opened =
            upgrade.open(|builder| reader::sender(builder).limits(limits.limits).timeouts(limits.timeouts));
        let (connection, driver) = match opened.await {
            Ok(opened) => opened,
            Err(error) => {
                let text = format!("the client left before the session began: {error}");
                return LogReport(Err((LogEnd::Lost(NOT_BEGUN), text)));
            }
        };
        // Upstream's first message is empty, too: the client knows that the log is open.
        let mut options = ReaderOptions::default();
        options.ready_message = true;
        let sent = reader::send(connection, driver, StreamReader::new(log), options).await;
        LogReport(sent.map_err(|error| {
            let end = match &error {
                ReaderError::Closed(End::Lost(loss)) => LogEnd::Lost(channel_loss(loss)),
                ReaderError::Closed(_) => LogEnd::Client,
                _ => LogEnd::Source,
            };
            (end, error.to_string())
        }))
    }));
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

/// Counts what is sent.
fn measured(
    log: BoxStream<'static, io::Result<Bytes>>,
    meter: &Arc<Meter>,
) -> BoxStream<'static, io::Result<Bytes>> {
    let meter = Arc::clone(meter);
    log.inspect(move |item| {
        if let Ok(bytes) = item {
            meter.add_output(bytes.len());
        }
    })
    .boxed()
}

/// Resolves when the server is about to end, with what the client is told.
fn closing(api: &Api) -> BoxFuture<'static, String> {
    let closing = api.sessions().closing();
    async move {
        closing.cancelled().await;
        SHUTTING_DOWN.to_owned()
    }
    .boxed()
}

/// The same, or when this session is asked to end.
fn ended(api: &Api, entry: &Arc<Entry>) -> BoxFuture<'static, String> {
    let (closing, entry) = (closing(api), Arc::clone(entry));
    async move {
        tokio::select! {
            text = closing => text,
            given = entry.order.wait() => given.cause.to_string(),
        }
    }
    .boxed()
}

/// A followed log would keep the server from ending. It is then cut, not ended: the client learns that more may have
/// come.
fn until(log: LogStream, stop: BoxFuture<'static, String>) -> BoxStream<'static, io::Result<Bytes>> {
    let stop = stop.shared();
    let why = stop.clone();
    let cut = stream::once(async move { why.now_or_never().map(|text| Err(io::Error::other(text))) });
    log.take_until(stop).chain(cut.filter_map(std::future::ready)).boxed()
}
