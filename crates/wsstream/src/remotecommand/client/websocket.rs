//! The client's side of a session over the channels of a WebSocket.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tokio::time::sleep;
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::remotecommand::Request;
use wsstream_proto::status::is_complete_json;
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::Start;
use super::process::{self, MAX_STATUS, Process};
use super::streams::{OutputReader, ResizeSender, Stdin};
use crate::client::Accepted;
use crate::connection::{ChannelReader, Connection, Driver, End, Loss, Stats};
use crate::remotecommand::Outcome;
use crate::remotecommand::wire::{WireReader, WireWriter};

/// How long to wait for the server's Close once the status is there and nothing moves any more. By then everything should
/// have arrived, but some servers send the last of the output behind the status.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What moves a session.
#[derive(Debug)]
pub(super) struct Session {
    status: Option<ChannelReader>,
    connection: Connection,
    driver: Driver,
}

/// Starts the session.
pub(super) fn open(start: &Start, accepted: Accepted) -> Process {
    let Request { stdin, stdout, stderr, tty, .. } = start.request;
    let when = |on, mode| if on { mode } else { ChannelMode::Ignore };
    let channels = [
        when(stdin, ChannelMode::Write),
        when(stdout, ChannelMode::Read),
        when(stderr && !tty, ChannelMode::Read),
        ChannelMode::Read,
        when(tty, ChannelMode::Write),
    ];
    let (connection, driver) = accepted.open(|builder| {
        builder
            .channels(channels)
            .limits(start.limits.clone())
            .timeouts(start.timeouts.clone())
            .given_probe(start.probe.clone())
    });
    let reader = |on: bool, channel| on.then(|| connection.reader(channel)).flatten();
    let writer =
        |on: bool, channel| on.then(|| connection.writer(channel)).flatten().map(WireWriter::Channel);
    let output = |on, channel| reader(on, channel).map(WireReader::Channel).map(OutputReader);
    Process {
        stdin: writer(stdin, ChannelId::STDIN).map(Stdin::new),
        stdout: output(stdout, ChannelId::STDOUT),
        stderr: output(stderr && !tty, ChannelId::STDERR),
        resize: writer(tty, ChannelId::RESIZE).map(ResizeSender),
        session: process::Session::WebSocket(Session {
            status: reader(true, ChannelId::ERROR),
            connection,
            driver,
        }),
    }
}

impl Session {
    pub(super) fn subprotocol(&self) -> &Subprotocol {
        self.connection.subprotocol()
    }

    pub(super) fn stats(&self) -> Stats {
        self.connection.stats()
    }

    pub(super) async fn wait(self) -> Outcome {
        let Self { status, connection, driver } = self;
        let json = connection.subprotocol().json_status();
        let mut raw = BytesMut::new();
        let end = match status {
            Some(mut status) => {
                let read = read_status(&mut status, &mut raw, json);
                match select(pin!(driver), pin!(read)).await {
                    // What arrived before the end is still to be read.
                    Either::Left((end, read)) => {
                        read.await;
                        end
                    }
                    Either::Right(((), driver)) => until_closed(&connection, driver).await,
                }
            }
            None => driver.await,
        };
        Outcome::judge(&raw, json, &end, &connection.stats())
    }
}

/// Reads the status channel until it ends or holds a whole status.
async fn read_status(reader: &mut ChannelReader, raw: &mut BytesMut, json: bool) {
    while let Ok(Some(chunk)) = reader.chunk().await {
        raw.extend_from_slice(&chunk);
        if raw.len() > MAX_STATUS || (json && is_complete_json(raw)) {
            return;
        }
    }
}

/// The status is there; a server that does not close must not hang the client, as it does kubectl.
async fn until_closed(connection: &Connection, driver: impl Future<Output = End> + Unpin) -> End {
    let driver = match patiently(connection, driver).await {
        Ok(end) => return end,
        Err(driver) => driver,
    };
    connection.shutdown(&CloseReason::code(CloseCode::NORMAL));
    match patiently(connection, driver).await {
        Ok(end) => end,
        // The server has closed, so nothing more can come; it is only our own input that does not drain, and that
        // nobody wants any more.
        Err(_) => match connection.disconnected().now_or_never() {
            Some(end @ End::Closed { .. }) => end,
            _ => End::Lost(Loss::DeadPeer(CLOSE_PATIENCE * 2)),
        },
    }
}

/// Polls the driver to its end, or gives it back when no output has come or was read for a while.
async fn patiently<D: Future<Output = End> + Unpin>(
    connection: &Connection,
    mut driver: D,
) -> Result<End, D> {
    loop {
        let before = connection.stats();
        match select(driver, pin!(sleep(CLOSE_PATIENCE))).await {
            Either::Left((end, _)) => return Ok(end),
            Either::Right(((), same)) => driver = same,
        }
        let now = connection.stats();
        if (&now.received, now.waiting) == (&before.received, before.waiting) {
            return Err(driver);
        }
    }
}
