//! Readers that take their time, where a server that closes too early costs the tail of the output (kubernetes#124571):
//! 32 MiB at 1 MiB/s, and readers that stop for 90 s in the middle and at the very end.
//!
//! Nothing lies between client and server, so what waits is in their own buffers and the kernel's. The server pings once
//! a second, and the library does twice a second: signs of life must not reset a connection that is closing.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    io::AsyncReadExt as _,
    time::{sleep, timeout},
};
use wsstream::{
    Subprotocol, Timeouts,
    remotecommand::{Request, client},
};
use wsstream_testing::chaos::{Checker, Plan, Proxy, Script, Tally, oracle::Claim, sweep::protocols};

use super::{
    Budget,
    attach::claim,
    client::{Actor, Consumed, collect, connect, program},
    crowd::{Fate, Judged, count, crowd, hung, judged, settle},
    puppet::Puppet,
    server::{Place, Running, Target, puppets},
    words::own_claim,
};

/// A slow reader's output, and how much of it it takes in a second.
const SLOW: u64 = 32 << 20;
const RATE: u64 = 1 << 20;

/// How long a paused reader pauses: longer than every deadline that a silent peer is given.
const PAUSE: Duration = Duration::from_secs(90);

/// Outputs of paused readers and where they pause: with the command in mid-output; with all of the rest in buffers, some
/// of it in the kernel's; and with Close and everything else in the client's.
const PAUSED: [(u64, u64); 3] = [(16 << 20, 1 << 20), (3 << 20, 256 << 10), (100 << 10, 1)];

/// Within this every session is over: the pause, and the time that a loaded machine needs.
const ENDS: Duration = Duration::from_secs(400);

/// One reader.
#[derive(Debug)]
struct Reader {
    script: Script,
    target: Target,
    /// Pauses when so much has come; `None`: reads slowly.
    pause: Option<u64>,
}

/// 32 MiB at 1 MiB/s, every version over plain TCP and over TLS, all at once.
pub(super) async fn slow(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let script = |row: &Subprotocol| Script::output(seed, row.clone(), SLOW);
    let readers = protocols().iter().flat_map(|row| {
        [Target::Plain, Target::Tls].map(|target| Reader { script: script(row), target, pause: None })
    });
    run(place, budget, &readers.collect::<Vec<_>>(), note).await
}

/// A pause of 90 s, every version over plain TCP and over TLS, all at once.
pub(super) async fn paused(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let readers = protocols().iter().flat_map(|row| {
        PAUSED.iter().flat_map(move |(length, at)| {
            [Target::Plain, Target::Tls].map(|target| Reader {
                script: Script::output(seed ^ at, row.clone(), *length),
                target,
                pause: Some(*at),
            })
        })
    });
    run(place, budget, &readers.collect::<Vec<_>>(), note).await
}

async fn run(place: &Place, budget: &Budget, readers: &[Reader], note: &mut String) -> Result<Tally> {
    let words = ["--ping-interval=1s".to_owned()];
    let plain = Running::start_with(place, Target::Plain, None, &words).await?;
    let tls = Running::start_with(place, Target::Tls, None, &words).await?;
    let (before, before_tls) = (plain.reading()?, tls.reading()?);
    // All of them begin whatever the time is: they take what they take.
    let most = readers.len() as u64;
    let all = Budget { time: ENDS, sessions: Some(budget.sessions.unwrap_or(most).min(most)) };
    let sessions = crowd(&all, readers.len(), async |number| {
        let mut tally = Tally::default();
        if let Some(reader) = usize::try_from(number).ok().and_then(|number| readers.get(number)) {
            let server = if reader.target == Target::Tls { &tls } else { &plain };
            count(&mut tally, reader.run(place, server).await, || format!("{reader:?}"));
        }
        tally
    });
    let commands = async {
        // They begin, and they end.
        while puppets(place) == 0 {
            sleep(Duration::from_millis(50)).await;
        }
        while puppets(place) > 0 {
            sleep(Duration::from_millis(100)).await;
        }
        Instant::now()
    };
    let (mut tally, commands) = tokio::join!(sessions, timeout(ENDS, commands));
    let tail = commands.map(|ended| ended.elapsed().as_secs_f64()).unwrap_or_default();
    settle(&plain, &before, &mut tally).await?;
    settle(&tls, &before_tls, &mut tally).await?;
    *note = format!(
        "{} MiB checked; the last command had ended {tail:.1} s before the last reader was done",
        tally.bytes >> 20
    );
    Ok(tally)
}

/// Sleeps as a reader does.
struct Pacer {
    started: Instant,
    seen: u64,
    pause: Option<u64>,
    rested: bool,
}

impl Pacer {
    fn new(pause: Option<u64>) -> Self {
        Self { started: Instant::now(), seen: 0, pause, rested: false }
    }

    /// After this much more has come.
    async fn rest(&mut self, came: usize) {
        self.seen += came as u64;
        match self.pause {
            Some(at) if self.seen >= at && !self.rested => {
                self.rested = true;
                sleep(PAUSE).await;
            }
            Some(_) => {}
            None => {
                let due = Duration::from_secs_f64(self.seen as f64 / RATE as f64);
                sleep(due.saturating_sub(self.started.elapsed())).await;
            }
        }
    }
}

impl Reader {
    async fn run(&self, place: &Place, server: &Running) -> Result<Judged> {
        let session = timeout(ENDS, async {
            match self.target {
                Target::Tls => self.program(place, server).await,
                Target::Plain | Target::Go => self.library(place, server).await,
            }
        });
        let consumed = session.await.unwrap_or_else(|_| Ok(hung(&self.script)))?;
        Ok(judged(&self.script, consumed, Fate::CALM, false))
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let mut words = vec![place.puppet.to_string_lossy().into_owned()];
        words.extend(Puppet::words(&self.script));
        words
    }

    fn checkers(&self) -> (Checker, Checker) {
        (self.script.checker(1), self.script.checker(2))
    }

    async fn library(&self, place: &Place, server: &Running) -> Result<Consumed> {
        let (mut checker, nothing) = self.checkers();
        let mut clocks = Timeouts::default();
        clocks.ping_interval = Some(Duration::from_millis(500));
        clocks.unsolicited_pong = Duration::from_millis(500);
        let request = Request::command(self.command(place)).stdout(true).stderr(true);
        let start = client::exec(request).protocols([self.script.protocol.clone()]).timeouts(clocks);
        let mut process = match connect(&start, false, server, server.address, "host/exec").await? {
            Ok(process) => process,
            Err(why) => return Ok((Claim::Lost(why), checker, nothing, Vec::new())),
        };
        let stdout = process.stdout.take();
        let read = async {
            let mut pacer = Pacer::new(self.pause);
            if let Some(mut stdout) = stdout {
                while let Ok(Some(chunk)) = stdout.chunk().await {
                    checker.feed(&chunk);
                    pacer.rest(chunk.len()).await;
                }
            }
        };
        let (outcome, ()) = tokio::join!(process.wait(), read);
        let (claim, wrongs) = claim(outcome, checker.seen());
        Ok((claim, checker, nothing, wrongs))
    }

    async fn program(&self, place: &Place, server: &Running) -> Result<Consumed> {
        let (mut checker, nothing) = self.checkers();
        // A proxy without a plan would hold bytes of its own; this one only lends its port to a kubeconfig.
        let port = Proxy::start(server.address, Plan::smooth()).await?;
        let (mut command, kubeconfig) = program(Actor::Program, place, server, port.address())?;
        let text = std::fs::read_to_string(&kubeconfig)?;
        let (there, here) = (server.address.to_string(), port.address().to_string());
        std::fs::write(&kubeconfig, text.replace(&here, &there))?;
        let name = self.script.protocol.name();
        command.args(["exec", "--quiet", "--protocol", if name.is_empty() { "none" } else { name }]);
        command.args(["-c", "host", "host", "--"]).args(self.command(place));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot run the client")?;
        let mut stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let read = async {
            let mut pacer = Pacer::new(self.pause);
            let mut buffer = vec![0; 32 << 10];
            while let Ok(n @ 1..) = stdout.read(&mut buffer).await {
                checker.feed(buffer.get(..n).unwrap_or_default());
                pacer.rest(n).await;
            }
        };
        let ((), words, status) = tokio::join!(read, collect(stderr), child.wait());
        let _ = std::fs::remove_file(kubeconfig);
        let mut wrongs = Vec::new();
        let claim = own_claim(status?, &words, &mut wrongs);
        Ok((claim, checker, nothing, wrongs))
    }
}
