//! A running remote command, whatever carries it.

use bytes::{Bytes, BytesMut};
use futures_util::future::{join, join3};
use wsstream_proto::subprotocol::Subprotocol;

use super::streams::{OutputReader, ResizeSender, Stdin};
use super::{spdy, websocket};
use crate::connection::Stats;
use crate::remotecommand::Outcome;

/// The longest status that is read, in bytes; an etcd object, the largest thing a real one could quote, is 1.5 MiB.
pub(super) const MAX_STATUS: usize = 2 << 20;

/// A running remote command.
///
/// Take the streams, then poll [`wait`](Self::wait) beside whatever moves them: it drives the connection, and nothing
/// arrives while nobody polls it. Streams that are not taken when it is called are thrown away.
#[derive(Debug)]
#[must_use = "a process makes no progress unless it is waited for"]
pub struct Process {
    /// The command's standard input, when it was asked for. Dropped, it does **not** end the command's input: say
    /// [`close`](Stdin::close), so that a copy that failed half-way is not taken for a whole one.
    pub stdin: Option<Stdin>,
    /// What the command prints.
    pub stdout: Option<OutputReader>,
    /// What the command complains about; never with a terminal.
    pub stderr: Option<OutputReader>,
    /// The terminal's size, when a terminal was asked for.
    pub resize: Option<ResizeSender>,
    pub(super) session: Session,
}

/// What moves a process.
#[derive(Debug)]
pub(super) enum Session {
    WebSocket(websocket::Session),
    Spdy(spdy::Session),
}

impl Process {
    /// What the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> &Subprotocol {
        match &self.session {
            Session::WebSocket(session) => session.subprotocol(),
            Session::Spdy(session) => session.subprotocol(),
        }
    }

    /// Whether the session is carried by SPDY rather than WebSocket.
    #[must_use]
    pub fn is_spdy(&self) -> bool {
        matches!(self.session, Session::Spdy(_))
    }

    /// What went over the connection so far. Over SPDY only bytes are counted, those received when they are read.
    #[must_use]
    pub fn stats(&self) -> Stats {
        match &self.session {
            Session::WebSocket(session) => session.stats(),
            Session::Spdy(session) => session.stats(),
        }
    }

    /// Drives the session to its end and tells how it ended.
    ///
    /// When it resolves, all that arrived can still be read from the streams that were taken. Dropped, it cuts the
    /// connection; the server ends the command by its policy.
    pub async fn wait(mut self) -> Outcome {
        drop((self.stdin.take(), self.stdout.take(), self.stderr.take(), self.resize.take()));
        match self.session {
            Session::WebSocket(session) => session.wait().await,
            Session::Spdy(session) => session.wait().await,
        }
    }

    /// Runs the command without input and collects what it prints, in memory.
    pub async fn output(mut self) -> Collected {
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        if let Some(mut stdin) = self.stdin.take() {
            // Before v5 there is no way to say it; such a command has to end by itself.
            let _ = stdin.close();
        }
        let (stdout, stderr, outcome) = join3(collect(stdout), collect(stderr), self.wait()).await;
        Collected { stdout, stderr, outcome }
    }

    /// Runs the command with `input` as its whole input and collects what it prints, in memory.
    ///
    /// Before v5 the end of input cannot be sent and the command sees none.
    pub async fn output_with(mut self, input: Bytes) -> Collected {
        let stdin = self.stdin.take();
        let feed = async move {
            let Some(mut stdin) = stdin else { return };
            let mut rest = input;
            while !rest.is_empty() {
                let message = rest.split_to(rest.len().min(crate::connection::MAX_WRITE));
                if stdin.send(message).await.is_err() {
                    // The outcome tells why; a command that ends early is no error.
                    return;
                }
            }
            let _ = stdin.close();
        };
        join(feed, self.output()).await.1
    }
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Collected {
    /// All of stdout that arrived.
    pub stdout: Bytes,
    /// All of stderr that arrived.
    pub stderr: Bytes,
    /// How the command ended.
    pub outcome: Outcome,
}

async fn collect(reader: Option<OutputReader>) -> Bytes {
    let mut all = BytesMut::new();
    if let Some(mut reader) = reader {
        // An error ends the session, and its outcome tells of it.
        while let Ok(Some(chunk)) = reader.chunk().await {
            all.extend_from_slice(&chunk);
        }
    }
    all.freeze()
}
