//! Who talks to the server in the room, from outside of where the server is.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use super::room::Room;
use crate::workspace::{Workspace, capture, is_executable, which};

/// How long something may take that takes a moment.
pub(super) const SOON: Duration = Duration::from_secs(30);

/// Our client, and kubectl where there is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client<'a> {
    pub(super) room: &'a Room,
    pub(super) program: &'a Path,
    pub(super) kubeconfig: &'a Path,
}

impl Client<'_> {
    /// `wsstream exec` in the pod of the sample configuration.
    pub(super) fn exec(&self, words: &[&str]) -> Command {
        let mut command = self.room.within(60, self.program);
        command
            .args(["exec", "--stdin", "--kubeconfig"])
            .arg(self.kubeconfig)
            .args(["host", "--"])
            .args(words);
        command
    }

    /// What a script prints in a session.
    pub(super) fn script(&self, script: &str) -> Result<String> {
        capture(&mut self.exec(&["sh", "-c", script]))
    }

    /// A session with a terminal has one.
    pub(super) fn terminal(&self) -> Result<()> {
        let typed = format!(
            "{} exec --stdin --tty --kubeconfig {} host -- tty",
            self.program.display(),
            self.kubeconfig.display()
        );
        let mut script = self.room.within(60, "script");
        let said = capture(script.args(["--quiet", "--return", "--command", &typed, "/dev/null"]))?;
        ensure!(said.contains("/dev/pts/"), "no terminal: {said:?}");
        Ok(())
    }

    /// The same by kubectl. Where this machine has none, `cargo xtask interop` has it for later runs.
    pub(super) fn kubectl(&self, workspace: &Workspace) -> Result<()> {
        let Some(kubectl) = kubectl(workspace) else {
            println!("no kubectl here: only our own client was tried");
            return Ok(());
        };
        let mut command = self.room.within(60, kubectl);
        command.arg("--kubeconfig").arg(self.kubeconfig).args(["exec", "host", "--", "echo", "it", "works"]);
        let said = capture(&mut command)?;
        ensure!(said == "it works\n", "kubectl printed {said:?}");
        Ok(())
    }

    /// The answer to a probe.
    pub(super) fn probe(&self, path: &str) -> Result<String> {
        let mut curl = self.room.within(60, "curl");
        // Who answers is what the other cases look at.
        curl.args(["--silent", "--show-error", "--insecure"]).arg(format!("https://127.0.0.1:7443{path}"));
        capture(&mut curl)
    }

    /// A session that ends well when it is told to.
    pub(super) fn patient(&self, folder: &Path) -> Result<Patient> {
        let output = folder.join("patient");
        let mut command = self.exec(&["sh", "-c", "echo begun; read -r line; echo $line"]);
        let file = File::create(&output)?;
        let session = command.stdin(Stdio::piped()).stdout(file.try_clone()?).stderr(file).spawn()?;
        let patient = Patient { session, output };
        until(SOON, "a session that has begun", || Ok(patient.said().contains("begun")))?;
        Ok(patient)
    }
}

/// A session that waits for a line.
#[derive(Debug)]
pub(super) struct Patient {
    session: Child,
    output: PathBuf,
}

impl Patient {
    fn said(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    /// Gives it the line; it has to say it and to end well.
    pub(super) fn finish(mut self) -> Result<()> {
        let mut stdin = self.session.stdin.take().context("no standard input")?;
        stdin.write_all(b"finished\n")?;
        drop(stdin);
        let status = self.session.wait()?;
        ensure!(status.success() && self.said().contains("finished"), "{status}: {:?}", self.said());
        Ok(())
    }
}

/// Waits for something that is to happen.
pub(super) fn until(limit: Duration, what: &str, mut happened: impl FnMut() -> Result<bool>) -> Result<()> {
    let started = Instant::now();
    loop {
        let last = match happened() {
            Ok(true) => return Ok(()),
            Ok(false) => String::new(),
            Err(error) => format!(": {error:#}"),
        };
        if started.elapsed() > limit {
            bail!("no {what} within {} s{last}", limit.as_secs());
        }
        // What is asked takes a process: often enough, and not all the time.
        std::thread::park_timeout(Duration::from_millis(50));
    }
}

fn kubectl(workspace: &Workspace) -> Option<PathBuf> {
    which("kubectl").or_else(|| {
        let mut built: Vec<_> = fs::read_dir(workspace.target.join("interop"))
            .ok()?
            .flatten()
            .map(|entry| entry.path())
            .collect();
        built.sort();
        let name =
            |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("kubectl."));
        built.into_iter().rev().find(|path| name(path) && is_executable(path))
    })
}
