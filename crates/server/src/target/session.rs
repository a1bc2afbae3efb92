//! One exec session, seen from outside: a request and its streams in, an exit code or a failure out.

use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

use super::{
    command::{Background, SessionOptions},
    ending::{Ending, Why},
    group::{Exit, Group},
    pipes, pty,
    spawn::SpawnError,
};

/// Runs the command of a request on this machine and answers as an exec does.
pub(crate) async fn exec(
    request: Request,
    streams: Streams,
    options: &SessionOptions,
    ending: &Ending,
) -> Result<ExitCode, Failure> {
    let result = if request.tty {
        // Boxed, so that sessions without a terminal do not hold the room that this one takes.
        Box::pin(pty::run(&request.command, options, streams, ending)).await
    } else {
        pipes::run(&request.command, options, streams, ending).await
    };
    match result {
        Ok(exit) => Ok(ExitCode(exit.code)),
        Err(SessionError::Stopped(exit)) => Err(ending.failure(Some(exit.code))),
        Err(error) => {
            // Quoted: no control character of the error may begin a line of its own in a log.
            let quoted = error.to_string();
            tracing::info!(command = ?request.command.first(), error = ?quoted, "a command could not be run");
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
    /// The server ended it. Never reported as an exit code: a command that heeds SIGTERM may well exit with 0.
    #[error("the server ended the command (exit code {})", .0.code)]
    Stopped(Exit),
}

impl From<SpawnError> for SessionError {
    fn from(error: SpawnError) -> Self {
        Self::Spawn(error)
    }
}

/// What both kinds of session return.
pub(crate) type SessionResult = Result<Exit, SessionError>;

/// Takes the result of a command that has ended by itself, and decides about what it left in the background.
pub(super) fn finish(mut group: Group, result: SessionResult, background: Background) -> SessionResult {
    // Without a result nobody knows what is still running: then it is killed.
    if result.is_ok() && background == Background::Keep {
        group.release();
    }
    result
}

/// Takes the result of a command that was made to end.
pub(super) fn forced(why: Why, result: SessionResult) -> SessionResult {
    match why {
        Why::ClientLeft => result,
        Why::ServerEnds => Err(SessionError::Stopped(result?)),
    }
}
