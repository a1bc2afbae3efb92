//! The process that keepers come from: one beside each server, with one thread and little memory.
//!
//! A keeper needs nothing of the server but a socket, and starting the whole program once more for it would cost far
//! more than everything that it does: `exec` and the relocation of a large program take about a millisecond of CPU, a
//! fork of this process a tenth of that.

use std::{
    io,
    io::Write as _,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::process::CommandExt as _,
    process::{Command, ExitCode, Stdio},
};

use nix::unistd::{ForkResult, fork};
use rustix::{
    io::Errno,
    net::{RecvFlags, recv},
    process::{Pid, WaitOptions, getpid, getppid, set_child_subreaper, wait},
    stdio::{dup2_stdin, stdin},
};

use super::{
    child,
    children::{Children, is_alone},
    wire::{self, News, SESSION},
};

/// What the process does that a server has started: keepers for its sessions, or, when it was started by another one
/// such, one keeper.
pub(super) fn run() -> ExitCode {
    match begin() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The null device, when a server started us.
            _ = writeln!(io::stderr(), "wsstream: this is started by the server, for its commands: {error}");
            ExitCode::from(2)
        }
    }
}

fn begin() -> io::Result<()> {
    ignore_signals();
    let mut first = [0];
    let read = loop {
        match recv(stdin(), &mut first, RecvFlags::PEEK) {
            Err(Errno::INTR) => {}
            read => break read?.0,
        }
    };
    let alone = is_alone();
    match (read, first) {
        (0, _) => Ok(()),
        (_, [SESSION]) => attend(alone),
        _ => child::keep(alone),
    }
}

/// Starts a keeper for each socket that comes, until the server is gone. Keepers see that by themselves. Only a process that
/// is `alone` in itself forks.
fn attend(alone: bool) -> io::Result<()> {
    rustix::thread::set_name(c"ws-zygote").ok();
    if getppid() == Some(Pid::INIT) {
        // The server is the first process of a container, and what a command left behind would become its child: it can
        // reap only the children that it knows. Here they are reaped with the keepers.
        set_child_subreaper(Some(getpid()))?;
    }
    let children = Children::watch(alone)?;
    loop {
        let (asked, ended) = children.or_readable(stdin())?;
        if ended {
            while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        }
        if !asked {
            continue;
        }
        let (mut word, mut sockets) = (Vec::new(), Vec::new());
        match wire::receive_some(stdin(), 1, &mut word, &mut sockets) {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        };
        // Without one: this process has no descriptor left, and whoever waits at the other end is told by its end.
        let Some(socket) = sockets.pop() else { continue };
        if !alone {
            execute(socket);
        } else if let Some(socket) = divide(socket) {
            drop(children);
            // In place of the zygote's own: no keeper may hold that open.
            dup2_stdin(&socket)?;
            drop(socket);
            return child::keep(alone);
        }
    }
}

/// Forks; in the child, gives the socket back.
#[allow(unsafe_code)]
fn divide(socket: OwnedFd) -> Option<OwnedFd> {
    // SAFETY: a fork is unsafe in a process with several threads, whose locks and half-made changes the child would
    // inherit without the threads that finish them. Here this is the only one (`is_alone`), and `attend` starts none.
    // An `exec` in its place, which is safe, costs ten times as much: see above.
    match unsafe { fork() } {
        Ok(ForkResult::Child) => return Some(socket),
        Ok(ForkResult::Parent { .. }) => {}
        Err(error) => refuse(&socket, &error.into()),
    }
    None
}

/// The keeper as a program of its own, where this process cannot be forked.
fn execute(socket: OwnedFd) {
    let spare = socket.try_clone();
    let mut command = Command::new("/proc/self/exe");
    command.arg0("wsstream-keeper").args(std::env::args_os().skip(1));
    let started = command.stdin(Stdio::from(socket)).spawn();
    if let (Err(error), Ok(socket)) = (started, spare) {
        refuse(&socket, &error);
    }
}

fn refuse(socket: &OwnedFd, error: &io::Error) {
    let text = wire::not_started(error);
    // A server that has gone needs no answer.
    child::tell_by(socket.as_fd(), &News::Failed { text }, &[]).ok();
}

/// A service manager sends SIGTERM to everybody at once. We go when the server does, and keepers not before their commands.
fn ignore_signals() {
    use tokio::signal::unix::{SignalKind, signal};
    // Handlers, not "ignore", which commands would inherit. They stay when the streams are dropped, also in forks.
    if let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_io().build() {
        let _inside = runtime.enter();
        for kind in
            [SignalKind::hangup(), SignalKind::interrupt(), SignalKind::quit(), SignalKind::terminate()]
        {
            drop(signal(kind));
        }
    }
}
