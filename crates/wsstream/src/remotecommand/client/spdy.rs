//! The client's side of a session over SPDY/3.1.
//!
//! Streams have an end each and no common order: a status may arrive before the last of the output does. A session is
//! complete when the status is whole *and* the server has ended each output, by FIN or, as Go does when it is done, by a
//! reset that follows the data. A connection that ends before is a loss.

use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::BytesMut;
use futures_util::future::{Either, select};
use tokio::time::{sleep, timeout};
use wsstream_proto::remotecommand::Request;
use wsstream_proto::spdy::{GoAwayStatus, Headers};
use wsstream_proto::status::is_complete_json;
use wsstream_proto::stream_type::{STREAM_TYPE, StreamType};
use wsstream_proto::subprotocol::Subprotocol;

use super::Start;
use super::process::{self, MAX_STATUS, Process};
use super::streams::{OutputReader, ResizeSender, Stdin};
use crate::client::{ConnectError, SpdyAccepted};
use crate::connection::Stats;
use crate::remotecommand::Outcome;
use crate::remotecommand::wire::{Counts, WireReader, WireWriter};
use crate::spdy::{Connection, Driver, End, ReadError, Side, Stream, StreamReader, Watch};

/// How long a server may take to reply to each of the streams. client-go waits for 30 s; but a reply may stand in one TLS
/// record with the first 16 KiB of the output, which take longer than that on a slow line.
const REPLY_PATIENCE: Duration = Duration::from_secs(120);

/// How long an output may stay open and silent once the command's status is there. Servers send that behind the output,
/// so only what is still on its way can come; a minute or two of nothing is a server that has forgotten it.
const OUTPUT_PATIENCE: Duration = Duration::from_secs(120);

/// How long to wait for the server to hang up once everything is there.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// What moves a session.
#[derive(Debug)]
pub(super) struct Session {
    subprotocol: Subprotocol,
    status: StreamReader,
    /// Of stdout and stderr.
    outputs: [Option<Watch>; 2],
    counts: Counts,
    connection: Connection,
    driver: Driver,
}

/// The streams of one command. Those that are not asked for are not there.
struct Opened {
    error: Stream,
    stdin: Option<Stream>,
    stdout: Option<Stream>,
    stderr: Option<Stream>,
    resize: Option<Stream>,
}

/// Opens the streams and starts the session.
pub(super) async fn open(start: &Start, accepted: SpdyAccepted) -> Result<Process, ConnectError> {
    let subprotocol = accepted.protocol().clone();
    let (connection, mut driver) = accepted.open(|builder| {
        builder
            .limits(start.spdy_limits.clone())
            .timeouts(start.timeouts.clone())
            .given_probe(start.probe.clone())
    });
    let opening = Opened::open(&connection, &start.request, &subprotocol);
    let opened = match select(pin!(opening), &mut driver).await {
        Either::Left((opened, _)) => opened,
        // A short command may be over by now, and its streams were taken all the same.
        Either::Right((_, opening)) => opening.await,
    };
    let opened = opened.map_err(ConnectError::Lost)?;
    Ok(opened.into_process(subprotocol, connection, driver))
}

impl Opened {
    /// Opens them in the order of client-go. All are taken before anything is sent: servers begin when all are there.
    async fn open(
        connection: &Connection,
        request: &Request,
        protocol: &Subprotocol,
    ) -> Result<Self, String> {
        let open = async |kind: StreamType| {
            let headers = Headers::from_iter([(STREAM_TYPE, kind.name())]);
            connection.open(&headers, false).await.map_err(|error| error.to_string())
        };
        let open_if = async |on: bool, kind| if on { open(kind).await.map(Some) } else { Ok(None) };
        let mut opened = Self {
            error: open(StreamType::Error).await?,
            stdin: open_if(request.stdin, StreamType::Stdin).await?,
            stdout: open_if(request.stdout, StreamType::Stdout).await?,
            stderr: open_if(request.stderr && !request.tty, StreamType::Stderr).await?,
            resize: open_if(request.tty && protocol.resize(), StreamType::Resize).await?,
        };
        let Self { error, stdin, stdout, stderr, resize } = &mut opened;
        let optional = [stdin, stdout, stderr, resize].into_iter().filter_map(Option::as_mut);
        for stream in std::iter::once(error).chain(optional) {
            let replied = timeout(REPLY_PATIENCE, stream.replied()).await;
            let replied = replied
                .map_err(|_| format!("the server did not take the streams within {REPLY_PATIENCE:?}"))?;
            replied.map_err(|error| error.to_string())?;
        }
        Ok(opened)
    }

    fn into_process(self, subprotocol: Subprotocol, connection: Connection, driver: Driver) -> Process {
        let counts = Counts::default();
        // Nothing is ever sent to an output, nor on the error stream; kubectl leaves them open as well.
        let reading = |stream: Stream| {
            let (reader, writer) = stream.split();
            counts.keep_silent(writer);
            reader
        };
        let output = |stream: Option<Stream>, kind| {
            let reader = reading(stream?);
            let watch = reader.watch();
            Some((OutputReader(WireReader::stream(reader, &counts, kind)), watch))
        };
        let input = |stream: Option<Stream>, kind| Some(WireWriter::stream(stream?.split().1, &counts, kind));
        let (stdout, stdout_watch) = output(self.stdout, StreamType::Stdout).unzip();
        let (stderr, stderr_watch) = output(self.stderr, StreamType::Stderr).unzip();
        Process {
            stdin: input(self.stdin, StreamType::Stdin).map(Stdin::new),
            stdout,
            stderr,
            resize: input(self.resize, StreamType::Resize).map(ResizeSender),
            session: process::Session::Spdy(Session {
                subprotocol,
                status: reading(self.error),
                outputs: [stdout_watch, stderr_watch],
                counts,
                connection,
                driver,
            }),
        }
    }
}

impl Session {
    pub(super) fn subprotocol(&self) -> &Subprotocol {
        &self.subprotocol
    }

    pub(super) fn stats(&self) -> Stats {
        self.counts.stats()
    }

    pub(super) async fn wait(self) -> Outcome {
        let Self { subprotocol, mut status, outputs, counts, connection, driver } = self;
        let json = subprotocol.json_status();
        let mut raw = BytesMut::new();
        let mut driver = pin!(driver);
        let reading = read_status(&mut status, &mut raw, json);
        let (end, said) = match select(&mut driver, pin!(reading)).await {
            // What arrived before the end is still to be read.
            Either::Left((end, reading)) => (end, reading.await),
            Either::Right((said, _)) => {
                let hang_up = said != Said::Reset;
                (until_closed(&connection, &outputs, driver, hang_up).await, said)
            }
        };
        let stats = arrived(&counts, &outputs);
        // A reader that was dropped wanted no more; one that found its stream cut has said so.
        let ended = outputs.iter().flatten().all(|output| output.ended() != Some(false));
        let whole = said != Said::Cut && ended && !counts.is_cut();
        // Before v4 silence is success: a reset needs the server's word behind it that it was meant so.
        let well = match end {
            End::Closed { by, status } => {
                status == GoAwayStatus::OK && (said != Said::Reset || by == Side::Peer)
            }
            _ => false,
        };
        let judged = Outcome::judge_spdy(&raw, json, whole, &end, &stats);
        if judged == Outcome::Ended && !well { Outcome::unsaid(&end, &stats) } else { judged }
    }
}

/// What has arrived, read or not: it can still be read.
fn arrived(counts: &Counts, outputs: &[Option<Watch>; 2]) -> Stats {
    // In this order: a reader that is dropped between the two looks has counted all that it had read.
    let waiting = outputs.each_ref().map(|watch| watch.as_ref().and_then(Watch::received));
    let mut stats = counts.stats();
    for (received, count) in waiting.into_iter().zip(stats.received.iter_mut().skip(1)) {
        *count = received.unwrap_or(*count);
    }
    stats
}

/// How the error stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Said {
    /// By FIN, or it holds a whole status.
    All,
    /// By a reset: Go's servers do so behind the status, and also when they give a session up.
    Reset,
    /// With the connection.
    Cut,
}

/// Reads the error stream until it ends or holds a whole status.
async fn read_status(reader: &mut StreamReader, raw: &mut BytesMut, json: bool) -> Said {
    loop {
        match reader.chunk().await {
            Ok(Some(chunk)) => raw.extend_from_slice(&chunk),
            Ok(None) => return Said::All,
            Err(ReadError::Reset(_)) => return Said::Reset,
            Err(_) => return Said::Cut,
        }
        if raw.len() > MAX_STATUS || (json && is_complete_json(raw)) {
            return Said::All;
        }
    }
}

/// Waits until nothing has arrived for [`OUTPUT_PATIENCE`] and all that had was read.
async fn silence(connection: &Connection) {
    loop {
        let before = connection.stats().received;
        sleep(OUTPUT_PATIENCE).await;
        let now = connection.stats();
        if now.received == before && now.waiting == 0 {
            return;
        }
    }
}

/// The error stream is over. Hangs up when the outputs have ended as well: some servers leave that to the client. Without
/// `hang_up` the server's own goodbye is waited for, within a bound.
async fn until_closed(
    connection: &Connection,
    outputs: &[Option<Watch>; 2],
    mut driver: Pin<&mut Driver>,
    hang_up: bool,
) -> End {
    let outputs_end = async {
        for output in outputs.iter().flatten() {
            output.wait().await;
        }
    };
    let (outputs_end, silence) = (pin!(outputs_end), pin!(silence(connection)));
    if let Either::Left((end, _)) = select(&mut driver, select(outputs_end, silence)).await {
        return end;
    }
    if !hang_up && let Either::Left((end, _)) = select(&mut driver, pin!(sleep(CLOSE_PATIENCE))).await {
        return end;
    }
    connection.shutdown(GoAwayStatus::OK);
    match select(driver, pin!(sleep(CLOSE_PATIENCE))).await {
        Either::Left((end, _)) => end,
        Either::Right(_) => End::Closed { by: Side::Local, status: GoAwayStatus::OK },
    }
}
