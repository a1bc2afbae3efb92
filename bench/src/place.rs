//! Where the programs are, and which core they run on.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

/// The core of the server under test and of the commands that it starts.
pub const SERVER_CORE: usize = 0;

/// The core of the load.
pub const LOAD_CORE: usize = 1;

/// The programs.
#[derive(Debug, Clone)]
pub struct Place {
    /// The root of the repository, for the page.
    pub root: PathBuf,
    /// This program, which is also the raw peers, the library's server and the commands.
    pub own: PathBuf,
    /// The program beside it that counts its allocations.
    pub memory: PathBuf,
    /// `wsstream`, in release.
    pub wsstream: PathBuf,
    /// Go's server; without it Go's columns stay empty.
    pub go_server: Option<PathBuf>,
    /// client-go.
    pub go_client: Option<PathBuf>,
    /// The crate `kube`.
    pub kube_rs: Option<PathBuf>,
}

impl Place {
    /// The programs as `cargo xtask bench` has built them below `root`.
    ///
    /// # Errors
    ///
    /// This program does not know its own path.
    pub fn new(root: &Path) -> Result<Self> {
        let own = std::env::current_exe().context("no path of my own")?;
        let go = |name: &str| Some(root.join("bench/target/go").join(name)).filter(|path| path.is_file());
        Ok(Self {
            root: root.to_path_buf(),
            memory: own.with_file_name("memory"),
            kube_rs: Some(own.with_file_name("wsstream-bench-kube-rs")).filter(|path| path.is_file()),
            own,
            wsstream: root.join("target/release/wsstream"),
            go_server: go("server"),
            go_client: go("client"),
        })
    }

    /// A command of this program as words: `child write 1024 65536`.
    #[must_use]
    pub fn command(&self, words: &[&str]) -> Vec<String> {
        let mut argv = vec![self.own.display().to_string(), "child".into()];
        argv.extend(words.iter().map(ToString::to_string));
        argv
    }
}

/// Binds the calling thread, and what it starts from now on, to a core. A machine with fewer cores lets it be.
pub fn pin(core: usize) {
    let mut set = CpuSet::new();
    if set.set(core).is_ok() {
        // EINVAL: there is no such core.
        let _ = sched_setaffinity(Pid::from_raw(0), &set);
    }
}
