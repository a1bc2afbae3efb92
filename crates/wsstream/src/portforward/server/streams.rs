//! Port-forward over SPDY, plain or through the tunnel: pairs of streams, opened and ended at any time.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::pin;

use futures_util::future::{OptionFuture, join};
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::debug;
use wsstream_proto::portforward::{Half, RequestId, StreamRequest};

use super::super::pair;
use super::{
    Errors, Forwarded, LEAVE, Options, PortForwarder, Report, SessionEnd, forwarded, left_alone, text,
};
use crate::spdy::{Connection, Driver, Expecting, GoAwayStatus, Incoming, ResetStatus, Stream, Watch};

pub(super) async fn serve<F: PortForwarder>(
    connection: Connection,
    driver: Driver,
    forwarder: &F,
    options: &Options,
    stop: impl Future<Output = ()>,
    report: &mut Report,
) {
    let conversation = async {
        run(&connection, forwarder, options, stop, report).await;
        connection.shutdown(GoAwayStatus::OK);
    };
    let (end, ()) = join(driver, conversation).await;
    report.end = Some(SessionEnd::Spdy(end));
}

/// Takes streams until no more will come, and runs connections until the last one has ended.
async fn run<F: PortForwarder>(
    connection: &Connection,
    forwarder: &F,
    options: &Options,
    stop: impl Future<Output = ()>,
    report: &mut Report,
) {
    let mut stop = pin!(stop);
    let mut running = FuturesUnordered::new();
    let mut pairs = Pairs::new(options);
    loop {
        let deadline = pairs.deadline();
        let expiry = OptionFuture::from(deadline.map(sleep_until));
        tokio::select! {
            incoming = connection.accept() => match incoming {
                Some(incoming) => {
                    if let Some(pair) = pairs.add(connection, incoming, running.len(), report) {
                        running.push(one(pair, forwarder, options.errors));
                    }
                }
                None => break,
            },
            Some(done) = running.next() => report.count(&done),
            Some(()) = expiry => pairs.expire(Instant::now(), options.errors, report),
            () = &mut stop => break,
        }
    }
    report.incomplete += pairs.clear();
    // The client opens nothing more. What it has sent is still handed on, and what it still takes is still sent to it.
    let rest = async {
        while let Some(done) = running.next().await {
            report.count(&done);
        }
    };
    let gone = async {
        connection.ended().await;
        left_alone(|| connection.stats().waiting).await;
    };
    let refusing = async {
        // A client that wants more is told so at once.
        while let Some(incoming) = connection.accept().await {
            incoming.reject(ResetStatus::REFUSED_STREAM);
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = rest => {}
        () = gone => {}
        () = refusing => {}
    }
}

/// One connection from its two streams to their ends.
async fn one<F: PortForwarder>(pair: Pair, forwarder: &F, errors: Errors) -> Forwarded {
    let Pair { port, request, data, error } = pair;
    debug!(port, %request, "forwarding");
    let (stream, ending) = pair::of_server(data, error);
    let result = forwarded(port, forwarder.forward(port, stream)).await;
    match (&result, errors) {
        (Ok(()), _) => ending.finish(),
        (Err(error), Errors::Report) if !error.is_clients() => {
            let told = bounded(ending.report(text(port, error))).await;
            if let Some(Err(error)) = told {
                debug!(port, %request, %error, "the client could not be told");
            }
        }
        (Err(_), _) => ending.reset(),
    }
    result
}

/// A client that reads nothing must not keep a connection that is over.
async fn bounded<T>(telling: impl Future<Output = T>) -> Option<T> {
    timeout(LEAVE, telling).await.ok()
}

/// Both streams of a connection.
struct Pair {
    port: u16,
    request: RequestId,
    data: Stream,
    error: Stream,
}

/// What has come of a pair so far.
struct Incomplete {
    half: Half,
    port: u16,
    stream: Stream,
    watch: Watch,
    since: Instant,
    /// Reason enough to give a stream up that nobody reads: the other half may wait behind it.
    _expecting: Expecting,
}

/// Pairs of which one half has come, by request id. They are few: see [`Options::max_incomplete`].
struct Pairs<'a> {
    options: &'a Options,
    waiting: BTreeMap<RequestId, Incomplete>,
}

impl<'a> Pairs<'a> {
    fn new(options: &'a Options) -> Self {
        Self { options, waiting: BTreeMap::new() }
    }

    /// Takes a stream in; the pair, when it is the second half of one. In any order: clients open several connections at
    /// once, and Go's own reader hands streams on out of order.
    fn add(
        &mut self,
        connection: &Connection,
        incoming: Incoming,
        running: usize,
        report: &mut Report,
    ) -> Option<Pair> {
        let refuse = |incoming: Incoming, status, report: &mut Report| {
            report.refused_streams += 1;
            incoming.reject(status);
        };
        let StreamRequest { half, port, request } =
            match StreamRequest::parse(incoming.headers(), incoming.id()) {
                Ok(parsed) => parsed,
                Err(error) => {
                    debug!(%error, "a stream is refused");
                    refuse(incoming, ResetStatus::CANCEL, report);
                    return None;
                }
            };
        self.forget_dead(report);
        match self.waiting.get(&request) {
            Some(first) if first.half == half => {
                debug!(%request, ?half, "a stream is refused: the pair has one of its kind already");
                refuse(incoming, ResetStatus::CANCEL, report);
                None
            }
            None if self.waiting.len() + running >= self.options.max_connections => {
                debug!(%request, "a stream is refused: too many connections are open");
                refuse(incoming, ResetStatus::REFUSED_STREAM, report);
                None
            }
            None if self.waiting.len() >= self.options.max_incomplete => {
                debug!(%request, "a stream is refused: too many pairs are incomplete");
                refuse(incoming, ResetStatus::REFUSED_STREAM, report);
                None
            }
            None => {
                let (since, expecting) = (Instant::now(), connection.expect_stream());
                let mut stream = incoming.accept();
                let watch = stream.reader().watch();
                let first = Incomplete { half, port, stream, watch, since, _expecting: expecting };
                self.waiting.insert(request, first);
                None
            }
            Some(_) => {
                let first = self.waiting.remove(&request)?;
                let second = incoming.accept();
                // The data stream's port counts, as upstream.
                let (port, data, error) = match half {
                    Half::Data => (port, second, first.stream),
                    Half::Error => (first.port, first.stream, second),
                };
                Some(Pair { port, request, data, error })
            }
        }
    }

    /// Forgets those that the client has reset: their other half would lead to a port for nobody.
    fn forget_dead(&mut self, report: &mut Report) {
        let before = self.waiting.len();
        self.waiting.retain(|_, first| !first.watch.is_reset());
        report.incomplete += (before - self.waiting.len()) as u64;
    }

    /// When the oldest has waited for long enough.
    fn deadline(&self) -> Option<Instant> {
        let oldest = self.waiting.values().map(|first| first.since).min()?;
        Some(oldest + self.options.pair_timeout)
    }

    /// Gives up those that have waited for too long.
    fn expire(&mut self, now: Instant, errors: Errors, report: &mut Report) {
        let timeout = self.options.pair_timeout;
        let overdue = self.waiting.iter().filter(|(_, first)| now.duration_since(first.since) >= timeout);
        let overdue: Vec<_> = overdue.map(|(request, _)| request.clone()).collect();
        for request in overdue {
            let Some(mut first) = self.waiting.remove(&request) else { continue };
            report.incomplete += 1;
            debug!(%request, port = first.port, half = ?first.half, "a pair stayed incomplete");
            if first.half == Half::Error && errors == Errors::Report {
                let text = format!("(request={request}) timed out waiting for streams");
                // Or not at all: the other connections do not wait for it. Dropped, the stream is reset behind the text.
                let _ = first.stream.writer().send(text.into()).now_or_never();
            }
        }
    }

    /// Forgets all, which resets their streams; how many there were.
    fn clear(&mut self) -> u64 {
        std::mem::take(&mut self.waiting).len() as u64
    }
}
