//! Who is alive and who descends from whom, as `/proc` tells it; and signals that never hit a stranger.
//!
//! A number read from `/proc` may belong to somebody else a moment later. A process is therefore signalled through a
//! pidfd that is opened first and checked after: it still began at the time that was read with its number.

use std::{collections::HashMap, time::Duration};

use rustix::{
    event::{Timespec, poll},
    io::Errno,
    process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal},
};

/// One line of the table of processes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) pid: Pid,
    /// A zombie has ended.
    pub(crate) alive: bool,
    pub(crate) parent: i32,
    pub(crate) group: i32,
    pub(crate) session: i32,
    /// When it began, in ticks since boot: with the number, its identity.
    began: u64,
}

impl Process {
    /// Reads `pid (name) state ppid pgrp session …` of proc(5); the name may hold spaces and parentheses.
    fn parse(pid: Pid, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let alive = !matches!(fields.next()?, "Z" | "X");
        let mut number = || fields.next()?.parse().ok();
        let (parent, group, session) = (number()?, number()?, number()?);
        // Field 22; session is field 6.
        let began = fields.nth(15)?.parse().ok()?;
        Some(Self { pid, alive, parent, group, session, began })
    }

    /// What is there under this number now.
    fn read(pid: Pid) -> Option<Self> {
        // It may end while it is looked at.
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
        Self::parse(pid, &stat)
    }

    /// Sends a signal to this very process. One that has ended is no error.
    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        let sent = match pidfd_open(self.pid, PidfdFlags::empty()) {
            Ok(pidfd) => match Self::read(self.pid) {
                Some(now) if now.began == self.began => pidfd_send_signal(&pidfd, signal),
                _ => return Ok(()),
            },
            // Before Linux 5.3, or out of descriptors: as every kill(1) does it.
            Err(Errno::NOSYS | Errno::MFILE | Errno::NFILE) => kill_process(self.pid, signal),
            Err(error) => Err(error),
        };
        match sent {
            Err(Errno::SRCH) => Ok(()),
            other => other,
        }
    }
}

/// Waits without a runtime, for the end of processes that has no event.
pub(crate) fn pause_for(time: Duration) {
    if let Ok(time) = Timespec::try_from(time) {
        poll(&mut [], Some(&time)).ok();
    }
}

/// All processes that can be seen. Empty where there is no `/proc`.
pub(crate) fn table() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter_map(Pid::from_raw).filter_map(Process::read).collect()
}

/// How often to look again when a process on the way up has just ended.
const LOOKS: u32 = 8;

/// Whether a process of this user descends from another, also by way of subreapers. Who cannot be looked at does: this is
/// asked to keep somebody out.
fn descends(pid: i32, from: i32) -> bool {
    descends_by(pid, from, |pid| Some(Process::read(Pid::from_raw(pid)?)?.parent))
}

/// Whether a peer that runs as this user is a command of a session, and not its user. Outside of our namespace of processes it
/// has no number; and what we start is inside.
pub(crate) fn is_a_command(peer: Option<i32>) -> bool {
    let Ok(server) = i32::try_from(std::process::id()) else { return false };
    peer.filter(|pid| *pid > 0).is_some_and(|pid| pid != server && descends(pid, server))
}

fn descends_by(pid: i32, from: i32, parent: impl Fn(i32) -> Option<i32>) -> bool {
    'look: for _ in 0..LOOKS {
        let Some(mut above) = parent(pid) else { return true };
        let mut at = pid;
        loop {
            if above == from {
                return true;
            }
            if above <= 1 {
                return false;
            }
            match parent(above) {
                Some(next) => (at, above) = (above, next),
                // Another user's, where /proc hides those: not below us, who would be seen.
                None if parent(at) == Some(above) => return false,
                // It has ended, and its children have another parent.
                None => continue 'look,
            }
        }
    }
    true
}

/// The live descendants of a process, itself not included.
pub(crate) fn descendants(root: Pid) -> Vec<Process> {
    below(root, &table())
}

fn below(root: Pid, table: &[Process]) -> Vec<Process> {
    let mut children: HashMap<i32, Vec<&Process>> = HashMap::new();
    for process in table {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut open = vec![root.as_raw_nonzero().get()];
    while let Some(parent) = open.pop() {
        // Removed, so that no table, however torn between two reads, makes a circle.
        for child in children.remove(&parent).unwrap_or_default() {
            open.push(child.pid.as_raw_nonzero().get());
            found.extend(child.alive.then_some(*child));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pid(number: i32) -> Pid {
        Pid::from_raw(number).unwrap()
    }

    fn line(number: i32, state: &str, parent: i32) -> Process {
        let zeros = "0 ".repeat(15);
        Process::parse(pid(number), &format!("{number} (a) Z 1 7 9 ) {state} {parent} 7 9 {zeros}77 0"))
            .unwrap()
    }

    #[test]
    fn a_line_of_proc_is_read_even_with_a_hostile_name() {
        let read = line(42, "S", 1);
        assert_eq!((read.parent, read.group, read.session, read.began), (1, 7, 9, 77));
        assert!(read.alive && !line(42, "Z", 1).alive);
        assert_eq!(Process::parse(pid(42), "42 (a) S 1 7"), None);
        assert_eq!(Process::parse(pid(42), ""), None);
        assert!(Process::read(pid(i32::try_from(std::process::id()).unwrap())).unwrap().alive);
    }

    #[test]
    fn descendants_are_found_at_any_depth_and_circles_end() {
        let table = [line(2, "S", 1), line(3, "Z", 2), line(4, "S", 3), line(5, "S", 6), line(6, "S", 5)];
        let numbers = |root| {
            let mut found: Vec<_> =
                below(pid(root), &table).iter().map(|p| p.pid.as_raw_nonzero().get()).collect();
            found.sort_unstable();
            found
        };
        assert_eq!(numbers(1), [2, 4]);
        assert_eq!(numbers(4), [0; 0]);
        assert_eq!(numbers(5), [5, 6]);
    }

    #[test]
    fn who_descends_is_found_also_while_processes_end() {
        let own = i32::try_from(std::process::id()).unwrap();
        let above = Process::read(Pid::from_raw(own).unwrap()).unwrap().parent;
        assert!(descends(own, above) && !descends(above, own));

        let chain = |pid: i32| {
            [(9, 8), (8, 7), (7, 5), (5, 1)].into_iter().find(|(of, _)| *of == pid).map(|(_, p)| p)
        };
        assert!(descends_by(9, 5, chain) && descends_by(9, 8, chain) && descends_by(9, 1, chain));
        assert!(!descends_by(9, 6, chain));
        assert!(descends_by(3, 6, chain), "who cannot be seen is not let in");
        // 8 ends while it is looked at; its child goes to the subreaper 7.
        let looks = std::cell::Cell::new(0);
        let ending = |pid: i32| match pid {
            9 => Some(if looks.replace(looks.get() + 1) == 0 { 8 } else { 7 }),
            8 => None,
            other => chain(other),
        };
        assert!(descends_by(9, 5, ending));
        // 5 is hidden, and stays what it is.
        let hidden = |pid: i32| chain(pid).filter(|_| pid != 5);
        assert!(!descends_by(9, 4, hidden));
    }

    #[test]
    fn a_number_that_has_changed_hands_is_left_alone() {
        let mut child = std::process::Command::new("sleep").arg("1000").spawn().unwrap();
        let number = pid(i32::try_from(child.id()).unwrap());
        let real = Process::read(number).unwrap();
        Process { began: real.began + 1, ..real }.signal(Signal::KILL).unwrap();
        assert!(child.try_wait().unwrap().is_none());
        real.signal(Signal::KILL).unwrap();
        child.wait().unwrap();
        real.signal(Signal::KILL).unwrap();
    }
}
