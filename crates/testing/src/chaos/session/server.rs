//! The server of a session: our own, and the command that it runs.

use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::oneshot;
use tokio::time::timeout;
use wsstream::remotecommand::server::{Exec, Options};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};
use wsstream::transport::{Io, UnsentProbe};
use wsstream_proto::status::Status;

use super::{HANDSHAKE, Setting};
use crate::chaos::content::Checker;
use crate::chaos::http::one_session;
use crate::chaos::script::{Departure, FAILURE, Finish, Input, PANIC, Script};
use crate::chaos::tls;

/// What the server's side has seen.
#[derive(Debug)]
pub(in crate::chaos) struct Served {
    stdin: Checker,
    /// stdin came to an end in good order.
    clean_end: bool,
    wrongs: Vec<String>,
}

impl Served {
    pub(in crate::chaos) fn new(script: &Script) -> Self {
        Self { stdin: script.checker(0), clean_end: false, wrongs: Vec::new() }
    }

    pub(in crate::chaos) fn wrongs(&self) -> Vec<String> {
        let mut wrongs = self.wrongs.clone();
        if let Some(at) = self.stdin.wrong() {
            wrongs.push(format!("the command read other bytes than were sent, from {at} on"));
        }
        if self.clean_end && !self.stdin.is_complete() {
            wrongs.push(format!("the command saw a clean end of input after {}", self.stdin));
        }
        wrongs
    }
}

/// Serves one connection; tells whether the result was delivered.
pub(super) async fn serve(
    script: Script,
    io: impl Io + 'static,
    served: Arc<Mutex<Served>>,
    setting: Setting,
    unsent: UnsentProbe,
) -> bool {
    if setting.tls {
        match timeout(HANDSHAKE, tls::pair().1.accept(io)).await {
            Ok(Ok(io)) => serve_http(script, io, served, unsent).await,
            _ => false,
        }
    } else {
        serve_http(script, io, served, unsent).await
    }
}

async fn serve_http(
    script: Script,
    io: impl Io + 'static,
    served: Arc<Mutex<Served>>,
    unsent: UnsentProbe,
) -> bool {
    let session = async |session: Exec| {
        let mut options = Options::default();
        options.unsent_probe = Some(unsent);
        let (leave, left) = oneshot::channel();
        let leave = Mutex::new(Some(leave));
        let handler = |_request: Request, streams: Streams| {
            let leave = leave.lock().unwrap_or_else(PoisonError::into_inner).take();
            command(script.clone(), streams, Arc::clone(&served), leave)
        };
        tokio::select! {
            report = session.options(options).serve(handler) => report.delivered(),
            Ok(()) = left => false,
        }
    };
    let accept = |request: &mut _| Exec::accept(request).map(|session| (session.response(), session));
    one_session(io, accept, session).await.unwrap_or(false)
}

/// The command.
pub(in crate::chaos) async fn command(
    script: Script,
    mut streams: Streams,
    served: Arc<Mutex<Served>>,
    leave: Option<oneshot::Sender<()>>,
) -> Result<ExitCode, Failure> {
    let mut rng = SmallRng::seed_from_u64(script.seed);
    let result = match script.input {
        Input::Echo => echo(&script, &mut streams, &served, leave).await,
        Input::None | Input::Flood => print(&script, &mut streams, &mut rng, leave).await,
    };
    result.map_err(Failure::internal)?;
    match script.finish {
        Finish::Exit(code) => Ok(ExitCode(code)),
        Finish::Failure => Err(Failure::status(Status::internal(FAILURE))),
        Finish::Panic => std::panic::panic_any(PANIC),
    }
}

async fn echo(
    script: &Script,
    streams: &mut Streams,
    served: &Mutex<Served>,
    mut leave: Option<oneshot::Sender<()>>,
) -> std::io::Result<()> {
    let (Some(stdin), Some(stdout)) = (&mut streams.stdin, &mut streams.stdout) else {
        served.lock().unwrap_or_else(PoisonError::into_inner).wrongs.push("streams are missing".to_owned());
        return Ok(());
    };
    // Before v5 nothing says that the input is over: such a command must know how much it wants.
    let counts = !script.half_close();
    let mut left = script.stdin;
    loop {
        if matches!(script.departure, Departure::Server(at) if script.stdin - left >= at.min(script.stdin)) {
            leave.take().map(|leave| leave.send(()));
            return std::future::pending().await;
        }
        if left == 0 && counts {
            break;
        }
        match stdin.chunk().await? {
            Some(chunk) => {
                served.lock().unwrap_or_else(PoisonError::into_inner).stdin.feed(&chunk);
                left = left.saturating_sub(chunk.len() as u64);
                stdout.send(chunk).await?;
            }
            None => {
                served.lock().unwrap_or_else(PoisonError::into_inner).clean_end = true;
                break;
            }
        }
    }
    if let Some(stderr) = &mut streams.stderr {
        let content = script.content(2).bytes(0, script.stderr as usize);
        stderr.send(content.into()).await?;
    }
    Ok(())
}

async fn print(
    script: &Script,
    streams: &mut Streams,
    rng: &mut SmallRng,
    leave: Option<oneshot::Sender<()>>,
) -> std::io::Result<()> {
    let mut sent = [0, 0];
    let total = [script.stdout, script.stderr];
    let leaves = match script.departure {
        Departure::Server(at) => Some(at),
        _ => None,
    };
    loop {
        if leaves.is_some_and(|at| sent[0] >= at.min(script.stdout)) {
            if let Some(leave) = leave {
                let _ = leave.send(());
            }
            return std::future::pending().await;
        }
        let open: Vec<usize> = (0..2).filter(|i| sent[*i] < total[*i]).collect();
        let Some(&which) = open.get(rng.random_range(0..open.len().max(1))) else { return Ok(()) };
        let most = (total[which] - sent[which]).min(if rng.random_bool(0.3) { 32 << 10 } else { 2000 });
        let length = rng.random_range(1..=most);
        let content = script.content(which as u8 + 1).bytes(sent[which], length as usize);
        let output = if which == 0 { &mut streams.stdout } else { &mut streams.stderr };
        if let Some(output) = output {
            output.send(content.into()).await?;
        }
        sent[which] += length;
    }
}
