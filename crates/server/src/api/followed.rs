//! A followed log as the body of an answer: a session that HTTP carries. hyper asks a body for more only while the client
//! takes what it has, so a task of its own has the session and hands the log on: its clocks run also for a client that does
//! not read.

use super::outcome::{LogEnd, LogReport};
use axum::body::Body;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream, stream::BoxStream};
use std::io;
use tokio::sync::{mpsc, oneshot};

/// What the session hands to the body. A body that finds no more of them was cut: the client must not take it for complete.
enum Part {
    Log(Bytes),
    Failed(io::Error),
    /// All of it; answered when the connection has taken that.
    End(oneshot::Sender<()>),
}

/// The body, and what fills it.
pub(super) fn body(
    log: BoxStream<'static, io::Result<Bytes>>,
) -> (Body, impl Future<Output = LogReport> + Send + 'static) {
    // One chunk, 32 KiB, beside what the connection holds.
    let (sender, parts) = mpsc::channel(1);
    let parts = stream::unfold(Some(parts), |parts| async move {
        let mut parts: mpsc::Receiver<Part> = parts?;
        match parts.recv().await {
            Some(Part::Log(bytes)) => Some((Ok(bytes), Some(parts))),
            Some(Part::Failed(error)) => Some((Err(error), None)),
            Some(Part::End(taken)) => {
                let _ = taken.send(());
                None
            }
            None => Some((Err(io::Error::other("the session was cut")), None)),
        }
    });
    (Body::from_stream(parts), send(log, sender))
}

async fn send(mut log: BoxStream<'static, io::Result<Bytes>>, body: mpsc::Sender<Part>) -> LogReport {
    let mut sent = 0_u64;
    let lost =
        |sent: u64| LogReport(Err((LogEnd::Lost("eof"), format!("the client left after {sent} bytes"))));
    loop {
        let next = tokio::select! {
            biased;
            () = body.closed() => return lost(sent),
            next = log.next() => next,
        };
        match next {
            Some(Ok(bytes)) => {
                let more = bytes.len() as u64;
                if body.send(Part::Log(bytes)).await.is_err() {
                    return lost(sent);
                }
                sent += more;
            }
            Some(Err(error)) => {
                let text = error.to_string();
                return match body.send(Part::Failed(error)).await {
                    Ok(()) => LogReport(Err((LogEnd::Source, text))),
                    Err(_) => lost(sent),
                };
            }
            None => {
                let (taken, all) = oneshot::channel();
                let _ = body.send(Part::End(taken)).await;
                return if all.await.is_ok() { LogReport(Ok(sent)) } else { lost(sent) };
            }
        }
    }
}
