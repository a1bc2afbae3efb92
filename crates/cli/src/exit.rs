//! The exit codes, as a contract.
//!
//! Scripts branch on them, so they are listed in one place, shown by `wsstream --help` and tested.
//! A remote command may end with any of 0 to 255, so no code of ours can be free of collisions. The codes
//! chosen are rare ones (below 255, which ssh uses; above 192, where shells put signals), and certainty comes
//! from standard error: whenever a code is not the remote one, one line there begins with `wsstream: ` or with
//! `Error from server`.

use std::process::ExitCode;

/// How this process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// What was asked for was done: `logs` printed the log, `serve` or `port-forward` was told to stop, `attach` ended.
    Success,
    /// The remote command ended with this code.
    Remote(u8),
    /// The server refused the request or could not run the command.
    Refused,
    /// The command line is wrong. The same code as clap's.
    Usage,
    /// Something failed on this side, before or during the session.
    Local,
    /// A clean end on a protocol that carries no exit code.
    NoStatus,
    /// The session ended before its status arrived.
    Lost,
    /// A signal ended us, or would have: 13 (SIGPIPE) stands for a standard output that nobody reads.
    Signal(u8),
}

impl Exit {
    /// The number the shell sees.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Remote(code) => code,
            Self::Refused => 1,
            Self::Usage => 2,
            Self::Local => 252,
            Self::NoStatus => 253,
            Self::Lost => 254,
            Self::Signal(number) => 128_u8.saturating_add(number),
        }
    }

    /// Standard output was closed by its reader: end as a filter would.
    pub(crate) const BROKEN_PIPE: Self = Self::Signal(13);
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The part of `wsstream --help` that documents the codes.
pub(crate) const HELP: &str = "\
Exit codes:
  0..255  exec, attach: the exit code of the remote command, unchanged
  0       logs: all of it was printed; serve, port-forward: it was asked to stop
  1       the server refused the request, could not run the command, or ended it (it is stopping)
  2       the command line is wrong
  252     failed on this side: no kubeconfig, cannot connect, TLS, credentials, a local file
  253     ended without an exit code: the protocol in use (v3 and older) carries none
  254     lost: the session ended before its exit code arrived; the output may be incomplete
  128+N   ended here by signal N (141: nobody reads standard output any more)
A remote command may itself end with one of these. Whenever the code is not the remote one, a line
on standard error says so; it begins with `wsstream: ` or with `Error from server`.";

#[cfg(test)]
mod tests {
    use super::{Exit, HELP};

    #[test]
    fn codes_are_the_documented_ones() {
        let table = [
            (Exit::Success, 0),
            (Exit::Remote(0), 0),
            (Exit::Remote(255), 255),
            (Exit::Refused, 1),
            (Exit::Usage, 2),
            (Exit::Local, 252),
            (Exit::NoStatus, 253),
            (Exit::Lost, 254),
            (Exit::Signal(15), 143),
            (Exit::BROKEN_PIPE, 141),
            (Exit::Signal(200), 255),
        ];
        for (exit, code) in table {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
        for code in [252, 253, 254] {
            assert!(HELP.lines().any(|line| line.trim_start().starts_with(&code.to_string())), "{code}");
        }
    }
}
