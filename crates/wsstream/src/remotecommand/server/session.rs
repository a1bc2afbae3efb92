//! What a session is, whatever carries it: the handler, the decoder of terminal sizes beside it, and the status.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tracing::warn;
use wsstream_proto::remotecommand::Request;
use wsstream_proto::status::{ExitCode, Status};
use wsstream_proto::subprotocol::Subprotocol;

use super::Report;
use crate::connection::Stats;
use crate::remotecommand::streams::ResizePump;
use crate::remotecommand::{Failure, Streams};

impl Report {
    /// Of a session that has not begun.
    pub(super) fn new(subprotocol: Subprotocol) -> Self {
        Self { result: None, end: None, stats: Stats::default(), dropped_sizes: 0, subprotocol }
    }
}

/// Runs the handler to its end. A panic is a failure of this one session.
pub(super) async fn handle<C, F>(
    request: Request,
    streams: Streams,
    sizes: Option<&mut ResizePump>,
    call: C,
) -> Result<ExitCode, Failure>
where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let handler = AssertUnwindSafe(async { call(request, streams).await }).catch_unwind();
    let result = match sizes {
        Some(pump) => beside(handler, pump.run()).await,
        None => handler.await,
    };
    result.unwrap_or_else(|_| {
        warn!("the handler of a session panicked");
        Err(Failure::internal("the server failed while running the command"))
    })
}

/// Polls `aside` for as long as `work` takes.
async fn beside<T>(work: impl Future<Output = T>, aside: impl Future<Output = ()>) -> T {
    match select(pin!(work), pin!(aside)).await {
        Either::Left((value, _)) => value,
        Either::Right(((), work)) => work.await,
    }
}

/// What the error stream says about `result`: nothing about a success before v4.
pub(super) fn status_message(subprotocol: &Subprotocol, result: &Result<ExitCode, Failure>) -> Option<Bytes> {
    let status = match result {
        Ok(code) => Status::exit(*code, format_args!("command terminated with exit code {code}")),
        Err(failure) => failure.as_status().clone(),
    };
    if subprotocol.json_status() {
        Some(Bytes::from(status.to_channel_json()))
    } else {
        status.to_text().map(|text| Bytes::copy_from_slice(text.as_bytes()))
    }
}
