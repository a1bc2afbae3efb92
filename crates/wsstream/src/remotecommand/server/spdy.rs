//! Sessions over SPDY/3.1: one stream for each of error, stdin, stdout, stderr and resize.
//!
//! The client opens the streams and the command starts when all of them are there: what is written before a stream's
//! reply would be dropped by Go's client. The session ends with FIN on the outputs, the status and FIN on the error
//! stream, RST on what the client left open, GOAWAY, and reading on until the client hangs up: kubectl drops what comes
//! behind GOAWAY, and takes an error stream that ends without a status for success.

use std::future::Future;
use std::pin::pin;

use futures_util::future::{Either, join, select};
use tokio::time::sleep;
use tracing::{debug, warn};
use wsstream_proto::remotecommand::Request;
use wsstream_proto::spdy::{GoAwayStatus, ResetStatus};
use wsstream_proto::status::ExitCode;
use wsstream_proto::stream_type::{STREAM_TYPE, StreamType};
use wsstream_proto::subprotocol::Subprotocol;

use super::session::{IdleClock, handle, status_message};
use super::{Options, Report};
use crate::remotecommand::streams::ResizePump;
use crate::remotecommand::wire::{Counts, Gone, WireReader, WireWriter};
use crate::remotecommand::{Disconnect, Failure, Input, Output, SessionEnd, Streams};
use crate::server::SpdyUpgrade;
use crate::spdy::{Connection, Stream, StreamWriter};

pub(super) async fn run<C, F>(upgrade: SpdyUpgrade, options: Options, request: Request, call: C) -> Report
where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let mut report = Report::new(upgrade.protocol().clone());
    let Options { spdy, mut timeouts, unsent_probe, stream_creation, .. } = options;
    let idle = IdleClock::take(&mut timeouts);
    let opened = upgrade.open(|builder| builder.limits(spdy).timeouts(timeouts).given_probe(unsent_probe));
    let (connection, driver) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            debug!(%error, "the client left before the session began");
            return report;
        }
    };
    let counts = Counts::default();
    let mut sizes = None;
    let subprotocol = report.subprotocol.clone();
    let conversation = async {
        let expected = Expected::new(&request, &subprotocol);
        let opened = match select(pin!(expected.open(&connection)), pin!(sleep(stream_creation))).await {
            Either::Left((opened, _)) => opened,
            Either::Right(((), _)) => {
                warn!(?stream_creation, "timed out waiting for the client to create streams");
                None
            }
        };
        let Some(opened) = opened else {
            connection.shutdown(GoAwayStatus::PROTOCOL_ERROR);
            return None;
        };
        let disconnect = Disconnect::new(Gone::Spdy(connection.disconnect()), idle.watch());
        let (streams, status) = opened.into_streams(disconnect, &counts, &mut sizes);
        let handler = handle(request, streams, sizes.as_mut(), call);
        let result = idle.beside(|| connection.last_data(), handler).await;
        let told = finish(&connection, status, &subprotocol, &result).await;
        Some((result, told))
    };
    let (end, result) = join(driver, conversation).await;
    (report.result, report.told) = result.map_or((None, false), |(result, told)| (Some(result), told));
    report.end = Some(SessionEnd::Spdy(end));
    report.stats = counts.stats();
    let stats = connection.stats();
    (report.stats.most_waiting, report.stats.pings_missed) = (stats.most_waiting, stats.pings_missed);
    report.dropped_sizes = sizes.as_ref().map_or(0, ResizePump::dropped);
    report
}

/// The streams that a request calls for.
#[derive(Debug)]
struct Expected {
    missing: Vec<StreamType>,
    opened: Opened,
}

/// Those that are there.
#[derive(Debug, Default)]
struct Opened(Vec<(StreamType, Stream)>);

impl Expected {
    fn new(request: &Request, subprotocol: &Subprotocol) -> Self {
        let wanted = [
            (true, StreamType::Error),
            (request.stdin, StreamType::Stdin),
            (request.stdout, StreamType::Stdout),
            (request.stderr && !request.tty, StreamType::Stderr),
            (request.tty && subprotocol.resize(), StreamType::Resize),
        ];
        let missing = wanted.into_iter().filter(|(on, _)| *on).map(|(_, kind)| kind).collect();
        Self { missing, opened: Opened::default() }
    }

    /// Waits until the client has opened all of them; `None` when it left before.
    async fn open(mut self, connection: &Connection) -> Option<Opened> {
        while !self.missing.is_empty() {
            let incoming = connection.accept().await?;
            let kind = incoming.headers().get(STREAM_TYPE).and_then(StreamType::by_name);
            let place = self.missing.iter().position(|missing| Some(*missing) == kind);
            let (Some(kind), Some(place)) = (kind, place) else {
                // Upstream replies to a stream that it does not know and lets it lie.
                debug!(?kind, "refused a stream that the request does not call for");
                incoming.reject(ResetStatus::CANCEL);
                continue;
            };
            self.missing.swap_remove(place);
            self.opened.0.push((kind, incoming.accept()));
        }
        Some(self.opened)
    }
}

impl Opened {
    fn take(&mut self, kind: StreamType) -> Option<Stream> {
        let place = self.0.iter().position(|(opened, _)| *opened == kind)?;
        Some(self.0.swap_remove(place).1)
    }

    /// The handler's side of them, and the writer of the error stream.
    fn into_streams(
        mut self,
        disconnect: Disconnect,
        counts: &Counts,
        sizes: &mut Option<ResizePump>,
    ) -> (Streams, Option<StreamWriter>) {
        let mut streams = Streams::new(disconnect);
        let reader = |opened: &mut Self, kind| {
            let (reader, writer) = opened.take(kind)?.split();
            counts.keep_silent(writer);
            Some(WireReader::stream(reader, counts, kind))
        };
        streams.stdin = reader(&mut self, StreamType::Stdin).map(Input::new);
        if let Some(resize) = reader(&mut self, StreamType::Resize) {
            let (pump, resizes) = ResizePump::new(resize);
            (*sizes, streams.resize) = (Some(pump), Some(resizes));
        }
        let mut writer = |kind| {
            // What a client sends there is nothing to anybody.
            let (_, writer) = self.take(kind)?.split();
            Some(Output::new(WireWriter::stream(writer, counts, kind)))
        };
        streams.stdout = writer(StreamType::Stdout);
        streams.stderr = writer(StreamType::Stderr);
        let status = self.take(StreamType::Error).map(|stream| stream.split().1);
        (streams, status)
    }
}

/// The status behind the outputs, which have ended with the handler, and the end of the connection; whether there was somebody
/// to take it.
async fn finish(
    connection: &Connection,
    status: Option<StreamWriter>,
    subprotocol: &Subprotocol,
    result: &Result<ExitCode, Failure>,
) -> bool {
    let (mut goodbye, mut told) = (GoAwayStatus::OK, true);
    if let Some(mut status) = status {
        let sent = match status_message(subprotocol, result) {
            Some(message) => status.send(message).await,
            None => Ok(()),
        };
        match sent.and_then(|()| status.close()) {
            Ok(()) => {}
            Err(error) => {
                debug!(%error, "the status could not be sent");
                // To stock clients silence is success; ours looks at the goodbye, which must not be a good one.
                (goodbye, told) = (GoAwayStatus::INTERNAL_ERROR, false);
            }
        }
    }
    connection.shutdown(goodbye);
    told
}
