//! Serving exec and attach.
//!
//! The order of a session's end is the one that real clients enforce: output, then exactly one status message, then
//! Close 1000, then reading on until the client's Close, then TCP. A failure never ends with Close 1000 and no status,
//! which kubectl takes for success. Over SPDY the same order is kept with FIN, the error stream and GOAWAY.
//!
//! One request handler serves WebSocket and SPDY clients: [`Exec::accept`] looks at what the client asks for.

mod session;
mod spdy;
mod websocket;

use std::fmt;
use std::future::Future;
use std::time::Duration;

use futures_util::TryFutureExt as _;
use http::Response;
use wsstream_proto::remotecommand::{Request, Spelling};
use wsstream_proto::status::ExitCode;
use wsstream_proto::subprotocol::{REMOTECOMMAND, SPDY_REMOTECOMMAND, Subprotocol};

use super::{Attacher, Executor, Failure, SessionEnd, Streams};
use crate::connection::Stats;
use crate::limits::{Limits, SpdyLimits, Timeouts};
use crate::server::{SpdyUpgrade, Upgrade};
use crate::transport::UnsentProbe;
pub use crate::upgrade::Rejection;
use crate::upgrade::is_spdy;

/// How sessions are served; share one among all of a server, for the sake of its memory budget.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// How much each session may hold and take.
    pub limits: Limits,
    /// The clocks of each session.
    pub timeouts: Timeouts,
    /// How much each SPDY session may hold and take. Default [`SpdyLimits::one_session`].
    pub spdy: SpdyLimits,
    /// How to learn what the kernel has not delivered yet. Most servers need not set it: one in the request's
    /// extensions is found, and plain TCP is asked directly.
    pub unsent_probe: Option<UnsentProbe>,
    /// How long a SPDY client may take to open the streams that its request calls for. Default 30 s, as upstream's
    /// `DefaultStreamCreationTimeout`; upstream leaves such a connection lying about, here it is closed.
    pub stream_creation: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            spdy: SpdyLimits::one_session(),
            unsent_probe: None,
            stream_creation: Duration::from_secs(30),
        }
    }
}

/// What exec and attach have in common: an accepted request that was not answered yet.
#[derive(Debug)]
struct Accepted {
    request: Request,
    upgrade: Wire,
    options: Options,
}

/// What the client wants to speak.
#[derive(Debug)]
enum Wire {
    WebSocket(Upgrade),
    Spdy(SpdyUpgrade),
}

impl Accepted {
    fn new<B>(http: &mut http::Request<B>, spelling: Spelling, exec: bool) -> Result<Self, Rejection> {
        // The upgrade first: a request that is none gets told so, whatever its query.
        let upgrade = Wire::accept(http)?;
        let query = http.uri().query().unwrap_or_default();
        let request = Request::parse(query, spelling).map_err(|error| bad(&error))?;
        Self::with(request, upgrade, exec)
    }

    fn with(request: Request, upgrade: Wire, exec: bool) -> Result<Self, Rejection> {
        if exec { request.validate_exec() } else { request.validate() }.map_err(|error| bad(&error))?;
        Ok(Self { request, upgrade, options: Options::default() })
    }
}

fn bad(error: &super::RequestError) -> Rejection {
    Rejection::bad_request(error.to_string())
}

impl Wire {
    fn accept<B>(http: &mut http::Request<B>) -> Result<Self, Rejection> {
        Ok(if is_spdy(http.headers()) {
            Self::Spdy(SpdyUpgrade::accept(http, SPDY_REMOTECOMMAND)?)
        } else {
            Self::WebSocket(Upgrade::accept(http, REMOTECOMMAND)?)
        })
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

            /// As [`accept`](Self::accept), with parameters that are known already, whatever the URL says: a streaming
            /// server of a container runtime was told them before, by another way.
            ///
            /// # Errors
            ///
            /// As [`accept`](Self::accept).
            pub fn accept_request<B>(
                http: &mut http::Request<B>,
                request: Request,
            ) -> Result<Self, Rejection> {
                Accepted::with(request, Wire::accept(http)?, $exec).map(Self)
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
                match &self.0.upgrade {
                    Wire::WebSocket(upgrade) => upgrade.subprotocol(),
                    Wire::Spdy(upgrade) => upgrade.protocol(),
                }
            }

            /// Whether the client speaks SPDY/3.1 rather than WebSocket.
            #[must_use]
            pub fn is_spdy(&self) -> bool {
                matches!(self.0.upgrade, Wire::Spdy(_))
            }

            /// The 101 to answer with.
            #[must_use]
            pub fn response(&self) -> Response<()> {
                match &self.0.upgrade {
                    Wire::WebSocket(upgrade) => upgrade.response(),
                    Wire::Spdy(upgrade) => upgrade.response(),
                }
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
    pub fn serve<E: Executor>(self, executor: E) -> impl Future<Output = Report> + Send {
        let accepted = Box::new(self.0);
        async move { run(accepted, |request, streams| executor.exec(request, streams)).await }
    }
}

impl Attach {
    /// As [`Exec::serve`], for an attacher.
    pub fn serve<A: Attacher>(self, attacher: A) -> impl Future<Output = Report> + Send {
        let accepted = Box::new(self.0);
        async move {
            let attach = |request, streams| attacher.attach(request, streams).map_ok(|()| ExitCode(0));
            run(accepted, attach).await
        }
    }
}

/// How a session went, for a log or an audit.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Report {
    /// What the handler returned; `None` when it was never called because the client went away before.
    pub result: Option<Result<ExitCode, Failure>>,
    /// How the connection ended.
    pub end: Option<SessionEnd>,
    /// What went over it.
    pub stats: Stats,
    /// Terminal sizes that were malformed or out of range.
    pub dropped_sizes: u64,
    /// What the client spoke.
    pub subprotocol: Subprotocol,
    /// The status was sent, and the client had not hung up by then.
    told: bool,
}

impl Report {
    /// Whether the result was handed to a client that was still there to take it. One that has closed and then hung up before
    /// the command ended was not.
    #[must_use]
    pub fn delivered(&self) -> bool {
        self.told && self.result.is_some() && self.end.as_ref().is_some_and(SessionEnd::is_orderly)
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

/// What was accepted is boxed: it is of no use behind the beginning, and would take its room to the end.
async fn run<C, F>(accepted: Box<Accepted>, call: C) -> Report
where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let Accepted { request, upgrade, options } = *accepted;
    match upgrade {
        Wire::WebSocket(upgrade) => websocket::run(upgrade, options, request, call).await,
        // Boxed, so that the sessions over WebSocket do not hold the room that this one takes.
        Wire::Spdy(upgrade) => Box::pin(spdy::run(upgrade, options, request, call)).await,
    }
}
