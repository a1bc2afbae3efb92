//! What a server implements.

use std::future::Future;

use super::{ExitCode, Failure, Request, Streams};

/// Runs commands.
pub trait Executor: Send + Sync {
    /// Runs `request.command` with `streams` and returns its exit code.
    ///
    /// Return only when everything the command wrote went into the streams: what is queued there is delivered before
    /// the status. When [`Streams::disconnect`] resolves nobody may be listening any more: end the command soon, by
    /// whatever policy. When the future is dropped, end it at once.
    ///
    /// # Errors
    ///
    /// The command could not be run.
    fn exec(
        &self,
        request: Request,
        streams: Streams,
    ) -> impl Future<Output = Result<ExitCode, Failure>> + Send;
}

impl<F, T> Executor for F
where
    F: Fn(Request, Streams) -> T + Send + Sync,
    T: Future<Output = Result<ExitCode, Failure>> + Send,
{
    fn exec(
        &self,
        request: Request,
        streams: Streams,
    ) -> impl Future<Output = Result<ExitCode, Failure>> + Send {
        self(request, streams)
    }
}

/// Attaches to what already runs.
pub trait Attacher: Send + Sync {
    /// Connects `streams` to the running process, until it ends or the client has left. An attach reports success or
    /// failure, never an exit code: upstream's clients expect none.
    ///
    /// # Errors
    ///
    /// There is nothing to attach to, or it failed.
    fn attach(&self, request: Request, streams: Streams) -> impl Future<Output = Result<(), Failure>> + Send;
}

impl<F, T> Attacher for F
where
    F: Fn(Request, Streams) -> T + Send + Sync,
    T: Future<Output = Result<(), Failure>> + Send,
{
    fn attach(&self, request: Request, streams: Streams) -> impl Future<Output = Result<(), Failure>> + Send {
        self(request, streams)
    }
}
