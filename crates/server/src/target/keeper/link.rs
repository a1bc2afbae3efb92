//! The server's end: starting a keeper, and what it reports.

use std::{
    fmt, io,
    os::fd::{BorrowedFd, OwnedFd},
    os::unix::process::CommandExt as _,
    process::Stdio,
    sync::Arc,
};

use rustix::{net::SendFlags, process::Pid};
use tokio::{io::Interest, net::UnixStream, process::Child};

use super::{
    super::{group::Exit, spawn::SpawnError},
    Keeper, cgroup,
    wire::{self, KILL, News, Order, RELEASE},
};

/// A command that runs below a keeper.
#[derive(Debug)]
pub(crate) struct Kept {
    /// The command itself.
    pub(crate) leader: Pid,
    link: Link,
    exit: Option<Exit>,
    /// The keeper; the runtime reaps it.
    _keeper: Child,
}

/// For signals: dropped with everything else, it is the end of file that the keeper waits for.
#[derive(Debug, Clone)]
pub(crate) struct Handle {
    /// The root of the tree, not itself part of it.
    pub(crate) keeper: Pid,
    socket: Arc<UnixStream>,
}

impl Handle {
    /// Has everything below the keeper killed; false when the keeper is gone, killed by somebody.
    pub(crate) fn kill(&self) -> bool {
        let heard = self.say(KILL);
        if !heard {
            cgroup::kill_abandoned(self.keeper);
        }
        heard
    }

    /// Lets everything below the keeper live on without it.
    pub(crate) fn release(&self) {
        self.say(RELEASE);
    }

    fn say(&self, word: u8) -> bool {
        // Straight to the kernel, which always has room for a byte here: this is also called while things are dropped.
        let said = rustix::net::send(&*self.socket, &[word], SendFlags::NOSIGNAL);
        if let Err(error) = &said {
            tracing::warn!(%error, keeper = self.keeper.as_raw_nonzero().get(), "a keeper is gone");
        }
        said.is_ok()
    }
}

/// The reading side.
#[derive(Debug)]
struct Link {
    handle: Handle,
    bytes: Vec<u8>,
    descriptors: Vec<OwnedFd>,
}

impl Link {
    /// The next message. Cancel-safe.
    async fn news(&mut self) -> io::Result<News> {
        loop {
            if let Some(news) = wire::take(&mut self.bytes)? {
                return Ok(news);
            }
            self.handle.socket.readable().await?;
            let socket = &self.handle.socket;
            let (bytes, descriptors) = (&mut self.bytes, &mut self.descriptors);
            let read = socket.try_io(Interest::READABLE, || wire::receive(&**socket, bytes, descriptors));
            match read {
                Ok(0) => return Err(io::Error::other("the process that keeps the command has been killed")),
                Ok(_) => {}
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
    }

    async fn send(&self, mut data: &[u8], mut descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let socket = &self.handle.socket;
        while !data.is_empty() {
            socket.writable().await?;
            match socket.try_io(Interest::WRITABLE, || wire::send(&**socket, data, descriptors)) {
                Ok(sent) => {
                    data = data.get(sent..).unwrap_or_default();
                    descriptors = &[];
                }
                Err(error) if is_transient(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn is_transient(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

/// Starts a command below a new keeper; yields the descriptors that came back, those of a terminal.
///
/// Dropped half-way, it leaves nothing behind.
pub(crate) async fn start(
    keeper: &Keeper,
    order: &Order,
    descriptors: &[BorrowedFd<'_>],
) -> Result<(Kept, Vec<OwnedFd>), SpawnError> {
    let fail = |error: &dyn fmt::Display| {
        SpawnError::new(format!("cannot start the process that keeps the command: {error}"))
    };
    let child = || -> io::Result<(Child, Handle)> {
        let (ours, theirs) = std::os::unix::net::UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = std::process::Command::new(&keeper.program);
        command
            .arg0("wsstream-keeper")
            .args(&keeper.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C on the server's terminal is not for it.
            .process_group(0);
        let child = tokio::process::Command::from(command).spawn()?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        let keeper = pid.ok_or_else(|| io::Error::other("it has no process id"))?;
        Ok((child, Handle { keeper, socket: Arc::new(UnixStream::from_std(ours)?) }))
    };
    let (child, handle) = child().map_err(|error| fail(&error))?;
    let mut link = Link { handle, bytes: Vec::new(), descriptors: Vec::new() };
    let order = wire::line(order).map_err(|error| fail(&error))?;
    link.send(&order, descriptors).await.map_err(|error| fail(&error))?;
    match link.news().await.map_err(|error| fail(&error))? {
        News::Started { pid } => {
            let leader = Pid::from_raw(pid).ok_or_else(|| fail(&"it reports no process id"))?;
            let descriptors = std::mem::take(&mut link.descriptors);
            Ok((Kept { leader, link, exit: None, _keeper: child }, descriptors))
        }
        News::Failed { text } => Err(SpawnError::new(text)),
        News::Exited { .. } => Err(fail(&"it reports an end before a start")),
    }
}

impl Kept {
    pub(crate) fn handle(&self) -> Handle {
        self.link.handle.clone()
    }

    /// Waits for the exit of the command. Cancel-safe; the same answer every time.
    pub(crate) async fn exited(&mut self) -> io::Result<Exit> {
        loop {
            if let Some(exit) = self.exit {
                return Ok(exit);
            }
            if let News::Exited { code, signal } = self.link.news().await? {
                self.exit = Some(Exit::new(code, signal));
            }
        }
    }
}
