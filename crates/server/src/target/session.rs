//! One exec session, seen from outside: a request and its streams in, an exit code or a failure out.

use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

use super::{command::SessionOptions, group::Exit, pipes, pty, spawn::SpawnError};

/// Runs the command of a request on this machine and answers as an exec does.
pub(crate) async fn exec(
    request: Request,
    streams: Streams,
    options: &SessionOptions,
) -> Result<ExitCode, Failure> {
    let result = if request.tty {
        pty::run(&request.command, options, streams).await
    } else {
        pipes::run(&request.command, options, streams).await
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
