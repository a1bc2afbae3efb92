//! A systemd as process 1, in a tree of its own.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{
    client::{SOON, until},
    room::{Room, enter, name},
    tree,
};
use crate::{
    interop::proc::children,
    workspace::{Workspace, capture},
};

/// One that has been booted. It ends with its room at the latest.
#[derive(Debug)]
pub(super) struct Machine {
    /// Who waits for it.
    nspawn: Child,
    /// Its process 1, by the number that it has outside.
    init: u32,
    folder: TempDir,
}

impl Machine {
    /// Boots the tree, with these things in `/root/source`.
    pub(super) fn boot(workspace: &Workspace, room: &Room, program: &Path, packed: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("machine-").tempdir_in(workspace.target.join("dist"))?;
        let root = folder.path().join("root");
        fs::create_dir(&root)?;
        tree::unpack(packed, &root)?;
        let source = root.join("root/source");
        fs::create_dir_all(source.join("target/release"))?;
        fs::copy(program, source.join("target/release/wsstream"))?;
        capture(Command::new("cp").arg("-R").arg(workspace.root.join("dist")).arg(&source))?;
        let console = File::create(folder.path().join("console"))?;
        let mut command = room.command("machine", "systemd-nspawn");
        command.arg("--directory").arg(&root).args([
            "--machine=wsstream",
            "--boot",
            "--console=pipe",
            "--quiet",
        ]);
        // Nothing of this machine's own systemd, which may not be there.
        command.args(["--register=no", "--keep-unit", "--settings=no", "--link-journal=no"]);
        // The network is the room's, as are its addresses.
        command.args(["--resolv-conf=off", "--timezone=off"]);
        let nspawn = command.stdout(console.try_clone()?).stderr(console).spawn()?;
        let mut machine = Self { nspawn, init: 0, folder };
        machine.wait().with_context(|| machine.console())?;
        Ok(machine)
    }

    fn wait(&mut self) -> Result<()> {
        until(SOON, "process 1", || {
            ensure!(self.nspawn.try_wait()?.is_none(), "systemd-nspawn has ended");
            let inside = children(self.nspawn.id()).into_iter().flat_map(children);
            let init = inside.into_iter().find(|process| name(*process) == "systemd");
            self.init = init.unwrap_or_default();
            Ok(init.is_some())
        })?;
        // Before that there is no bus to wait on.
        until(SOON, "bus", || Ok(self.run("systemctl is-active dbus.service")?.contains("active")))?;
        let state = self.run("systemctl is-system-running --wait || true")?;
        ensure!(state.trim() == "running", "{state}{}", self.run("systemctl --failed --no-pager")?);
        Ok(())
    }

    /// What was printed on the console.
    pub(super) fn console(&self) -> String {
        fs::read_to_string(self.folder.path().join("console")).unwrap_or_default()
    }

    /// Runs a script of its shell as root; what it prints, errors too.
    pub(super) fn run(&self, script: &str) -> Result<String> {
        let output = self.shell(script).output().context("cannot run nsenter")?;
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(output.status.success(), "{script}\nended with {}:\n{said}", output.status);
        Ok(said)
    }

    /// The same as a command.
    pub(super) fn shell(&self, script: &str) -> Command {
        let mut command = enter(self.init);
        let script = format!("exec 2>&1; {script}");
        command.args(["timeout", "--kill-after=5", "120", "bash", "-euo", "pipefail", "-c", &script]);
        command.env_clear().env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
        command.env("LANG", "C.UTF-8").env("HOME", "/root").env("SYSTEMD_COLORS", "0");
        command.stdin(Stdio::null());
        command
    }

    /// A property of a unit.
    pub(super) fn property(&self, unit: &str, name: &str) -> Result<String> {
        Ok(self.run(&format!("systemctl show --property {name} --value {unit}"))?.trim().to_owned())
    }

    /// Where its own things can be left.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// A file of it, from outside.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join("root").join(path.trim_start_matches('/'))
    }

    /// Turns it off, and waits.
    pub(super) fn power_off(mut self) -> Result<()> {
        self.run("systemctl poweroff --no-wall")?;
        until(SOON, "end of the machine", || Ok(self.nspawn.try_wait()?.is_some()))?;
        let status = self.nspawn.wait()?;
        ensure!(status.success(), "it ended with {status}:\n{}", self.console());
        Ok(())
    }
}
