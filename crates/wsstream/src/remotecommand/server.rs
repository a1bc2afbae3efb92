//! Serving exec and attach.
//!
//! The order of a session's end is the one that real clients enforce: output, then exactly one status message, then
//! Close 1000, then reading on until the client's Close, then TCP. A failure never ends with Close 1000 and no status,
//! which kubectl takes for success.

use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, join, select};
use http::Response;
use tracing::{debug, warn};
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::remotecommand::{Request, Spelling};
use wsstream_proto::status::{ExitCode, Status};
use wsstream_proto::subprotocol::{REMOTECOMMAND, Subprotocol};
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::streams::ResizePump;
use super::{Attacher, Disconnect, Executor, Failure, Input, Output, Streams};
use crate::connection::{Connection, Driver, End, Stats};
use crate::limits::{Limits, Timeouts};
use crate::server::Upgrade;
use crate::transport::UnsentProbe;
pub use crate::upgrade::Rejection;

/// How sessions are served; share one among all of a server, for the sake of its memory budget.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Options {
    /// How much each session may hold and take.
    pub limits: Limits,
    /// The clocks of each session.
    pub timeouts: Timeouts,
    /// How to learn what the kernel has not delivered yet. Most servers need not set it: one in the request's
    /// extensions is found, and plain TCP is asked directly.
    pub unsent_probe: Option<UnsentProbe>,
}

/// What exec and attach have in common: an accepted request that was not answered yet.
#[derive(Debug)]
struct Accepted {
    request: Request,
    upgrade: Upgrade,
    options: Options,
}

impl Accepted {
    fn new<B>(http: &mut http::Request<B>, spelling: Spelling, exec: bool) -> Result<Self, Rejection> {
        // The upgrade first: a request that is none gets told so, whatever its query.
        let upgrade = Upgrade::accept(http, REMOTECOMMAND)?;
        let bad = |error: super::RequestError| Rejection::bad_request(error.to_string());
        let request = Request::parse(http.uri().query().unwrap_or_default(), spelling).map_err(bad)?;
        if exec {
            request.validate_exec().map_err(bad)?;
        }
        Ok(Self { request, upgrade, options: Options::default() })
    }
}

macro_rules! session {
    ($(#[$doc:meta])* $name:ident, $exec:literal) => {
        $(#[$doc])*
        #[derive(Debug)]
        #[must_use = "the client waits for an answer"]
        pub struct $name(Accepted);

        impl $name {
            /// Checks an HTTP request: the upgrade, the subprotocol, and the parameters as the API server spells them.
            /// Takes hyper's upgrade handle out of the request.
            ///
            /// # Errors
            ///
            /// The request cannot be served; the rejection knows the HTTP answer.
            pub fn accept<B>(request: &mut http::Request<B>) -> Result<Self, Rejection> {
                Self::accept_spelled(request, Spelling::ApiServer)
            }

            /// As [`accept`](Self::accept), with the parameters spelled as on the path named by `spelling`.
            ///
            /// # Errors
            ///
            /// As [`accept`](Self::accept).
            pub fn accept_spelled<B>(
                request: &mut http::Request<B>,
                spelling: Spelling,
            ) -> Result<Self, Rejection> {
                Accepted::new(request, spelling, $exec).map(Self)
            }

            /// Sets limits and clocks.
            pub fn options(mut self, options: Options) -> Self {
                self.0.options = options;
                self
            }

            /// What the client asks for.
            #[must_use]
            pub fn request(&self) -> &Request {
                &self.0.request
            }

            /// What the client speaks.
            #[must_use]
            pub fn subprotocol(&self) -> &Subprotocol {
                self.0.upgrade.subprotocol()
            }

            /// The 101 to answer with.
            #[must_use]
            pub fn response(&self) -> Response<()> {
                self.0.upgrade.response()
            }
        }
    };
}

session! {
    /// A client's wish to run a command: answer with [`response`](Self::response), then run [`serve`](Self::serve).
    Exec, true
}
session! {
    /// A client's wish to attach: answer with [`response`](Self::response), then run [`serve`](Self::serve).
    Attach, false
}

impl Exec {
    /// Runs the session to its very end, close handshake included. Spawn it once the response is on its way.
    ///
    /// Dropped, it drops the executor's future and cuts the connection: the client sees a loss, never a success. A
    /// panic of the executor is a Failure status for this client and nothing to anybody else.
    pub async fn serve<E: Executor>(self, executor: E) -> Report {
        run(self.0, |request, streams| executor.exec(request, streams)).await
    }
}

impl Attach {
    /// As [`Exec::serve`], for an attacher.
    pub async fn serve<A: Attacher>(self, attacher: A) -> Report {
        let attach =
            |request, streams| async { attacher.attach(request, streams).await.map(|()| ExitCode(0)) };
        run(self.0, attach).await
    }
}

/// How a session went, for a log or an audit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// What the handler returned; `None` when it was never called because the client went away before.
    pub result: Option<Result<ExitCode, Failure>>,
    /// How the connection ended.
    pub end: Option<End>,
    /// What went over it.
    pub stats: Stats,
    /// Terminal sizes that were malformed or out of range.
    pub dropped_sizes: u64,
    /// What the client spoke.
    pub subprotocol: Subprotocol,
}

impl Report {
    /// Whether the result was handed to a client that was still there to take it.
    #[must_use]
    pub fn delivered(&self) -> bool {
        self.result.is_some() && matches!(self.end, Some(End::Closed { .. }))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.result {
            None => f.write_str("the client left before the session began")?,
            Some(Ok(code)) => write!(f, "exit code {code}")?,
            Some(Err(failure)) => write!(f, "failure: {failure}")?,
        }
        if let Some(end) = &self.end {
            write!(f, "; connection {end}")?;
        }
        Ok(())
    }
}

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

async fn run<C, F>(accepted: Accepted, call: C) -> Report
where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let Accepted { request, upgrade, options } = accepted;
    let subprotocol = upgrade.subprotocol().clone();
    let opened = upgrade.open(|builder| {
        let builder = builder.channels(channels(&request)).limits(options.limits).timeouts(options.timeouts);
        match options.unsent_probe {
            Some(probe) => builder.unsent_probe(Some(probe)),
            None => builder,
        }
    });
    let mut report = Report {
        result: None,
        end: None,
        stats: Stats::default(),
        dropped_sizes: 0,
        subprotocol: subprotocol.clone(),
    };
    let (connection, driver) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            debug!(%error, "the client left before the session began");
            return report;
        }
    };
    session(connection, driver, request, &subprotocol, call, &mut report).await;
    report
}

/// The session on an open connection.
async fn session<C, F>(
    connection: Connection,
    driver: Driver,
    request: Request,
    subprotocol: &Subprotocol,
    call: C,
    report: &mut Report,
) where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let mut streams = Streams::new(Disconnect::new(connection.disconnect()));
    let wanted = |on: bool, channel| on.then(|| connection.writer(channel)).flatten().map(Output::new);
    streams.stdin = request.stdin.then(|| connection.reader(ChannelId::STDIN)).flatten().map(Input::new);
    streams.stdout = wanted(request.stdout, ChannelId::STDOUT);
    streams.stderr = wanted(request.stderr, ChannelId::STDERR);
    let mut sizes = None;
    if let Some(reader) = request.tty.then(|| connection.reader(ChannelId::RESIZE)).flatten() {
        let (pump, resizes) = ResizePump::new(reader);
        (sizes, streams.resize) = (Some(pump), Some(resizes));
    }

    let conversation = async {
        ready(&connection, &request).await;
        let handler = AssertUnwindSafe(async { call(request, streams).await }).catch_unwind();
        let result = match sizes.as_mut() {
            Some(pump) => beside(handler, pump.run()).await,
            None => handler.await,
        };
        let result = result.unwrap_or_else(|_| {
            warn!("the handler of a session panicked");
            Err(Failure::internal("the server failed while running the command"))
        });
        finish(&connection, subprotocol, &result).await;
        result
    };
    let (end, result) = join(driver, conversation).await;
    report.result = Some(result);
    report.end = Some(end);
    report.stats = connection.stats();
    report.dropped_sizes = sizes.as_ref().map_or(0, ResizePump::dropped);
}

/// Polls `aside` for as long as `work` takes.
async fn beside<T>(work: impl Future<Output = T>, aside: impl Future<Output = ()>) -> T {
    match select(pin!(work), pin!(aside)).await {
        Either::Left((value, _)) => value,
        Either::Right(((), work)) => work.await,
    }
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

/// The status, and Close behind it.
async fn finish(connection: &Connection, subprotocol: &Subprotocol, result: &Result<ExitCode, Failure>) {
    let status = match result {
        Ok(code) => Status::exit(*code, format_args!("command terminated with exit code {code}")),
        Err(failure) => failure.as_status().clone(),
    };
    let message = if subprotocol.json_status() {
        Some(Bytes::from(status.to_channel_json()))
    } else {
        status.to_text().map(|text| Bytes::copy_from_slice(text.as_bytes()))
    };
    if let (Some(message), Some(mut writer)) = (message, connection.writer(ChannelId::ERROR))
        && let Err(error) = writer.send(message).await
    {
        debug!(%error, "the status could not be sent");
    }
    connection.shutdown(&CloseReason::code(CloseCode::NORMAL));
}
