//! The keeper's end: a process that starts one command, waits, reaps, and kills what is left when it is told to or when
//! nobody is there any more to tell it.
//!
//! Plain blocking code on two threads: this one reads what the server says, the other one waits for children.

use std::{
    collections::HashSet,
    io::{self, Read as _, Write as _},
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    os::unix::{net::UnixStream, process::CommandExt as _},
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, WaitOptions, getpid, kill_process_group, set_child_subreaper,
        waitid, waitpid,
    },
    termios::{Winsize, tcsetwinsize},
};

use super::{
    super::{
        command::CommandOptions,
        spawn::{SpawnError, explain, prepare},
        tree::{descendants, pause_for, table},
    },
    cgroup::Cgroup,
    wire::{self, KILL, News, Order, RELEASE},
};

/// How long killing may take. What has not gone by then waits for a device, and goes when that answers.
const KILLING: Duration = Duration::from_secs(10);

/// Between two rounds of killing.
pub(super) const PAUSE: Duration = Duration::from_millis(2);

/// How often to look whether all is over before the whole table of processes is read.
const QUICK_ROUNDS: u32 = 5;

/// The thread that waits needs next to nothing.
const STACK: usize = 128 * 1024;

pub(super) fn run() -> ExitCode {
    match keep() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The null device, when a server started us.
            _ = writeln!(io::stderr(), "wsstream: this is started by the server, for each command: {error}");
            ExitCode::from(2)
        }
    }
}

fn keep() -> io::Result<()> {
    // In lists of processes; not found by those who mean the server when they type its name.
    rustix::thread::set_name(c"ws-keeper").ok();
    let me = getpid();
    // Before there is a child. Whatever loses its parent below us becomes ours.
    set_child_subreaper(Some(me))?;
    let mut socket = UnixStream::from(rustix::stdio::stdin().try_clone_to_owned()?);
    let Some((order, descriptors)) = receive(&socket)? else { return Ok(()) };
    let cgroup = if order.cgroup { Cgroup::enter(me).ok() } else { None };
    let started = start(&order, descriptors, &socket);
    // If we cannot go back, we would be killed with the others.
    let cgroup = cgroup.filter(|cgroup| cgroup.leave().is_ok());
    let leader = match started {
        Ok(leader) => leader,
        Err(error) => return tell(&socket, &News::Failed { text: error.to_string() }, &[]),
    };
    // Nothing is kept busy by our being here.
    std::env::set_current_dir("/").ok();
    ignore_signals();
    let news = socket.try_clone()?;
    std::thread::Builder::new().stack_size(STACK).spawn(move || wait(me, leader, &news))?;
    let mut word = [0];
    loop {
        match socket.read(&mut word) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Ok(1) if word == [KILL] => {
                cgroup.iter().for_each(Cgroup::kill);
                end_all(me, leader);
            }
            Ok(1) if word == [RELEASE] => return Ok(()),
            // The server has dropped the session, or is no more.
            _ => {
                // Nobody asks for its number any more: the leader may be reaped, and with it the quick way is open.
                kill_process_group(leader, Signal::KILL).ok();
                cgroup.iter().for_each(Cgroup::kill);
                if !reap_all() {
                    end_all(me, leader);
                }
                return Ok(());
            }
        }
    }
}

/// The order; `None`: the server has changed its mind.
fn receive(socket: &UnixStream) -> io::Result<Option<(Order, Vec<OwnedFd>)>> {
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    loop {
        if wire::receive(socket, &mut bytes, &mut descriptors)? == 0 {
            return Ok(None);
        }
        if let Some(order) = wire::take(&mut bytes)? {
            return Ok(Some((order, descriptors)));
        }
    }
}

fn tell(mut socket: &UnixStream, news: &News, descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
    let line = wire::line(news)?;
    let sent = wire::send(socket, &line, descriptors)?;
    socket.write_all(line.get(sent..).unwrap_or_default())
}

/// Starts the command and says so.
fn start(order: &Order, descriptors: Vec<OwnedFd>, socket: &UnixStream) -> Result<Pid, SpawnError> {
    let options = CommandOptions {
        env: order.env.clone(),
        clear_env: order.clear_env,
        cwd: order.cwd.clone().map(PathBuf::from),
        keeper: None,
    };
    let mut command = prepare(&order.argv, &options)?;
    let not_started = |error: &io::Error| explain(&order.argv, &options, error);
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
        (pid, tell(socket, &News::Started { pid }, &[pty.as_fd(), pts.as_fd()]))
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
        (pid, tell(socket, &News::Started { pid }, &[]))
    };
    if let Err(error) = told {
        // The server is gone already. The end of file says so too, and is acted upon.
        _ = writeln!(io::stderr(), "wsstream: {error}");
    }
    Pid::from_raw(pid).ok_or_else(|| SpawnError::new("the command has no process id".to_owned()))
}

/// A service manager sends SIGTERM to everybody at once. We go when the server does, and not before the command.
fn ignore_signals() {
    use tokio::signal::unix::{SignalKind, signal};
    // Handlers, not "ignore", and installed after the command was started. They stay when the streams are dropped.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
        let _inside = runtime.enter();
        for kind in
            [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()]
        {
            drop(signal(kind));
        }
    }
}

/// Reaps orphans for as long as the leader lives, and reports its exit. It is not reaped itself: its number, by which
/// the server sends signals to its group, stays taken until we end.
fn wait(me: Pid, leader: Pid, news: &UnixStream) {
    loop {
        match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
            Ok(_) => {}
            Err(Errno::INTR) => continue,
            // There are no children: cannot be while the leader is one.
            Err(_) => return,
        }
        let now = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        if let Ok(Some(status)) = waitid(WaitId::Pid(leader), now) {
            let news_of = News::Exited { code: status.exit_status(), signal: status.terminating_signal() };
            // A server that is gone has closed the socket, and the other thread knows.
            tell(news, &news_of, &[]).ok();
            return;
        }
        if reap(me, leader) == 0 {
            // Where `/proc` shows nothing: do not spin.
            pause_for(PAUSE);
        }
    }
}

/// Reaps the children that have ended, except the leader; how many.
fn reap(me: Pid, leader: Pid) -> usize {
    let mine = me.as_raw_nonzero().get();
    let ended =
        table().into_iter().filter(|child| !child.alive && child.parent == mine && child.pid != leader);
    ended.filter(|child| matches!(waitpid(Some(child.pid), WaitOptions::NOHANG), Ok(Some(_)))).count()
}

/// Reaps whatever is reaped within a moment; true when no child is left, and so no descendant: an orphan is a child.
fn reap_all() -> bool {
    for _ in 0..QUICK_ROUNDS {
        loop {
            match waitpid(None, WaitOptions::NOHANG) {
                Ok(Some(_)) => {}
                Err(Errno::CHILD) => return true,
                _ => break,
            }
        }
        pause_for(PAUSE);
    }
    false
}

/// Kills everything below, in rounds: what is killed leaves its children to us, and what forks meanwhile is met in the
/// next round.
fn end_all(me: Pid, leader: Pid) {
    let started = Instant::now();
    let mut beyond = HashSet::new();
    loop {
        let mut living = descendants(me);
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
        reap(me, leader);
    }
}
