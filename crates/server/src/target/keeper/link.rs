//! The server's end: starting a keeper, and what it reports.

use std::{
    fmt, io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    sync::Arc,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    net::SendFlags,
    process::Pid,
};
use tokio::io::{Interest, unix::AsyncFd};

use super::{
    super::{descriptor::register, group::Exit, spawn::SpawnError, tree::table},
    Keeper, cgroup,
    wire::{self, KILL, News, Order, RELEASE},
};

/// A command that runs below a keeper.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The command itself.
    pub(crate) leader: Pid,
    keeper: Pid,
    reader: Reader,
    exit: Option<Exit>,
}

/// For signals: dropped with everything else, it is the end of file that the keeper waits for.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    keeper: Pid,
    socket: Arc<AsyncFd<OwnedFd>>,
}

impl Handle {
    /// Has everything below the keeper killed; false when the keeper is gone, killed by somebody.
    pub(crate) fn kill(&self) -> bool {
        let heard = self.say(KILL);
        // Not where another process has the number by now, which may be a keeper too.
        if !heard && !table().iter().any(|other| other.alive && other.pid == self.keeper) {
            cgroup::kill_abandoned(self.keeper);
        }
        heard
    }

    /// The root of the tree, not itself part of it; `None` when it has gone: its number may be somebody else's by now.
    pub(crate) fn root(&self) -> Option<Pid> {
        // Nobody else has the other end.
        let mut socket = [PollFd::new(self.socket.get_ref(), PollFlags::empty())];
        let now = Timespec { tv_sec: 0, tv_nsec: 0 };
        let gone = poll(&mut socket, Some(&now)).is_ok() && socket[0].revents().contains(PollFlags::HUP);
        (!gone).then_some(self.keeper)
    }

    /// Lets everything below the keeper live on without it.
    pub(crate) fn release(&self) {
        self.say(RELEASE);
    }

    fn say(&self, word: u8) -> bool {
        // Straight to the kernel, which always has room for a byte here: this is also called while things are dropped.
        let said = rustix::net::send(self.socket.get_ref(), &[word], SendFlags::NOSIGNAL);
        if let Err(error) = &said {
            tracing::warn!(%error, keeper = self.keeper.as_raw_nonzero().get(), "a keeper is gone");
        }
        said.is_ok()
    }
}

/// The reading side.
#[derive(Debug)]
struct Reader {
    socket: Arc<AsyncFd<OwnedFd>>,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Reader {
    /// The next message. Cancel-safe.
    async fn news(&mut self) -> io::Result<News> {
        loop {
            if let Some(news) = wire::take(&mut self.bytes)? {
                return Ok(news);
            }
            let mut ready = self.socket.readable().await?;
            let (bytes, descriptors) = (&mut self.bytes, &mut self.descriptors);
            match ready.try_io(|socket| wire::receive(socket.get_ref(), bytes, descriptors)) {
                Ok(Ok(0)) => {
                    return Err(io::Error::other("the process that keeps the command has been killed"));
                }
                Ok(Err(error)) if error.kind() != io::ErrorKind::Interrupted => return Err(error),
                // A short read has emptied the socket, and asking it again would be a call that fails; but reading also
                // stops behind descriptors.
                Ok(Ok(read)) if read < wire::PIECE && self.descriptors.is_empty() => ready.clear_ready(),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// Starts a command below a new keeper; yields the descriptors that came back, those of a terminal.
///
/// Dropped half-way, it leaves nothing behind.
pub(crate) async fn start(
    keeper: &Keeper,
    order: &Order,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Kept, Vec<OwnedFd>), SpawnError> {
    let fail = |error: &dyn fmt::Display| SpawnError::new(wire::not_started(error));
    let sockets = || -> io::Result<_> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        Ok((OwnedFd::from(ours), theirs))
    };
    let (ours, theirs) = sockets().map_err(|error| fail(&error))?;
    // The order first: it is there when the keeper is.
    let order = wire::line(order).map_err(|error| fail(&error))?;
    let begun = wire::send(&ours, &order, descriptors).map_err(|error| fail(&error))?;
    keeper.source.keeper_for(theirs.as_fd(), keeper).await.map_err(|error| fail(&error))?;
    drop(theirs);
    let rest = order.get(begun..).unwrap_or_default();
    wire::send_all(ours.as_fd(), rest, &[]).await.map_err(|error| fail(&error))?;
    let socket = Arc::new(register(ours, Interest::READABLE).map_err(|error| fail(&error))?);
    let mut reader = Reader { socket, bytes: Vec::new(), descriptors: Vec::new() };
    match reader.news().await.map_err(|error| fail(&error))? {
        News::Started { pid, keeper } => {
            let (Some(leader), Some(keeper)) = (Pid::from_raw(pid), Pid::from_raw(keeper)) else {
                return Err(fail(&"it reports no process id"));
            };
            let descriptors = std::mem::take(&mut reader.descriptors);
            Ok((Kept { leader, keeper, reader, exit: None }, descriptors))
        }
        News::Failed { text } => Err(SpawnError::new(text)),
        News::Exited { .. } => Err(fail(&"it reports an end before a start")),
    }
}

impl Kept {
    pub(crate) fn handle(&self) -> Handle {
        Handle { keeper: self.keeper, socket: Arc::clone(&self.reader.socket) }
    }

    /// Waits for the exit of the command. Cancel-safe; the same answer every time.
    pub(crate) async fn exited(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.exit {
                return Ok(exit);
            }
            if let News::Exited { code, signal } = self.reader.news().await? {
                self.exit = Some(Exit::new(code, signal));
            }
        }
    }
}
