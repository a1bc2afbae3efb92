//! Namespaces in which another init and containers can be started without a trace on this machine: processes, network, mounts,
//! `/run`, and a control group of version 2 of its own, whatever versions this machine has mounted.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::interop::proc::children;

/// Takes the name of the group. Mounts of this machine are left alone: they are private from the first line on. The second shell
/// is process 1 inside; it waits until its standard input ends or it is killed, and everything inside ends with it.
const MAKE: &str = r#"
mount --make-rprivate /
umount --recursive /sys/fs/cgroup 2> /dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$1"
echo 0 > "/sys/fs/cgroup/$1/cgroup.procs"
exec unshare --mount --cgroup --net --uts --ipc --pid --fork --kill-child --mount-proc sh -euc '
    umount /sys/fs/cgroup
    mount -t sysfs sysfs /sys
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    mkdir /sys/fs/cgroup/init
    echo 0 > /sys/fs/cgroup/init/cgroup.procs
    mount -t tmpfs -o mode=755 tmpfs /run
    ip link set lo up
    ip link add name nest0 type bridge
    ip link add name nest1 type veth peer name nest2
    ip link del nest0
    ip link del nest1
    echo ready
    read -r end || true
'
"#;

/// Removes the group of a room that has gone, with all that is in it.
const CLEAR: &str = r#"
mount --make-rprivate /
umount --recursive /sys/fs/cgroup 2> /dev/null || true
mount -t cgroup2 cgroup2 /sys/fs/cgroup
find "/sys/fs/cgroup/$1" -depth -type d -exec rmdir {} +
"#;

/// Moves itself into a group below the room's and becomes the command: a group that has processes of its own can hand no
/// controllers down.
const ENTER: &str =
    r#"mkdir -p "/sys/fs/cgroup/$1"; echo 0 > "/sys/fs/cgroup/$1/cgroup.procs"; shift; exec "$@""#;

/// One such. Dropped, it is gone with all that was started in it.
#[derive(Debug)]
pub(super) struct Room {
    holder: Child,
    init: u32,
    group: String,
}

impl Room {
    /// # Errors
    /// What this machine refuses.
    pub(super) fn open() -> Result<Self> {
        ensure!(
            rustix::process::geteuid().is_root(),
            "only root can make namespaces with mounts of their own"
        );
        let group = format!("xtask-dist-{}", std::process::id());
        let mut holder = shell(MAKE, &group).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut word = String::new();
        BufReader::new(holder.stdout.take().context("no standard output")?).read_line(&mut word)?;
        let init = children(holder.id()).first().copied();
        // From here on the end of the value clears up.
        let room = Self { holder, init: init.unwrap_or_default(), group };
        if word.trim() == "ready" && init.is_some() { Ok(room) } else { room.refused() }
    }

    fn refused(mut self) -> Result<Self> {
        let mut said = String::new();
        if let Some(mut stderr) = self.holder.stderr.take() {
            // What holds the other end has ended, or ends by this.
            drop(self.holder.stdin.take());
            stderr.read_to_string(&mut said)?;
        }
        bail!("this machine lets nobody nest: {}", said.trim())
    }

    /// A command inside, with this machine's files, in a group of that name.
    pub(super) fn command(&self, group: &str, program: impl AsRef<Path>) -> Command {
        let mut command = enter(self.init);
        command.args(["sh", "-euc", ENTER, "enter", group]).arg(program.as_ref());
        command
    }

    /// The same, killed when it is not done after so many seconds.
    pub(super) fn within(&self, seconds: u32, program: impl AsRef<Path>) -> Command {
        let mut command = self.command("visitors", "timeout");
        command.arg("--kill-after=5").arg(seconds.to_string()).arg(program.as_ref());
        command
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.holder.kill().ok();
        self.holder.wait().ok();
        // The last of them may be about to go.
        for _ in 0..50 {
            let cleared = shell(CLEAR, &self.group).stdin(Stdio::null()).stdout(Stdio::null()).output();
            if cleared.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::yield_now();
        }
    }
}

fn shell(script: &str, group: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-euc", script, "room", group]).stderr(Stdio::piped());
    command
}

/// A command in all namespaces of a process; files are those of the process.
pub(super) fn enter(process: u32) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--target"]);
    command.arg(process.to_string()).stdin(Stdio::null());
    command
}

/// What a process is called, to tell which of several it is.
pub(super) fn name(process: u32) -> String {
    fs::read_to_string(format!("/proc/{process}/comm")).unwrap_or_default().trim().to_owned()
}
