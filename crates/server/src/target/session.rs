//! One exec session, seen from outside: what it needs from a client, and how it is run on this machine.

use std::future::Future;

use wsstream::remotecommand::{ExitCode, Failure, Input, Output, Request, Resizes, Streams};

use super::{command::SessionOptions, group::Exit, pipes, pty, spawn::SpawnError};

/// The client's side of a session. Generic, so that sessions can be tested with real processes and without a
/// connection; the API uses it with the types of [`wsstream::remotecommand`].
pub(crate) struct Client<I, O, R, D> {
    /// `None`: not requested, which is not the same as an input that has ended.
    pub(crate) stdin: Option<I>,
    pub(crate) stdout: Option<O>,
    pub(crate) stderr: Option<O>,
    pub(crate) sizes: Option<R>,
    /// Resolves when the client is gone, one way or the other.
    pub(crate) gone: D,
}

impl Client<Input, Output, Resizes, ()> {
    /// Takes the streams of a connection apart.
    pub(crate) fn of(streams: Streams) -> Client<Input, Output, Resizes, impl Future<Output = ()> + Send> {
        let Streams { stdin, stdout, stderr, resize, disconnect, .. } = streams;
        let gone = async move {
            disconnect.wait().await;
        };
        Client { stdin, stdout, stderr, sizes: resize, gone }
    }
}

/// Runs the command of a request on this machine and answers as an exec does.
pub(crate) async fn exec(
    request: Request,
    streams: Streams,
    options: &SessionOptions,
) -> Result<ExitCode, Failure> {
    let client = Client::of(streams);
    let result = if request.tty {
        pty::run(&request.command, options, client).await
    } else {
        pipes::run(&request.command, options, client).await
    };
    match result {
        Ok(exit) => Ok(ExitCode(exit.code)),
        Err(error) => {
            tracing::info!(command = ?request.command.first(), %error, "a command could not be run");
            Err(exec_failure(error))
        }
    }
}

/// The text that kubectl users know from container runtimes.
pub(crate) fn exec_failure(cause: impl std::fmt::Display) -> Failure {
    Failure::internal(format_args!("error executing command in container: {cause}"))
}

/// The same for attach.
pub(crate) fn attach_failure(cause: impl std::fmt::Display) -> Failure {
    Failure::internal(format_args!("error attaching to container: {cause}"))
}

/// Why a session has no exit code.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SessionError {
    /// The command did not start.
    #[error("{0}")]
    Spawn(SpawnError),
    /// The command ran, and the system would not tell how it ended.
    #[error("cannot wait for the command: {0}")]
    Wait(std::io::Error),
}

impl From<SpawnError> for SessionError {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

/// What both kinds of session return.
pub(crate) type SessionResult = Result<Exit, SessionError>;
