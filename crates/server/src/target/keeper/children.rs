//! The end of children as something to wait for beside a socket.

use std::{fs, io, os::fd::BorrowedFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// How often to look where a signal cannot be relied upon.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 100_000_000 };

/// Whether this process has one thread. What cannot be found out counts as no.
pub(super) fn is_alone() -> bool {
    fs::read_dir("/proc/self/task").is_ok_and(|threads| threads.count() == 1)
}

/// Tells when a child has ended. While it exists SIGCHLD is blocked in this thread, and in what it starts.
#[derive(Debug)]
pub(super) struct Children {
    signals: SignalFd,
    /// Another thread, in which the signal is not blocked, may be given it, and throw it away.
    look: Option<Timespec>,
}

impl Children {
    /// Children that have ended before are not told of. `alone`: whether this process [has one thread](is_alone).
    pub(super) fn watch(alone: bool) -> io::Result<Self> {
        let signals = SigSet::from(Signal::SIGCHLD);
        signals.thread_block()?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?;
        Ok(Self { signals, look: if alone { None } else { Some(LOOK) } })
    }

    /// Waits until there is something to read, or a child may have ended: which of them.
    pub(super) fn or_readable(&self, other: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
        let mut both =
            [PollFd::from_borrowed_fd(other, PollFlags::IN), PollFd::new(&self.signals, PollFlags::IN)];
        loop {
            match poll(&mut both, self.look.as_ref()) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(0) => return Ok((false, true)),
                Ok(_) => break,
            }
        }
        // The end of file and errors too: reading tells.
        let [readable, ended] = both.map(|one| !one.revents().is_empty());
        if ended {
            // However many have ended, it is one signal or a few.
            while let Ok(Some(_)) = self.signals.read_signal() {}
        }
        Ok((readable, ended))
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        SigSet::from(Signal::SIGCHLD).thread_unblock().ok();
    }
}
