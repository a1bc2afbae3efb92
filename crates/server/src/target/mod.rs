//! What a *container* is: something that commands can be run in, attached to and read logs from.
//!
//! The API routes know the trait [`Target`] and nothing else, so that a new kind of container is one more file here
//! and no change anywhere else. Two kinds exist: [`HostTarget`] runs commands on this machine, [`ProcessTarget`]
//! supervises one command and shares its terminal or pipes with every client that attaches.
//!
//! The layers below them, from the kernel up: `descriptor` (one end of a pipe or terminal), `group` (the processes
//! of a session: signals, exit, nothing left behind), `tree` and `keeper` (the same for those that leave the group),
//! `spawn` (one command with its ends), `pump` (bytes between the
//! ends and a client), `pipes` and `pty` (one exec session each).

mod attach;
mod command;
mod descriptor;
mod ending;
mod follow;
mod group;
mod history;
mod host;
mod keeper;
mod logs;
mod order;
mod pipes;
mod process;
mod pty;
mod pump;
mod queue;
mod run;
mod session;
mod signals;
mod spawn;
mod state;
mod supervise;
pub(crate) mod tree;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

pub use command::{Background, CommandOptions, DisconnectPolicy, DrainGrace, OnDisconnect, SessionOptions};
pub use ending::Ending;
pub use host::HostTarget;
pub use keeper::Keeper;
pub use logs::{LogError, LogOptions, LogStream};
pub(crate) use order::{Cause, Given, Order};
pub use process::{DEFAULT_HISTORY, ProcessSpec, ProcessTarget};
pub use state::{ContainerState, Terminated};
pub use supervise::{Restart, RestartDelay};

/// Something that a pod lists as a container.
///
/// Every method answers for every kind: a container that has no main process or no logs says so with an error that
/// names the cause; none of them accepts a request and does nothing.
///
/// The futures own their session. Dropping one ends it: the processes that an [`exec`](Self::exec) started are
/// killed, an [`attach`](Self::attach) or a log reader is detached.
pub trait Target: Send + Sync {
    /// Runs one command and relays its streams until it has ended and its output has been drained, or until `ending`
    /// asks for an end: then the command is ended, and the result is a failure that says so.
    ///
    /// # Errors
    /// A [`Failure`] when the command could not be started, or was ended; its text names the reason.
    fn exec(
        &self,
        request: Request,
        streams: Streams,
        ending: Ending,
    ) -> BoxFuture<'_, Result<ExitCode, Failure>>;

    /// Joins the streams to those of the main process until that process ends or the client leaves.
    ///
    /// The result says nothing about the exit code of the process: attach always reports success once it has been
    /// attached (kubernetes#63694).
    ///
    /// # Errors
    /// A [`Failure`] when there is no main process, or it is not running.
    fn attach(&self, request: Request, streams: Streams) -> BoxFuture<'_, Result<(), Failure>>;

    /// Opens the log of the main process.
    ///
    /// # Errors
    /// [`LogError`] when there is no log; its text names the reason.
    fn logs(&self, options: LogOptions) -> BoxFuture<'_, Result<LogStream, LogError>>;

    /// What the main process is doing now.
    fn state(&self) -> ContainerState;

    /// How often the main process has been started again since the first time.
    fn restarts(&self) -> u32;

    /// How the run before the current one ended, if there was one.
    fn last_run(&self) -> Option<Terminated>;

    /// The state and its changes, newest wins: what a pod list watches. The channel is open as long as the target
    /// exists.
    fn subscribe(&self) -> watch::Receiver<ContainerState>;

    /// Ends the main process for good: asks it to end, and kills it after `grace`. Returns when it has ended, at once
    /// where there is none. Cancel-safe: the end goes on without the waiting.
    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()>;
}
