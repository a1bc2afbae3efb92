//! The keeper's end: a process that starts one command, waits, reaps, and kills what is left when it is told to or when
//! nobody is there any more to tell it.
//!
//! Plain blocking code on one thread, without a runtime: there is one such process for each command, so it is to cost
//! little to begin, to wait and to end.

use std::{
    collections::HashSet,
    io::{self, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process_group, set_child_subreaper,
        wait, waitid, waitpid,
    },
    stdio::stdin,
    termios::{Winsize, tcsetwinsize},
};

use super::{
    super::{
        command::CommandOptions,
        spawn::{SpawnError, explain, prepare},
        tree::{descendants, pause_for, table},
    },
    cgroup::Cgroup,
    children::Children,
    wire::{self, KILL, News, Order, RELEASE},
};

/// How long killing may take. What has not gone by then waits for a device, and goes when that answers.
const KILLING: Duration = Duration::from_secs(10);

/// Between two rounds of killing.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// How often to look whether all is over before the whole table of processes is read.
const QUICK_ROUNDS: u32 = 5;

/// Keeps one command; standard input is the socket to the server. `alone`: whether this process has one thread.
pub(super) fn keep(alone: bool) -> io::Result<()> {
    // In lists of processes; not found by those who mean the server when they type its name.
    rustix::thread::set_name(c"ws-keeper").ok();
    let me = getpid();
    // Before there is a child. Whatever loses its parent below us becomes ours.
    set_child_subreaper(Some(me))?;
    let Some((order, descriptors)) = receive()? else { return Ok(()) };
    let cgroup = if order.cgroup { Cgroup::enter(me).ok() } else { None };
    let started = start(me, &order, descriptors);
    // If we cannot go back, we would be killed with the others.
    let cgroup = cgroup.filter(|cgroup| cgroup.leave().is_ok());
    let leader = match started {
        Ok(leader) => leader,
        Err(error) => return tell(&News::Failed { text: error.to_string() }, &[]),
    };
    // Nothing is kept busy by our being here.
    std::env::set_current_dir("/").ok();
    // After the start: a command must not begin with a signal blocked.
    let children = Children::watch(alone)?;
    let mut family = Family { me, leader, exited: false };
    loop {
        family.look();
        let (word, _) = children.or_readable(stdin())?;
        if !word {
            continue;
        }
        let mut word = [0];
        match rustix::io::read(stdin(), &mut word) {
            Err(Errno::INTR) => {}
            Ok(1) if word == [KILL] => {
                cgroup.iter().for_each(Cgroup::kill);
                family.end_all();
            }
            Ok(1) if word == [RELEASE] => return Ok(()),
            // The server has dropped the session, or is no more.
            _ => {
                // Nobody asks for its number any more: the leader may be reaped, and with it the quick way is open.
                kill_process_group(leader, Signal::KILL).ok();
                cgroup.iter().for_each(Cgroup::kill);
                if !reap_all() {
                    family.end_all();
                }
                return Ok(());
            }
        }
    }
}

/// The order; `None`: the server has changed its mind.
fn receive() -> io::Result<Option<(Order, Vec<OwnedFd>)>> {
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        if wire::receive(stdin(), &mut bytes, &mut descriptors)? == 0 {
            return Ok(None);
        }
        if let Some(order) = wire::take(&mut bytes)? {
            return Ok(Some((order, descriptors)));
        }
    }
}

/// Waits while the server does not read.
pub(super) fn tell(news: &News, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    tell_by(stdin(), news, descriptors)
}

/// The same over a socket that is not standard input yet.
pub(super) fn tell_by(
    socket: BorrowedFd<'_>,
    news: &News,
    mut descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    let line = wire::line(news)?;
    let mut rest = &line[..];
    while !rest.is_empty() {
        rest = rest.get(wire::send(socket, rest, descriptors)?..).unwrap_or_default();
        descriptors = &[];
    }
    Ok(())
}

/// Starts the command and says so.
fn start(me: Pid, order: &Order, descriptors: Vec<OwnedFd>) -> Result<Pid, SpawnError> {
    let options = CommandOptions {
        env: order.env.clone(),
        clear_env: order.clear_env,
        cwd: order.cwd.clone().map(PathBuf::from),
        keeper: None,
    };
    let mut command = prepare(&order.argv, &options)?;
    let not_started = |error: &io::Error| explain(&order.argv, &options, error);
    let started = |pid| News::Started { pid, keeper: me.as_raw_nonzero().get() };
    let number = |child: &std::process::Child| i32::try_from(child.id()).unwrap_or_default();
    let (pid, told) = if let Some((columns, rows)) = order.terminal {
        let no_terminal =
            |error: pty_process::Error| SpawnError::new(format!("cannot open a terminal: {error}"));
        let (pty, pts) = pty_process::blocking::open().map_err(no_terminal)?;
        let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&pty, size).map_err(|error| no_terminal(error.into()))?;
        let child = pty_process::blocking::Command::from(command).spawn_borrowed(&pts);
        let pid = number(&child.map_err(|error| match error {
            pty_process::Error::Io(error) => not_started(&error),
            other => no_terminal(other),
        })?);
        (pid, tell(&started(pid), &[pty.as_fd(), pts.as_fd()]))
    } else {
        let mut descriptors = descriptors.into_iter();
        let [stdin, stdout, stderr] = order.streams.map(|wanted| {
            let descriptor = if wanted { descriptors.next() } else { None };
            descriptor.map_or_else(Stdio::null, Stdio::from)
        });
        command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        let pid = number(&command.spawn().map_err(|error| not_started(&error))?);
        // The end of a pipe shows only when all copies of the child's ends are closed.
        drop(command);
        (pid, tell(&started(pid), &[]))
    };
    if let Err(error) = told {
        // The server is gone already. The end of file says so too, and is acted upon.
        _ = writeln!(io::stderr(), "wsstream: {error}");
    }
    Pid::from_raw(pid).ok_or_else(|| SpawnError::new("the command has no process id".to_owned()))
}

/// What lives below this process.
struct Family {
    me: Pid,
    /// It is not reaped: its number, by which the server sends signals to its group, stays taken until we end.
    leader: Pid,
    /// The leader has, and the server knows.
    exited: bool,
}

impl Family {
    /// Reports the exit of the leader, once. Until then, reaps the orphans that have ended.
    fn look(&mut self) {
        while !self.exited {
            let now = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
            if let Ok(Some(status)) = waitid(WaitId::Pid(self.leader), now) {
                self.exited = true;
                let (code, signal) = (status.exit_status(), status.terminating_signal());
                // A server that is gone has closed the socket, which is seen next.
                tell(&News::Exited { code, signal }, &[]).ok();
                return;
            }
            match ended_child() {
                Ok(Some(ended)) if ended != self.leader => _ = waitpid(Some(ended), WaitOptions::NOHANG),
                // The leader, between the two looks: once more.
                Ok(Some(_)) => {}
                Ok(None) => return,
                // One that a real-time signal has ended, which has no name there and stands before all others.
                Err(_) => return reap(self.me, self.leader),
            }
        }
    }

    /// Kills everything below, in rounds: what is killed leaves its children to us, and what forks meanwhile is met in
    /// the next round.
    fn end_all(&mut self) {
        let started = Instant::now();
        let mut beyond = HashSet::new();
        loop {
            let mut living = descendants(self.me);
            living.retain(|process| !beyond.contains(&process.pid));
            if living.is_empty() || started.elapsed() > KILLING {
                return;
            }
            for process in living {
                // Another user's, by a set-user-id program: it is not ours to end.
                if process.signal(Signal::KILL).is_err() {
                    beyond.insert(process.pid);
                }
            }
            pause_for(PAUSE);
            self.look();
            // The leader stands before all who have ended after it: they are found one by one.
            reap(self.me, self.leader);
        }
    }
}

/// One of the children that have ended and were not reaped.
fn ended_child() -> nix::Result<Option<Pid>> {
    use nix::sys::wait::{Id, WaitPidFlag, waitid};
    let now = WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT | WaitPidFlag::WNOHANG;
    match waitid(Id::All, now) {
        Err(nix::errno::Errno::ECHILD) => Ok(None),
        ended => Ok(ended?.pid().and_then(|pid| Pid::from_raw(pid.as_raw()))),
    }
}

/// Reaps the children that have ended, except the leader.
fn reap(me: Pid, leader: Pid) {
    let mine = me.as_raw_nonzero().get();
    let ended =
        table().into_iter().filter(|child| !child.alive && child.parent == mine && child.pid != leader);
    for child in ended {
        waitpid(Some(child.pid), WaitOptions::NOHANG).ok();
    }
}

/// Reaps whatever is reaped within a moment; true when no child is left, and so no descendant: an orphan is a child.
fn reap_all() -> bool {
    for _ in 0..QUICK_ROUNDS {
        loop {
            // Any child: `waitpid` without a number looks at those of its own process group alone.
            match wait(WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Err(Errno::CHILD) => return true,
                _ => break,
            }
        }
        pause_for(PAUSE);
    }
    false
}
