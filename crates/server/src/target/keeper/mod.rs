//! One small process between the server and each command, so that the end of a session reaches everything that the
//! command started.
//!
//! A process group or a session of processes can be left (`setsid`, daemons that fork twice), and a server that is
//! killed with SIGKILL can do nothing any more. The keeper closes both gaps without privileges: it is a *subreaper*, so
//! that whatever loses its parent becomes its child and stays findable, and it holds one end of a socket whose other
//! end only the server has: when that closes without a word, everything below the keeper is killed. Making the server
//! itself the subreaper would tell orphans from other sessions' apart no better, would change the process that embeds
//! this library, and would not survive SIGKILL. PDEATHSIG reaches one process, not its children.
//!
//! ```text
//! server ── socket ── zygote                     one for each server; forks a keeper for each socket that comes
//!    │                  │
//!    └──── socket ─── keeper ── leader (own process group or session) ── …
//!         order, 3 descriptors →
//!         ← started, exited
//!         K (kill all), R (let go); end of file means K and exit
//! ```
//!
//! Where a control group can be made, the command runs in one of its own, which kills even what outruns the keeper
//! (`cgroup`).
//!
//! Nothing hangs on the zygote but the start of further commands: keepers answer to the server alone, by their own sockets, and
//! somebody who kills the zygote ends no session. Where the server is process 1, which orphans fall to, the zygote takes and
//! reaps those whose keeper has gone.
//!
//! A keeper costs a fork and some memory for each command: off unless [`CommandOptions::keeper`] is set.
//!
//! [`CommandOptions::keeper`]: super::CommandOptions::keeper

mod cgroup;
mod child;
mod children;
mod link;
mod source;
mod wire;
mod zygote;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode};

pub(super) use link::{Handle, Kept, start};
pub(super) use wire::Order;

use source::Source;

/// How to start the process that keeps a command; see [`CommandOptions::keeper`](super::CommandOptions::keeper).
///
/// All clones share one process that keepers come from. It is started for the first command, with the environment, the
/// directory, the limits and the rights that this process has then, which are those of all commands.
#[derive(Debug, Clone)]
pub struct Keeper {
    program: PathBuf,
    arguments: Vec<OsString>,
    cgroups: bool,
    source: Source,
}

/// Whether they are started in the same way.
impl PartialEq for Keeper {
    fn eq(&self, other: &Self) -> bool {
        let Self { program, arguments, cgroups, source: _ } = self;
        (program, arguments, cgroups) == (&other.program, &other.arguments, &other.cgroups)
    }
}

impl Eq for Keeper {}

impl Keeper {
    /// `program`, called with `arguments`, must call [`Keeper::run`].
    pub fn new(
        program: impl Into<PathBuf>,
        arguments: impl IntoIterator<Item = impl Into<OsString>>,
    ) -> Self {
        let arguments = arguments.into_iter().map(Into::into).collect();
        Self { program: program.into(), arguments, cgroups: true, source: Source::default() }
    }

    /// Makes no control groups, for hosts where something else manages all of them. Then a command that forks faster
    /// than it can be killed has up to ten seconds to tire.
    #[must_use]
    pub fn without_cgroups(mut self) -> Self {
        self.cgroups = false;
        self
    }

    /// Whether control groups are made where that is possible.
    pub(super) fn cgroups(&self) -> bool {
        self.cgroups
    }

    /// The program that is running, whatever has become of its file since. Choose arguments by which its `main`
    /// recognises the case.
    pub fn this_program(arguments: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        Self::new("/proc/self/exe", arguments)
    }

    /// Starts the process that keepers come from, so that the first command need not wait for that. Doing it twice is the
    /// same as once.
    ///
    /// # Errors
    ///
    /// It cannot be started.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO.
    pub fn prepare(&self) -> io::Result<()> {
        self.source.open(self)
    }

    /// What the process does, to be called first thing in `main`, before threads or a runtime exist: where there is
    /// another thread, each keeper is an `exec` of the program instead of a fork. It takes its orders from standard input,
    /// which must be the socket that the server made, and returns when all is over.
    #[must_use]
    pub fn run() -> ExitCode {
        zygote::run()
    }
}
