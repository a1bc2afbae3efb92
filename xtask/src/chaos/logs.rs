//! The sweep over logs: `wsstream logs`, the library's reader of the WebSocket forms, and `kubectl logs`, followed while
//! the command prints and read when it has ended. A log that came to its end is byte for byte what was printed.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{sleep, timeout},
};
use wsstream::{
    Subprotocol,
    client::Offer,
    http::Request,
    proto::{channel::ChannelId, subprotocol::READER},
    reader::receiver,
};
use wsstream_testing::chaos::{
    Checker, Content, Plan, Proxy, Script, Tally,
    oracle::Claim,
    script::{Departure, Finish, Input, Taking},
};

use super::{
    Budget,
    client::{Actor, Consumed, DEADLINE, authorise, collect, drain, program},
    crowd::{Extras, Fate, Judged, count, crowd, hung, judged},
    puppet::Puppet,
    server::{Place, Running, Target},
    sockets::join_all,
    supervised::supervised,
    words::{kubectl_claim, own_claim},
};

/// Commands of one server, and readers of each log: some while it grows, some afterwards.
const PER_SERVER: u64 = 12;
const LIVE: u64 = 3;
const LATER: u64 = 5;

/// Logs that are read at once.
const AT_ONCE: usize = 3;

/// How long a command may take that prints a log.
const PRINTS: Duration = Duration::from_secs(60);

/// What a command prints.
#[derive(Debug, Clone, Copy)]
struct Printed {
    seed: u64,
    length: u64,
    lines: bool,
}

/// One reading of a log.
#[derive(Debug)]
struct Reading {
    printed: Printed,
    by: Reader,
    follow: bool,
    taking: Taking,
    plan: Plan,
}

#[derive(Debug)]
enum Reader {
    /// The library, by a reader protocol.
    Socket(Subprotocol),
    /// `wsstream logs` or `kubectl logs`.
    Program(Actor),
}

/// Runs the sweep.
pub(super) async fn sweep(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let mut tally = Tally::default();
    let until = Instant::now() + budget.time;
    let extras = Extras::of(place, budget);
    let mut servers = 0;
    while Instant::now() < until && budget.sessions.is_none_or(|most| tally.sessions < most) {
        let target = if servers % 3 == 2 { Target::Tls } else { Target::Plain };
        let first = seed.wrapping_add(servers * PER_SERVER);
        let logs: Vec<_> =
            (0..PER_SERVER).map(|number| Printed::random(first.wrapping_add(number))).collect();
        let commands: Vec<_> = logs.iter().map(Printed::words).collect();
        let sessions = async |server: &Running| {
            let time = until.saturating_duration_since(Instant::now());
            // A log is one to the crowd, and several sessions to the count.
            let all = Budget { time, sessions: Some(PER_SERVER * (LIVE + LATER)) };
            crowd(&all, AT_ONCE, async |number| {
                match usize::try_from(number).ok().and_then(|at| logs.get(at)) {
                    Some(printed) => printed.read(place, server, number, extras).await,
                    None => Tally::default(),
                }
            })
            .await
        };
        tally.add(supervised(place, target, &commands, sessions).await?);
        servers += 1;
    }
    *note = format!("{servers} servers with {PER_SERVER} logs each, seeds from {seed}");
    Ok(tally)
}

impl Printed {
    fn random(seed: u64) -> Self {
        // Long ones for the most part: of a short log nearly all is the head of the answer.
        let length = match seed % 6 {
            0 => 0,
            1 => 1 + (seed >> 3) % 300,
            2 => 1_000_000 + (seed >> 3) % 2_000_000,
            _ => 2000 + (seed >> 3).wrapping_mul(7919) % 200_000,
        };
        Self { seed, length, lines: seed & 8 == 0 }
    }

    fn script(&self) -> Script {
        let mut script = Script::output(self.seed, Subprotocol::V5, self.length);
        (script.input, script.departure, script.finish) = (Input::None, Departure::None, Finish::Exit(0));
        script
    }

    fn checker(&self) -> Checker {
        let content = if self.lines { Content::lines(self.seed) } else { Content::new(self.seed, 1) };
        Checker::new(content, self.length)
    }

    /// The command: it waits until the readers that follow are there.
    fn words(&self) -> Vec<String> {
        let mut words = Puppet::words(&self.script());
        words.extend(["--go", "--parts=16"].map(str::to_owned));
        words.extend(self.lines.then(|| "--lines".to_owned()));
        words
    }

    /// Has the command print its log under the eyes of some readers, and shows it to others afterwards.
    async fn read(&self, place: &Place, server: &Running, number: u64, extras: Extras) -> Tally {
        let pod = format!("p{number}");
        let read = async |index: u64| {
            let reading = Reading::random(*self, index, server.target, extras);
            let mut tally = Tally::default();
            count(&mut tally, reading.run(place, server, &pod).await, || format!("log: {reading:?}"));
            tally
        };
        let live = join_all((0..LIVE).map(&read));
        let (started, parts) = tokio::join!(self.print(place, server, &pod), live);
        let mut tally = Tally::default();
        parts.into_iter().for_each(|part| tally.add(part));
        if let Err(error) = started {
            tally.lies += 1;
            tally.example(format!("the command of a log could not be run: {error:#}"));
            return tally;
        }
        for part in join_all((LIVE..LIVE + LATER).map(&read)).await {
            tally.add(part);
        }
        tally
    }

    /// Starts the command and waits for its end.
    async fn print(&self, place: &Place, server: &Running, pod: &str) -> Result<()> {
        // Some readers come before the first byte, some after it.
        sleep(Duration::from_millis(self.seed % 80)).await;
        // A proxy of its own, for a kubeconfig of its own.
        let proxy = Proxy::start(server.address, Plan::smooth()).await?;
        let (mut command, kubeconfig) = program(Actor::Program, place, server, proxy.address())?;
        command.args(["attach", "--quiet", "-i", pod]).stdin(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let mut stdin = child.stdin.take().context("no stdin")?;
        stdin.write_all(b"\n\n").await?;
        let stderr = child.stderr.take().context("no stderr")?;
        let ended = timeout(PRINTS, async { tokio::join!(collect(stderr), child.wait()) });
        let (words, status) = ended.await.context("the command does not end")?;
        let _ = std::fs::remove_file(kubeconfig);
        if !status?.success() {
            bail!("attach: {}", String::from_utf8_lossy(&words));
        }
        Ok(())
    }
}

impl Reading {
    fn random(printed: Printed, index: u64, target: Target, extras: Extras) -> Self {
        let seed = printed.seed.wrapping_mul(64).wrapping_add(index);
        let mixed = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 20;
        let by = match (target, mixed % 12) {
            (Target::Tls, 0) if extras.kubectl => Reader::Program(Actor::Kubectl),
            (Target::Plain, row @ 0..8) => {
                // Without a name, binary, base64.
                READER
                    .get(usize::try_from(row).unwrap_or(0) % READER.len())
                    .cloned()
                    .map_or(Reader::Program(Actor::Program), Reader::Socket)
            }
            _ => Reader::Program(Actor::Program),
        };
        let brief = Script::brief(seed);
        let grown = match &by {
            Reader::Socket(_) => printed.length * 4 / 3,
            Reader::Program(_) => printed.length,
        };
        let mut plan = Plan::brief(seed, 500, 900 + grown);
        extras.flip(&mut plan, target, seed);
        Self { printed, by, follow: index < LIVE || mixed & 64 == 0, taking: brief.taking, plan }
    }

    async fn run(&self, place: &Place, server: &Running, pod: &str) -> Result<Judged> {
        let script = self.printed.script();
        let proxy = Proxy::start(server.address, self.plan.clone()).await?;
        let read = timeout(DEADLINE, async {
            match &self.by {
                Reader::Socket(protocol) => self.socket(server, &proxy, pod, protocol).await,
                Reader::Program(actor) => self.program(place, server, &proxy, pod, *actor).await,
            }
        });
        let consumed = read.await.unwrap_or_else(|_| Ok(hung(&script)))?;
        let fate = Fate::of(&self.plan, &proxy, server.target, false);
        let foreign = matches!(self.by, Reader::Program(Actor::Kubectl));
        Ok(judged(&script, consumed, fate, foreign))
    }

    async fn socket(
        &self,
        server: &Running,
        proxy: &Proxy,
        pod: &str,
        protocol: &Subprotocol,
    ) -> Result<Consumed> {
        let mut checker = self.printed.checker();
        let nothing = self.printed.script().checker(2);
        let offer = Offer::new([protocol.clone()]);
        let mut request = Request::new(());
        *request.uri_mut() = format!(
            "http://{}/api/v1/namespaces/default/pods/{pod}/log?follow={}",
            proxy.address(),
            self.follow
        )
        .parse()?;
        authorise(&mut request, server)?;
        let connected = async {
            let socket = TcpStream::connect(proxy.address()).await.map_err(|error| error.to_string())?;
            offer.connect(socket, request).await.map_err(|error| error.to_string())
        };
        let (connection, driver) = match connected.await {
            Ok(accepted) => accepted.open(receiver),
            Err(why) => return Ok((Claim::Lost(why), checker, nothing, Vec::new())),
        };
        let mut reader = connection.reader(ChannelId(0)).context("no channel")?;
        let read = async {
            let mut rest = match self.taking {
                Taking::Paused(rest) => Some(rest),
                _ => None,
            };
            loop {
                match reader.chunk().await {
                    Ok(Some(chunk)) => checker.feed(&chunk),
                    Ok(None) => return Claim::Exited(0),
                    Err(error) => return Claim::Lost(error.to_string()),
                }
                if let Taking::Slow(pause) = self.taking {
                    sleep(pause).await;
                } else if let Some(rest) = rest.take() {
                    sleep(rest).await;
                }
            }
        };
        let (_, claim) = tokio::join!(driver, read);
        Ok((claim, checker, nothing, Vec::new()))
    }

    async fn program(
        &self,
        place: &Place,
        server: &Running,
        proxy: &Proxy,
        pod: &str,
        actor: Actor,
    ) -> Result<Consumed> {
        let (mut command, kubeconfig) = program(actor, place, server, proxy.address())?;
        command.arg("logs");
        command.args(self.follow.then_some("--follow")).args(["-c", pod, pod]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot run the client")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (checker, words, status) = tokio::join!(
            drain(stdout, self.printed.checker(), self.taking, None),
            collect(stderr),
            child.wait()
        );
        let _ = std::fs::remove_file(kubeconfig);
        let mut wrongs = Vec::new();
        let claim = match actor {
            Actor::Kubectl => kubectl_claim(status?, &words),
            _ => own_claim(status?, &words, &mut wrongs),
        };
        if String::from_utf8_lossy(&words).contains("panicked at") {
            wrongs.push(format!("panic: {}", String::from_utf8_lossy(&words)));
        }
        Ok((claim, checker, self.printed.script().checker(2), wrongs))
    }
}
