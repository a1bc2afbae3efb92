//! A running example `cri_streaming`.

use std::{
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncBufReadExt as _, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{interop::proc, workspace::Workspace};

/// The container's main process: says back what it is told.
const MAIN: &str = "while read -r line; do echo \"got $line\"; done";

/// The process, killed when this is dropped.
pub(super) struct Runtime {
    child: Child,
    socket: PathBuf,
}

impl Runtime {
    /// Builds the example and starts it on a socket in the folder. The debug build, which `cargo xtask examples` has
    /// made: what is looked for here is no matter of speed.
    pub(super) async fn start(workspace: &Workspace, folder: &Path) -> Result<Self> {
        let words = ["build", "--package", "wsstream-examples", "--bin", "cri_streaming"];
        let built = workspace.cargo(&words).status().context("cannot run cargo")?;
        ensure!(built.success(), "building it ended with {built}");
        let socket = folder.join("cri.sock");
        let mut child = Command::new(workspace.target.join("debug/cri_streaming"))
            .arg(&socket)
            .args(["sh", "-c", MAIN])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("cannot start it")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        match timeout(Duration::from_secs(15), lines.next_line()).await {
            Ok(Ok(Some(_))) => Ok(Self { child, socket }),
            _ => bail!("it says nothing; {:?}", child.try_wait()),
        }
    }

    /// How crictl names it.
    pub(super) fn endpoint(&self) -> String {
        format!("unix://{}", self.socket.display())
    }

    /// What it holds now.
    pub(super) fn reading(&self) -> Result<proc::Reading> {
        proc::Reading::of(self.child.id().context("it has ended")?)
    }
}
