//! The processes of one session: how they are signalled, how their end is seen, and why none is left behind.
//!
//! A command is started as the leader of a process group (with pipes) or of a session (with a terminal), so that its
//! children can be reached too. Two rules keep signals away from strangers: the leader is *seen* to exit before it is
//! reaped, because its number stays taken until then; and [`Group`] kills on drop unless it was released.

use std::{
    collections::HashSet,
    io,
    os::fd::{AsFd as _, OwnedFd},
    time::Duration,
};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, kill_process_group, pidfd_open, waitid,
};
use tokio::{
    io::{Interest, unix::AsyncFd},
    process::Child,
};

use super::{
    descriptor::{register, sleep},
    keeper::{Handle, Kept},
    tree::{Process, descendants, table},
};

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exit {
    /// 0 to 255, or 128 + n for signal n, as every shell counts.
    pub(crate) code: u8,
    /// The signal that ended it.
    pub(crate) signal: Option<i32>,
}

impl Exit {
    pub(super) fn new(code: Option<i32>, signal: Option<i32>) -> Self {
        // An exit status is eight bits and signals end at 64: both always fit. 255 is for a status that is neither.
        let code = code.or_else(|| signal.map(|n| n.saturating_add(128)));
        let code = code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
        Self { code, signal }
    }
}

/// How far a group reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reach {
    /// The process group of the leader.
    Group,
    /// Every process group of the leader's session: a shell with a terminal puts each job into one of its own.
    Session,
}

/// A leader and its group.
#[derive(Debug)]
pub(crate) struct Processes {
    // Dropped first: it kills, and the number of a leader that has been reaped may belong to a stranger.
    pub(crate) group: Group,
    pub(crate) leader: Leader,
}

impl Processes {
    /// Takes charge of a child that was started as the leader of its own group or session.
    pub(crate) fn of(child: Child, reach: Reach) -> io::Result<Self> {
        let id = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let leader = id.ok_or_else(|| io::Error::other("the child has no process id"))?;
        let group = Group { leader, reach, armed: true, keeper: None };
        Ok(Self { group, leader: Leader::Ours { child, pidfd: watch(leader) } })
    }

    /// The same for one that runs below a keeper.
    pub(crate) fn kept(kept: Kept, reach: Reach) -> Self {
        let group = Group { leader: kept.leader, reach, armed: true, keeper: Some(kept.handle()) };
        Self { group, leader: Leader::Kept(kept) }
    }
}

/// The first process.
#[derive(Debug)]
pub(crate) enum Leader {
    /// It is waited for and reaped here.
    Ours {
        child: Child,
        /// `None` on systems without pidfds; the leader is then seen to exit by reaping it, and the first rule above
        /// rests on process numbers not being reused within the seconds of a drain.
        pidfd: Option<AsyncFd<OwnedFd>>,
    },
    /// Its keeper does that.
    Kept(Kept),
}

impl Leader {
    /// Waits for the exit without reaping. Cancel-safe; the same answer every time.
    pub(crate) async fn exited(&mut self) -> io::Result<Exit> {
        let (child, pidfd) = match self {
            Self::Kept(kept) => return kept.exited().await,
            Self::Ours { child, pidfd } => (child, pidfd),
        };
        if let Some(pidfd) = pidfd {
            loop {
                let mut ready = pidfd.readable().await?;
                let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
                if let Some(status) = waitid(WaitId::PidFd(pidfd.get_ref().as_fd()), options)? {
                    return Ok(Exit::new(status.exit_status(), status.terminating_signal()));
                }
                ready.clear_ready();
            }
        }
        use std::os::unix::process::ExitStatusExt as _;
        let status = child.wait().await?;
        Ok(Exit::new(status.code(), status.signal()))
    }
}

/// Everything that the leader started and that did not leave its group. Kills what is left when dropped.
#[derive(Debug)]
pub(crate) struct Group {
    leader: Pid,
    reach: Reach,
    armed: bool,
    /// Where there is one, every descendant is within reach.
    keeper: Option<Handle>,
}

impl Group {
    /// Sends a signal to everybody within reach. Nobody there is no error.
    pub(crate) fn signal(&self, signal: Signal) {
        let leader = self.leader.as_raw_nonzero();
        if let Err(error) = kill_process_group(self.leader, signal)
            && error != rustix::io::Errno::SRCH
        {
            tracing::warn!(group = leader.get(), ?signal, %error, "cannot signal a process group");
        }
        if let (Some(keeper), Signal::KILL) = (&self.keeper, signal)
            && keeper.kill()
        {
            // It goes on until nobody is left; we might miss somebody.
            return;
        }
        if self.reach == Reach::Session || self.keeper.is_some() {
            // Not twice: to many programs a second signal means something else than the first.
            for member in self.members().iter().filter(|member| member.group != leader.get()) {
                if let Err(error) = member.signal(signal) {
                    tracing::warn!(pid = member.pid.as_raw_nonzero().get(), ?signal, %error, "cannot signal a process");
                }
            }
        }
    }

    /// Waits until no process is left alive, at most `limit`. Returns whether that is so. Cancel-safe.
    pub(crate) async fn gone(&self, limit: Duration) -> bool {
        let poll = async {
            // No event tells the end of processes that are not our children; they end soon or not at all.
            let mut pause = Duration::from_millis(5);
            while self.alive() {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(Duration::from_millis(250));
            }
        };
        tokio::select! {
            () = poll => true,
            () = sleep(limit) => false,
        }
    }

    /// The session ended in the ordinary way: background processes may live on, as they do after any shell.
    pub(crate) fn release(&mut self) {
        self.armed = false;
        if let Some(keeper) = &self.keeper {
            keeper.release();
        }
    }

    fn alive(&self) -> bool {
        if cfg!(target_os = "linux") {
            !self.members().is_empty()
        } else {
            rustix::process::test_kill_process_group(self.leader).is_ok()
        }
    }

    /// The live processes within reach. Empty where there is no `/proc`.
    fn members(&self) -> Vec<Process> {
        let leader = self.leader.as_raw_nonzero().get();
        let mut all = table();
        all.retain(|process| {
            let of = if self.reach == Reach::Group { process.group } else { process.session };
            process.alive && of == leader
        });
        if let Some(root) = self.keeper.as_ref().and_then(Handle::root) {
            let known: HashSet<_> = all.iter().map(|process| process.pid).collect();
            all.extend(descendants(root).into_iter().filter(|process| !known.contains(&process.pid)));
        }
        all
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if self.armed {
            self.signal(Signal::KILL);
        }
    }
}

fn watch(pid: Pid) -> Option<AsyncFd<OwnedFd>> {
    // ENOSYS before Linux 5.3, EMFILE when descriptors run out: the session can do without.
    let pidfd = pidfd_open(pid, PidfdFlags::empty()).ok()?;
    register(pidfd, Interest::READABLE).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(script: &str) -> (Leader, Group) {
        let mut command = tokio::process::Command::new("sh");
        let child = command.args(["-c", script]).process_group(0).spawn().unwrap();
        let Processes { leader, group } = Processes::of(child, Reach::Group).unwrap();
        (leader, group)
    }

    #[tokio::test]
    async fn exit_codes_and_signals_are_told_apart_and_repeat() {
        let (mut leader, group) = start("exit 7");
        for _ in 0..2 {
            assert_eq!(leader.exited().await.unwrap(), Exit { code: 7, signal: None });
        }
        drop(group);
        let (mut leader, _group) = start("kill -9 $$");
        assert_eq!(leader.exited().await.unwrap(), Exit { code: 137, signal: Some(9) });
    }

    #[tokio::test]
    async fn dropping_the_group_ends_the_grandchildren() {
        let (mut leader, group) = start("sleep 1000 & sleep 1000 & wait");
        while group.members().len() < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let again = Group { leader: group.leader, reach: Reach::Group, armed: false, keeper: None };
        drop(group);
        assert_eq!(leader.exited().await.unwrap().signal, Some(9));
        assert!(again.gone(Duration::from_secs(10)).await);
    }

    #[tokio::test]
    async fn a_released_group_lives_on() {
        let (mut leader, mut group) = start("sleep 1000 & exit 0");
        leader.exited().await.unwrap();
        let again = Group { leader: group.leader, reach: Reach::Group, armed: true, keeper: None };
        group.release();
        assert!(!again.gone(Duration::from_millis(50)).await);
    }
}
