//! The end of children as something to wait for beside a socket.

use std::{io, os::fd::BorrowedFd};

use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::Errno,
};

/// Tells when a child has ended. While it exists SIGCHLD is blocked in this thread, and in what it starts.
#[derive(Debug)]
pub(super) struct Children(SignalFd);

impl Children {
    /// Children that have ended before are not told of.
    pub(super) fn watch() -> io::Result<Self> {
        let signals = SigSet::from(Signal::SIGCHLD);
        signals.thread_block()?;
        Ok(Self(SignalFd::with_flags(&signals, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)?))
    }

    /// Waits until there is something to read, or a child has ended: which of them.
    pub(super) fn or_readable(&self, other: BorrowedFd<'_>) -> io::Result<(bool, bool)> {
        let mut both = [PollFd::from_borrowed_fd(other, PollFlags::IN), PollFd::new(&self.0, PollFlags::IN)];
        loop {
            match poll(&mut both, None) {
                Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
                Ok(_) => break,
            }
        }
        // The end of file and errors too: reading tells.
        let [readable, ended] = both.map(|one| !one.revents().is_empty());
        if ended {
            // However many have ended, it is one signal or a few.
            while let Ok(Some(_)) = self.0.read_signal() {}
        }
        Ok((readable, ended))
    }
}

impl Drop for Children {
    fn drop(&mut self) {
        SigSet::from(Signal::SIGCHLD).thread_unblock().ok();
    }
}
