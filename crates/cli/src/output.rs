//! Standard output and standard error: whole chunks, back-pressure, and an end when nobody reads.

use crate::failure::Failure;
use bytes::Bytes;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, write};
use rustix::stdio;
use std::io::{self, PipeWriter};
use std::os::fd::BorrowedFd;

/// One of our two outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Output {
    fn fd(self) -> BorrowedFd<'static> {
        match self {
            Self::Stdout => stdio::stdout(),
            Self::Stderr => stdio::stderr(),
        }
    }

    /// The name for messages.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Stdout => "standard output",
            Self::Stderr => "standard error",
        }
    }

    /// What a failed write means: a reader that went away ends us quietly, anything else is worth a line.
    pub(crate) fn failed(self, error: &io::Error) -> Failure {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Failure::broken_pipe()
        } else {
            Failure::local(format!("cannot write to {}: {error}", self.name()))
        }
    }

    /// Writes all of `bytes`; resolves when the kernel has them, so a slow reader slows the session down to its
    /// pace. Runs on the blocking pool: a stalled pager must not stop the pongs. A dropped future leaves the
    /// write running.
    pub(crate) async fn write(self, bytes: Bytes) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        tokio::task::spawn_blocking(move || write_all(self.fd(), &bytes)).await.map_err(io::Error::other)?
    }
}

/// Resolves when nobody reads standard output any more. Without it `wsstream logs -f … | head -1` would wait for
/// one more line before it notices. Never resolves where that cannot be told (files).
///
/// Not for exec: a command that prints nothing is not to be ended because of what it does not print.
pub(crate) async fn reader_gone() {
    let (gone, told) = tokio::sync::oneshot::channel::<()>();
    let watch = || -> io::Result<PipeWriter> {
        let (woken, wake) = io::pipe()?;
        std::thread::Builder::new().name("stdout".to_owned()).spawn(move || {
            // No event is asked for: POLLERR (a pipe without a reader) and POLLHUP are always reported.
            let mut fds = [
                PollFd::from_borrowed_fd(stdio::stdout(), PollFlags::empty()),
                PollFd::new(&woken, PollFlags::IN),
            ];
            while let Err(Errno::INTR) = poll(&mut fds, None) {}
            let [output, end] = &fds;
            if end.revents().is_empty() && output.revents().intersects(PollFlags::ERR | PollFlags::HUP) {
                let _ = gone.send(());
            }
        })?;
        Ok(wake)
    };
    // Held while we wait; dropped with this future, which ends the thread.
    let wake = watch();
    if let Err(error) = &wake {
        tracing::debug!(%error, "standard output is not watched");
    }
    if told.await.is_err() {
        std::future::pending::<()>().await;
    }
    drop(wake);
}

fn write_all(fd: BorrowedFd<'_>, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match write(fd, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(length) => bytes = bytes.get(length..).unwrap_or_default(),
            Err(Errno::INTR) => {}
            // Some programs leave a shared terminal or pipe non-blocking behind.
            Err(Errno::AGAIN) => {
                poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::OUT)], None)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
