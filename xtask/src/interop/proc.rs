//! What Linux says about a process: the leak and orphan cases believe nothing else.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};

/// A reading of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    /// Open file descriptors.
    pub(super) descriptors: usize,
    /// Threads.
    pub(super) threads: usize,
    /// Resident set in KiB.
    pub(super) resident: u64,
    /// Direct children, zombies included.
    pub(super) children: usize,
}

impl Reading {
    /// Reads `/proc/PID`.
    pub(super) fn of(pid: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let status =
            fs::read_to_string(folder.join("status")).with_context(|| format!("process {pid} is gone"))?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
            .context("no VmRSS")?;
        Ok(Self {
            descriptors: fs::read_dir(folder.join("fd"))?.count(),
            threads: fs::read_dir(folder.join("task"))?.count(),
            resident,
            children: children(pid).len(),
        })
    }
}

/// The direct children of a process, zombies included.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    tasks
        .flatten()
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>())
        .collect()
}

/// Whether a process exists and is not a zombie.
pub(super) fn runs(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
        stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with(['Z', 'X']))
    })
}

/// Waits until a process is gone.
pub(super) async fn gone(pid: u32, limit: Duration) -> Result<Duration> {
    let started = Instant::now();
    while runs(pid) {
        if started.elapsed() > limit {
            bail!("process {pid} still runs after {:.1} s", limit.as_secs_f64());
        }
        sleep(Duration::from_millis(20)).await;
    }
    Ok(started.elapsed())
}
