//! The server's end of the zygote: starting it when it is first needed, and again when somebody has killed it.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd, OwnedFd},
    os::unix::{net::UnixStream, process::CommandExt as _},
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
};

use tokio::process::Child;

use super::{
    super::spawn::TERMINAL_OPENING,
    Keeper,
    wire::{self, SESSION},
};

/// Where the keepers of a server come from. All clones are the same one.
#[derive(Debug, Clone, Default)]
pub(super) struct Source(Arc<Mutex<Option<Arc<Zygote>>>>);

/// One that has been started. Dropped, it ends, and its keepers with their sessions.
#[derive(Debug)]
struct Zygote {
    socket: OwnedFd,
    /// The runtime reaps it.
    _process: Child,
}

impl Source {
    /// Starts it unless it was started before. Needs a runtime.
    pub(super) fn open(&self, keeper: &Keeper) -> io::Result<()> {
        self.zygote(keeper).map(drop)
    }

    /// Has a new keeper serve the other end of `session`.
    pub(super) async fn keeper_for(&self, session: BorrowedFd<'_>, keeper: &Keeper) -> io::Result<()> {
        let zygote = self.zygote(keeper)?;
        match wire::send_all(zygote.socket.as_fd(), &[SESSION], &[session]).await {
            Err(error) if is_gone(&error) => {}
            done => return done,
        }
        tracing::warn!("the process that starts keepers is gone: starting another");
        self.forget(&zygote);
        let zygote = self.zygote(keeper)?;
        wire::send_all(zygote.socket.as_fd(), &[SESSION], &[session]).await
    }

    fn zygote(&self, keeper: &Keeper) -> io::Result<Arc<Zygote>> {
        let mut zygote = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(zygote) = &*zygote {
            return Ok(Arc::clone(zygote));
        }
        Ok(Arc::clone(zygote.insert(Arc::new(Zygote::start(keeper)?))))
    }

    fn forget(&self, dead: &Arc<Zygote>) {
        let mut zygote = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Others may have found the same, and have started another already.
        if zygote.as_ref().is_some_and(|zygote| Arc::ptr_eq(zygote, dead)) {
            *zygote = None;
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
}

impl Zygote {
    fn start(keeper: &Keeper) -> io::Result<Self> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        let mut command = Command::new(&keeper.program);
        command
            .arg0("wsstream-keeper")
            .args(&keeper.arguments)
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C on the server's terminal is not for it.
            .process_group(0);
        let _no_terminal_opens = TERMINAL_OPENING.read().unwrap_or_else(PoisonError::into_inner);
        let process = tokio::process::Command::from(command).spawn()?;
        Ok(Self { socket: ours.into(), _process: process })
    }
}
