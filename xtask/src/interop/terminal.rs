//! A client under a real pseudo-terminal, driven as a person would: type, look, resize.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, bail};
use pty_process::{Command, Pty, Size};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::Child,
    time::timeout,
};

use super::client::excerpt;

/// How long the screen may take to show something.
const LOOK: Duration = Duration::from_secs(20);

/// A running client and the master side of its terminal.
pub(super) struct Terminal {
    pty: Pty,
    child: Child,
    /// Everything the screen has shown.
    seen: Vec<u8>,
    /// Where the next look starts.
    mark: usize,
}

impl Terminal {
    /// Starts a program on a terminal of that size; it is killed when this is dropped.
    pub(super) fn start(
        program: &Path,
        args: &[&str],
        env: &[(&str, &Path)],
        (rows, columns): (u16, u16),
    ) -> Result<Self> {
        let (pty, pts) = pty_process::open().context("cannot open a pseudo-terminal")?;
        pty.resize(Size::new(rows, columns))?;
        let mut command = Command::new(program).args(args).env("TERM", "xterm").kill_on_drop(true);
        for (key, value) in env {
            command = command.env(key, value);
        }
        let child = command.spawn(pts).with_context(|| format!("cannot run {}", program.display()))?;
        Ok(Self { pty, child, seen: Vec::new(), mark: 0 })
    }

    /// Types.
    pub(super) async fn send(&mut self, keys: &str) -> Result<()> {
        self.pty.write_all(keys.as_bytes()).await.context("typing")
    }

    /// Changes the size of the window; the client gets SIGWINCH.
    pub(super) fn resize(&self, rows: u16, columns: u16) -> Result<()> {
        self.pty.resize(Size::new(rows, columns)).context("resizing")
    }

    /// Waits until the text has come after what was looked at last; returns what came up to it.
    pub(super) async fn expect(&mut self, text: &str) -> Result<String> {
        let looked = timeout(LOOK, async {
            loop {
                let fresh =
                    String::from_utf8_lossy(self.seen.get(self.mark..).unwrap_or_default()).into_owned();
                if let Some(at) = fresh.find(text) {
                    self.mark += at + text.len();
                    return Ok(fresh.get(..at).unwrap_or_default().to_owned());
                }
                if !self.more().await {
                    bail!("the screen ended");
                }
            }
        })
        .await;
        match looked {
            Ok(Ok(before)) => Ok(before),
            Ok(Err(error)) => bail!("{error} without {text:?}; it showed:\n{}", excerpt(&self.seen)),
            Err(_) => {
                bail!("no {text:?} after {} s; the screen shows:\n{}", LOOK.as_secs(), excerpt(&self.seen))
            }
        }
    }

    /// Waits for the client to end and fails unless its exit code is this.
    pub(super) async fn exits(mut self, want: i32) -> Result<()> {
        let ended = timeout(LOOK, async {
            while self.more().await {}
            self.child.wait().await
        })
        .await;
        match ended {
            Ok(Ok(status)) if status.code() == Some(want) => Ok(()),
            Ok(Ok(status)) => {
                bail!("exit code {want} expected, got {status}; it showed:\n{}", excerpt(&self.seen))
            }
            Ok(Err(error)) => bail!("waiting: {error}"),
            Err(_) => {
                bail!("not ended after {} s; the screen shows:\n{}", LOOK.as_secs(), excerpt(&self.seen))
            }
        }
    }

    /// Kills the client, as closing the window with force would.
    pub(super) async fn kill(mut self) -> Result<()> {
        self.child.kill().await.context("killing the client")
    }

    /// Reads once; false at the end, which a terminal reports as an error (EIO).
    async fn more(&mut self) -> bool {
        let mut buffer = [0; 4096];
        match self.pty.read(&mut buffer).await {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.seen.extend_from_slice(buffer.get(..count).unwrap_or_default());
                true
            }
        }
    }
}
