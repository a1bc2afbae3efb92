//! Why a verb could not do its work: one line that names the cause, and what to do next.

use crate::exit::Exit;
use std::fmt;

/// An end that is not the remote command's. Printed on standard error, also under `--quiet`: it is what tells a
/// script that the exit code is ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    exit: Exit,
    line: String,
    next: Option<String>,
}

impl Failure {
    /// The command line asks for something that cannot be.
    pub(crate) fn usage(what: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, format!("wsstream: {what}"))
    }

    /// Something on this side.
    pub(crate) fn local(what: impl fmt::Display) -> Self {
        Self::new(Exit::Local, format!("wsstream: {what}"))
    }

    /// The server said no. `line` is printed as it is, so that it reads like kubectl's.
    pub(crate) fn refused(line: impl Into<String>) -> Self {
        Self::new(Exit::Refused, line.into())
    }

    /// The session is over and nobody knows how the command ended.
    pub(crate) fn lost(why: impl fmt::Display) -> Self {
        Self::new(Exit::Lost, format!("wsstream: lost: {why}"))
    }

    /// A clean end without an exit code.
    pub(crate) fn no_status(why: impl fmt::Display) -> Self {
        Self::new(Exit::NoStatus, format!("wsstream: ended: {why}"))
    }

    /// A signal to this process.
    pub(crate) fn signal(number: u8, name: &str) -> Self {
        Self::new(Exit::Signal(number), format!("wsstream: interrupted by {name}"))
    }

    /// Nobody reads our standard output: silent, as every filter is.
    pub(crate) fn broken_pipe() -> Self {
        Self::new(Exit::BROKEN_PIPE, String::new())
    }

    fn new(exit: Exit, line: String) -> Self {
        Self { exit, line, next: None }
    }

    /// Adds what to do next.
    pub(crate) fn next(mut self, hint: impl Into<String>) -> Self {
        self.next = Some(hint.into());
        self
    }

    /// The same as a fault of what was typed, flags and file alike.
    pub(crate) fn into_usage(self) -> Self {
        Self { exit: Exit::Usage, ..self }
    }

    /// How the process ends.
    pub(crate) fn exit(&self) -> Exit {
        self.exit
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.line)?;
        if let Some(next) = &self.next {
            write!(f, "\n  {next}")?;
        }
        Ok(())
    }
}

/// An error and its causes in one line; a cause that its parent already quotes is not repeated.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
