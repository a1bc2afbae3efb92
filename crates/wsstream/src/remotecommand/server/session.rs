//! What a session is, whatever carries it: the handler, the decoder of terminal sizes beside it, and the status.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use futures_util::future::{Either, select};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;
use wsstream_proto::remotecommand::Request;
use wsstream_proto::status::{ExitCode, Status};
use wsstream_proto::subprotocol::Subprotocol;

use super::Report;
use crate::connection::Stats;
use crate::limits::Timeouts;
use crate::remotecommand::streams::ResizePump;
use crate::remotecommand::{Failure, Streams};

impl Report {
    /// Of a session that has not begun.
    pub(super) fn new(subprotocol: Subprotocol) -> Self {
        Self { result: None, end: None, stats: Stats::default(), dropped_sizes: 0, subprotocol, told: false }
    }
}

/// How long a handler gets to end once its session has been idle for too long: what servers give a command between two
/// signals, several times over. Then it is dropped.
const IDLE_GRACE: Duration = Duration::from_secs(60);

/// The clock of a session that nobody uses. Not the connection's own: that could only cut, and over SPDY every stock client
/// takes a session that ends without a status for a success.
pub(super) struct IdleClock {
    timeout: Option<Duration>,
    tell: watch::Sender<Option<Duration>>,
}

impl IdleClock {
    /// Takes the clock out of the timeouts of the connection.
    pub(super) fn take(timeouts: &mut Timeouts) -> Self {
        Self { timeout: timeouts.idle.take(), tell: watch::Sender::new(None) }
    }

    /// For the handler's [`Disconnect`](crate::remotecommand::Disconnect).
    pub(super) fn watch(&self) -> watch::Receiver<Option<Duration>> {
        self.tell.subscribe()
    }

    /// Waits until nothing was sent either way for as long as is borne, and tells the handler.
    async fn run_out(&self, last_data: impl Fn() -> Instant) -> Duration {
        let Some(timeout) = self.timeout else { return std::future::pending().await };
        loop {
            let since = last_data();
            if since.elapsed() >= timeout {
                self.tell.send_replace(Some(timeout));
                return timeout;
            }
            sleep(timeout.saturating_sub(since.elapsed())).await;
        }
    }

    /// Runs the handler; one whose session is idle for too long has failed, whatever it makes of that.
    pub(super) async fn beside(
        &self,
        last_data: impl Fn() -> Instant,
        handler: impl Future<Output = Result<ExitCode, Failure>> + Unpin,
    ) -> Result<ExitCode, Failure> {
        match select(handler, pin!(self.run_out(last_data))).await {
            Either::Left((result, _)) => result,
            Either::Right((after, handler)) => {
                if timeout(IDLE_GRACE, handler).await.is_err() {
                    warn!("the handler of an idle session does not end: it is dropped");
                }
                let text = format!("the session was idle for {}", humantime(after));
                Err(Failure::status(Status::failure(504, "Timeout", text)))
            }
        }
    }
}

/// Whole seconds are said as such.
fn humantime(time: Duration) -> String {
    if time.subsec_nanos() == 0 { format!("{} s", time.as_secs()) } else { format!("{time:?}") }
}

/// Calls the handler, and runs it to its end. A panic is a failure of this one session.
///
/// Boxed: a future that is awaited by value lies twice in the one that awaits it, and so do the arguments of an `async fn`. A
/// session is a dozen of them deep.
pub(super) fn handle<'a, C, F>(
    request: Request,
    streams: Streams,
    sizes: Option<&'a mut ResizePump>,
    call: C,
) -> Pin<Box<impl Future<Output = Result<ExitCode, Failure>> + use<'a, C, F>>>
where
    C: FnOnce(Request, Streams) -> F,
    F: Future<Output = Result<ExitCode, Failure>>,
{
    let called = catch_unwind(AssertUnwindSafe(|| Box::pin(call(request, streams))));
    Box::pin(async move {
        let result = match called {
            Ok(handler) => {
                let handler = AssertUnwindSafe(handler).catch_unwind();
                match sizes {
                    Some(pump) => beside(handler, pump.run()).await,
                    None => handler.await,
                }
            }
            Err(panic) => Err(panic),
        };
        result.unwrap_or_else(|_| {
            warn!("the handler of a session panicked");
            Err(Failure::internal("the server failed while running the command"))
        })
    })
}

/// Polls `aside` for as long as `work` takes.
async fn beside<T>(work: impl Future<Output = T> + Unpin, aside: impl Future<Output = ()>) -> T {
    match select(work, pin!(aside)).await {
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
