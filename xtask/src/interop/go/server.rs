//! A running server of interop/go: cri-streaming behind the paths of an API server.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep},
};

use crate::interop::client::excerpt;

/// How soon it must serve.
const STARTS: Duration = Duration::from_secs(15);

/// The process, killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    kubeconfig: PathBuf,
}

impl Server {
    /// Starts the program and waits until it has written its kubeconfig, which it does once it accepts. Its files
    /// are called `name` in the folder.
    pub(crate) async fn start(program: &Path, folder: &Path, name: &str, args: &[&str]) -> Result<Self> {
        let at = |kind: &str| folder.join(format!("{name}.{kind}"));
        let (kubeconfig, log) = (at("kubeconfig"), at("log"));
        // One of an earlier server would look like this one's.
        let _ = fs::remove_file(&kubeconfig);
        let output = File::create(&log)?;
        let mut command = Command::new(program);
        command
            .arg("--kubeconfig")
            .arg(&kubeconfig)
            .args(args)
            // Kept open: the server ends when this program does, whatever ended it.
            .stdin(Stdio::piped())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let started = Instant::now();
        while !kubeconfig.is_file() {
            if let Some(status) = child.try_wait()? {
                bail!("Go's server ended with {status}:\n{}", excerpt(&fs::read(&log)?));
            }
            if started.elapsed() > STARTS {
                bail!("no kubeconfig after {} s:\n{}", STARTS.as_secs(), excerpt(&fs::read(&log)?));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { child, kubeconfig })
    }

    /// How a client reaches it.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// SIGKILL; returns when it is dead.
    pub(crate) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing Go's server")
    }
}
