//! Sessions over the channels of a WebSocket.

use std::future::Future;

use bytes::Bytes;
use futures_util::future::join;
use tracing::debug;
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::remotecommand::Request;
use wsstream_proto::status::ExitCode;
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::session::{IdleClock, handle, status_message};
use super::{Options, Report};
use crate::connection::{Connection, Driver};
use crate::remotecommand::streams::ResizePump;
use crate::remotecommand::wire::{Gone, WireReader, WireWriter};
use crate::remotecommand::{Disconnect, Failure, Input, Output, SessionEnd, Streams};
use crate::server::Upgrade;

/// The modes of the five channels.
fn channels(request: &Request) -> [ChannelMode; 5] {
    let when = |on, mode| if on { mode } else { ChannelMode::Ignore };
    [
        when(request.stdin, ChannelMode::Read),
        when(request.stdout, ChannelMode::Write),
        when(request.stderr && !request.tty, ChannelMode::Write),
        ChannelMode::Write,
        // Sizes may come without a terminal; they are dropped, so they hold nothing up.
        when(request.tty, ChannelMode::Read),
    ]
}

pub(super) fn run<C, F>(
    upgrade: Upgrade,
    options: Options,
    request: Request,
    call: C,
) -> impl Future<Output = Report>
where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let Options { limits, mut timeouts, unsent_probe, .. } = options;
    let subprotocol = upgrade.subprotocol().clone();
    let idle = IdleClock::take(&mut timeouts);
    let channels = channels(&request);
    // Boxed, and so gone with all that it holds when the session begins.
    let opening = Box::pin(upgrade.open(move |builder| {
        builder.channels(channels).limits(limits).timeouts(timeouts).given_probe(unsent_probe)
    }));
    async move {
        match opening.await {
            Ok((connection, driver)) => session(connection, driver, request, call, &idle, subprotocol).await,
            Err(error) => {
                debug!(%error, "the client left before the session began");
                Report::new(subprotocol)
            }
        }
    }
}

/// The session on an open connection.
async fn session<C, F>(
    connection: Connection,
    driver: Driver,
    request: Request,
    call: C,
    idle: &IdleClock,
    subprotocol: Subprotocol,
) -> Report
where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let mut sizes = None;
    let conversation = async {
        ready(&connection, &request).await;
        let disconnect = Disconnect::new(Gone::WebSocket(connection.disconnect()), idle.watch());
        let streams = streams(&connection, &request, disconnect, &mut sizes);
        let handler = handle(request, streams, sizes.as_deref_mut(), call);
        let result = idle.beside(|| connection.last_data(), handler).await;
        let told = finish(&connection, &subprotocol, &result).await;
        (result, told)
    };
    let (end, (result, told)) = join(driver, conversation).await;
    Report {
        result: Some(result),
        end: Some(SessionEnd::WebSocket(end)),
        stats: connection.stats(),
        dropped_sizes: sizes.as_ref().map_or(0, |sizes| sizes.dropped()),
        subprotocol,
        told,
    }
}

/// The handler's side of the channels.
fn streams(
    connection: &Connection,
    request: &Request,
    disconnect: Disconnect,
    sizes: &mut Option<Box<ResizePump>>,
) -> Streams {
    let mut streams = Streams::new(disconnect);
    let reader =
        |on: bool, channel| on.then(|| connection.reader(channel)).flatten().map(WireReader::Channel);
    let writer = |on: bool, channel| {
        on.then(|| connection.writer(channel))
            .flatten()
            .map(|writer| Output::new(WireWriter::Channel(writer)))
    };
    streams.stdin = reader(request.stdin, ChannelId::STDIN).map(Input::new);
    streams.stdout = writer(request.stdout, ChannelId::STDOUT);
    streams.stderr = writer(request.stderr, ChannelId::STDERR);
    if let Some(reader) = reader(request.tty, ChannelId::RESIZE) {
        let (pump, resizes) = ResizePump::new(reader);
        (*sizes, streams.resize) = (Some(Box::new(pump)), Some(resizes));
    }
    streams
}

/// The empty message that tells the client that the session is ready, on the lowest channel that it reads.
async fn ready(connection: &Connection, request: &Request) {
    let channel = match (request.stdout, request.stderr && !request.tty) {
        (true, _) => ChannelId::STDOUT,
        (false, true) => ChannelId::STDERR,
        (false, false) => ChannelId::ERROR,
    };
    if let Some(mut writer) = connection.writer(channel) {
        // A client that is gone already is noticed by the handler.
        let _ = writer.send(Bytes::new()).await;
    }
}

/// The status and the Close behind it, in one write; whether there was somebody to take them.
async fn finish(
    connection: &Connection,
    subprotocol: &Subprotocol,
    result: &Result<ExitCode, Failure>,
) -> bool {
    let message = status_message(subprotocol, result);
    let mut told = true;
    if let (Some(message), Some(mut writer)) = (message, connection.writer(ChannelId::ERROR))
        && let Err(error) = writer.queue(message).await
    {
        debug!(%error, "the status could not be sent");
        told = false;
    }
    // One that has closed may still read what comes; one that has hung up behind it does not.
    told &= !connection.peer_hung_up();
    connection.shutdown(&CloseReason::code(CloseCode::NORMAL));
    told
}
