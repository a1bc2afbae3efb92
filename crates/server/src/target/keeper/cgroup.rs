//! A control group (v2) for one command, where this user may make one: killing it is one write that nothing escapes, not
//! even what forks faster than it can be killed, or has another user's rights.
//!
//! It is made inside the group that the keeper is in, enables no controllers, and so changes no limits and no accounting.
//! The keeper is the one process that enters it, starts the command there, and leaves again. Every step may be refused
//! (no such file system, no rights, another kind of group): then the keeper does without.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustix::process::Pid;

use super::super::tree::pause_for;

/// How often to try to remove the group: processes that were killed are in it until they have gone.
const REMOVALS: u32 = 50;

/// The group of one command. Dropped, it is removed, and what is still in it goes back to where the keeper is.
#[derive(Debug)]
pub(super) struct Cgroup {
    home: PathBuf,
    leaf: PathBuf,
}

impl Cgroup {
    /// Makes the group of a keeper and enters it.
    pub(super) fn enter(keeper: Pid) -> io::Result<Self> {
        let home = home()?;
        tidy(&home);
        let leaf = home.join(name(keeper));
        fs::create_dir(&leaf)?;
        let group = Self { home, leaf };
        // Before Linux 5.14 there is no such file.
        fs::metadata(group.leaf.join("cgroup.kill"))?;
        fs::write(group.leaf.join("cgroup.procs"), "0")?;
        Ok(group)
    }

    /// Goes back; children that were started stay.
    pub(super) fn leave(&self) -> io::Result<()> {
        fs::write(self.home.join("cgroup.procs"), "0")
    }

    /// Kills all that is in it.
    pub(super) fn kill(&self) {
        fs::write(self.leaf.join("cgroup.kill"), "1").ok();
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for _ in 0..REMOVALS {
            if fs::remove_dir(&self.leaf).is_ok() {
                return;
            }
            let members = fs::read_to_string(self.leaf.join("cgroup.procs")).unwrap_or_default();
            for pid in members.lines() {
                // It may end at this moment.
                fs::write(self.home.join("cgroup.procs"), pid).ok();
            }
            pause_for(super::child::PAUSE);
        }
    }
}

/// What a keeper cannot do any more that was killed itself: kills what is in its group, if it had one.
pub(super) fn kill_abandoned(keeper: Pid) {
    if let Ok(home) = home() {
        fs::write(home.join(name(keeper)).join("cgroup.kill"), "1").ok();
    }
}

/// Removes the groups that killed keepers have left, once they are empty.
fn tidy(home: &Path) {
    for entry in fs::read_dir(home).into_iter().flatten().flatten() {
        let keeper =
            entry.file_name().to_str().and_then(|name| name.strip_prefix(PREFIX)?.parse::<u32>().ok());
        if keeper.is_some_and(|keeper| !Path::new("/proc").join(keeper.to_string()).exists()) {
            fs::remove_dir(entry.path()).ok();
        }
    }
}

const PREFIX: &str = "wsstream-";

fn name(keeper: Pid) -> String {
    format!("{PREFIX}{}", keeper.as_raw_nonzero())
}

fn home() -> io::Result<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let groups = fs::read_to_string("/proc/self/cgroup")?;
    locate(&mounts, &groups).ok_or_else(|| io::ErrorKind::Unsupported.into())
}

/// The directory of this process's own group, from `/proc/self/mountinfo` and `/proc/self/cgroup`.
fn locate(mounts: &str, groups: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    mounts.lines().find_map(|line| {
        // `id parent major:minor root mountpoint options … - type source options`, proc(5).
        let (fields, kind) = line.split_once(" - ")?;
        kind.starts_with("cgroup2 ").then_some(())?;
        let mut fields = fields.split(' ').skip(3);
        let (root, point) = (fields.next()?, fields.next()?);
        let inside = Path::new(path).strip_prefix(root).ok()?;
        // A name with spaces is escaped there; such a place is not worth the trouble.
        (!point.contains('\\')).then(|| Path::new(point).join(inside))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_own_group_is_found_among_the_mounts() {
        let unified = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate\n";
        let found =
            |mounts: &str, groups: &str| locate(mounts, groups).map(|path| path.display().to_string());
        let service = "0::/system.slice/wsstream.service\n";
        assert_eq!(found(unified, service).as_deref(), Some("/sys/fs/cgroup/system.slice/wsstream.service"));
        let hybrid = "31 23 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      32 23 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(hybrid, "4:cpu:/a\n0::/\n").as_deref(), Some("/sys/fs/cgroup/unified/"));
        let bind = "33 23 0:28 /user.slice /cg rw - cgroup2 cgroup2 rw\n";
        assert_eq!(found(bind, "0::/user.slice/u\n").as_deref(), Some("/cg/u"));
        assert_eq!(found(bind, "0::/elsewhere\n"), None);
        assert_eq!(found(unified, "4:cpu:/a\n"), None);
        assert_eq!(found("", service), None);
    }
}
