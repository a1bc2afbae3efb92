//! One real session: the library in this process, or a program, against a server behind a proxy with a plan.

use std::{
    net::SocketAddr,
    process::{ExitStatus, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};
use wsstream::{
    http::{HeaderValue, Uri, header::AUTHORIZATION},
    remotecommand::{Request, client},
};
use wsstream_testing::chaos::{
    Checker, Plan, Proxy, Script, Verdict,
    oracle::{Claim, Seen, judge},
    plan::Fault,
    script::{Departure, Finish, Input, Taking},
    session::converse,
};

use super::{
    puppet::Puppet,
    server::{Place, Running},
};

/// Within this every real session has come to an end. A changed length of a TLS record makes its receiver wait for
/// bytes that never come, which only the deadline for a dead peer (90 s) ends; all else takes seconds.
const DEADLINE: Duration = Duration::from_secs(150);

/// Who asks for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    /// `remotecommand::client` in this process.
    Library,
    /// `wsstream exec`.
    Program,
    /// kubectl, whose lies are its own.
    Kubectl,
}

/// One session that is about to be run.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) actor: Actor,
    pub(crate) script: Script,
    pub(crate) plan: Plan,
    /// More words for the puppet.
    pub(crate) words: Vec<String>,
    /// The exit code that they lead to, where it is another than the script's.
    pub(crate) code: Option<u8>,
    /// Something else happens to it: the server or the client is killed.
    pub(crate) doomed: bool,
    /// The client is killed with -9 after so long.
    pub(crate) kill_after: Option<Duration>,
}

impl Session {
    /// The random session of a seed for `actor`.
    pub(crate) fn random(actor: Actor, seed: u64, flip: bool) -> Self {
        let mut script = Script::brief(seed);
        if actor == Actor::Kubectl {
            // kubectl speaks what it speaks, and reads what comes.
            script.protocol = wsstream::Subprotocol::V5;
            script.taking = Taking::Eager;
        }
        if actor != Actor::Library {
            script.departure = Departure::None;
            // The program's own words are told from the command's by what they begin with, so they stand alone.
            script.stderr = script.stderr.min(2000);
        }
        let (up, down) = script.volume();
        let mut plan = Plan::brief(seed, up, down);
        if flip {
            for (_, _, fault) in &mut plan.faults {
                *fault = Fault::Flip(1 << (seed % 8));
            }
        }
        Self { actor, script, plan, words: Vec::new(), code: None, doomed: false, kill_after: None }
    }

    /// How to repeat it.
    pub(crate) fn story(&self) -> String {
        format!("{:?} {}; {:?}\n      plan: {}", self.actor, self.script, self.words, self.plan)
    }

    /// Runs and judges it; also the payload bytes that came.
    pub(crate) async fn run(&self, place: &Place, server: &Running) -> Result<(Verdict, u64)> {
        let proxy = Proxy::start(server.address, self.plan.clone()).await?;
        let ended = timeout(DEADLINE, async {
            match self.actor {
                Actor::Library => self.library(place, server, proxy.address()).await,
                Actor::Program | Actor::Kubectl => self.program(place, server, proxy.address()).await,
            }
        });
        let (claim, stdout, stderr, wrongs) = match ended.await {
            Ok(consumed) => consumed?,
            Err(_) => (Claim::Hung, self.script.checker(1), self.script.checker(2), Vec::new()),
        };
        let left = self.doomed || self.kill_after.is_some() || self.script.departure != Departure::None;
        let short = |fault: &Fault| matches!(fault, Fault::Stall(Some(_)));
        let seen = Seen {
            claim,
            fired: proxy.record().fired.max(u32::from(left)),
            harmless: !left && self.plan.faults.iter().all(|(_, _, fault)| short(fault)),
            blind: self.plan.flips() && server.target != super::Target::Tls,
            stdout,
            stderr,
            wrongs,
        };
        let bytes = seen.stdout.seen() + seen.stderr.seen();
        let mut script = self.script.clone();
        if let Some(code) = self.code {
            script.finish = Finish::Exit(code);
        }
        Ok((judge(&script, &seen), bytes))
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let mut command = vec![place.puppet.to_string_lossy().into_owned()];
        command.extend(Puppet::words(&self.script));
        command.extend(self.words.iter().cloned());
        command
    }

    async fn library(&self, place: &Place, server: &Running, through: SocketAddr) -> Result<Consumed> {
        let script = &self.script;
        let request =
            Request::command(self.command(place)).stdin(script.has_stdin()).stdout(true).stderr(true);
        let start = client::exec(request).protocols([script.protocol.clone()]);
        Ok(match connect(&start, server, through, "host/exec").await? {
            Ok(process) => converse(script, process, script.seed).await,
            Err(why) => (Claim::Lost(why), script.checker(1), script.checker(2), Vec::new()),
        })
    }

    async fn program(&self, place: &Place, server: &Running, through: SocketAddr) -> Result<Consumed> {
        let script = &self.script;
        let kubeconfig = server.kubeconfig_for(&format!("kubeconfig-{}", through.port()), through)?;
        let mut command = if self.actor == Actor::Kubectl {
            Command::new(place.kubectl.as_ref().context("no kubectl")?)
        } else {
            let mut command = Command::new(&place.binary);
            // Quiet: its notices would stand among the command's own words.
            command.args(["exec", "--quiet", "--protocol"]);
            command.arg(if script.protocol.name().is_empty() { "none" } else { script.protocol.name() });
            command
        };
        if self.actor == Actor::Kubectl {
            command.args(["exec"]);
        }
        if script.has_stdin() {
            command.arg("-i");
        }
        command.args(["-c", "host", "host", "--"]).args(self.command(place));
        let home = place.folder.path();
        command.env("HOME", home).env("KUBECONFIG", &kubeconfig).env_remove("RUST_LOG");
        let stdin = if script.has_stdin() { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().context("cannot run the client")?;
        let consumed = self.watch(child).await;
        let _ = std::fs::remove_file(kubeconfig);
        consumed
    }

    async fn watch(&self, mut child: Child) -> Result<Consumed> {
        let script = &self.script;
        let (stdout, stderr) =
            (child.stdout.take().context("no stdout")?, child.stderr.take().context("no stderr")?);
        let feeder = child.stdin.take().map(|stdin| tokio::spawn(feed(script.clone(), stdin)));
        let out = tokio::spawn(drain(stdout, script.checker(1), script.taking));
        let err = tokio::spawn(collect(stderr));
        let mut killed = false;
        if let Some(after) = self.kill_after {
            tokio::select! {
                _ = child.wait() => {}
                () = sleep(after) => {
                    killed = true;
                    child.kill().await?;
                }
            }
        }
        let status = child.wait().await?;
        let stdout = out.await?;
        let text = err.await?;
        if let Some(feeder) = feeder {
            // Its pipe is closed with the client.
            feeder.await?;
        }
        let mut wrongs = Vec::new();
        let (stderr, words) = split(script, &text);
        if String::from_utf8_lossy(words).contains("panicked at") {
            wrongs.push(format!("panic: {}", String::from_utf8_lossy(words)));
        }
        let claim = if killed {
            Claim::Left
        } else if self.actor == Actor::Kubectl {
            kubectl_claim(status, words)
        } else {
            own_claim(status, words, &mut wrongs)
        };
        Ok((claim, stdout, stderr, wrongs))
    }
}

pub(super) type Consumed = wsstream_testing::chaos::session::Consumed;

/// Asks for a session at `place`, `POD/exec` or `POD/attach`; the inner error is why there is none.
pub(super) async fn connect(
    start: &client::Start,
    server: &Running,
    through: SocketAddr,
    place: &str,
) -> Result<Result<client::Process, String>> {
    let endpoint: Uri = format!("http://{through}/api/v1/namespaces/default/pods/{place}").parse()?;
    let mut upgrade = start.request(&endpoint)?;
    authorise(&mut upgrade, server)?;
    let connected = async {
        let socket = TcpStream::connect(through).await.map_err(|error| error.to_string())?;
        start.connect(socket, upgrade).await.map_err(|error| error.to_string())
    };
    Ok(connected.await)
}

/// Adds the server's token, where it has one.
pub(super) fn authorise<B>(request: &mut wsstream::http::Request<B>, server: &Running) -> Result<()> {
    if !server.token.is_empty() {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", server.token))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    Ok(())
}

/// The command's stderr, and behind it the client's own words.
pub(super) fn split<'a>(script: &Script, text: &'a [u8]) -> (Checker, &'a [u8]) {
    let expected = script.content(2).bytes(0, usize::try_from(script.stderr).unwrap_or(usize::MAX));
    let same = text.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let known =
        ["wsstream: ", "Error from server", "error: ", "E1", "W1", "command terminated", "Unable", "Error"];
    let begins = |at: usize| {
        let words =
            String::from_utf8_lossy(text.get(at..).unwrap_or_default().trim_ascii_start()).into_owned();
        words.is_empty() || known.iter().any(|word| words.starts_with(word))
    };
    // The command's next bytes may happen to be the first of the client's words.
    let end = (same.saturating_sub(4)..=same).rev().find(|at| begins(*at));
    let (remote, words) = text.split_at(end.unwrap_or(same));
    let mut checker = script.checker(2);
    checker.feed(remote);
    if end.is_none() {
        // Neither the command's nor the client's: bytes that nobody sent.
        checker.feed(words);
    }
    (checker, words)
}

/// The exit codes of `wsstream exec`, as its help documents them.
pub(super) fn own_claim(status: ExitStatus, words: &[u8], wrongs: &mut Vec<String>) -> Claim {
    let text = String::from_utf8_lossy(words.trim_ascii()).into_owned();
    // A notice is no verdict: `wsstream: warning: …`.
    let verdict = text.lines().any(|line| {
        (line.starts_with("wsstream: ") && !line.contains("warning")) || line.starts_with("Error from server")
    });
    match status.code() {
        None => {
            wrongs.push(format!("the program was ended by {status}: {text}"));
            Claim::Lost(text)
        }
        Some(code) if !verdict => u8::try_from(code).map_or(Claim::Lost(text), Claim::Exited),
        Some(0) => {
            wrongs.push(format!("exit status 0 beside {text:?}"));
            Claim::Lost(text)
        }
        Some(253) => Claim::Ended,
        Some(1) => Claim::Failed(text),
        Some(_) => Claim::Lost(text),
    }
}

/// What kubectl says: its exit status is the command's where it says nothing, or `command terminated with …`.
pub(super) fn kubectl_claim(status: ExitStatus, words: &[u8]) -> Claim {
    let text = String::from_utf8_lossy(words.trim_ascii()).into_owned();
    match status.code() {
        Some(0) => Claim::Exited(0),
        Some(code) if text.contains("command terminated with exit code") => {
            u8::try_from(code).map_or(Claim::Lost(text), Claim::Exited)
        }
        _ => Claim::Lost(text),
    }
}

pub(super) async fn drain(mut from: impl AsyncRead + Unpin, mut checker: Checker, taking: Taking) -> Checker {
    let mut buffer = vec![0; 32 << 10];
    let mut rested = false;
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        checker.feed(buffer.get(..n).unwrap_or_default());
        match taking {
            Taking::Slow(pause) => sleep(pause).await,
            Taking::Paused(pause) if !rested => {
                rested = true;
                sleep(pause).await;
            }
            Taking::Eager | Taking::Paused(_) => {}
        }
    }
    checker
}

pub(super) async fn collect(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = from.read_to_end(&mut all).await;
    all
}

pub(super) async fn feed(script: Script, mut stdin: tokio::process::ChildStdin) {
    let content = script.content(0);
    let mut sent = 0;
    let mut stalled = script.stalled;
    while sent < script.stdin {
        if sent >= script.stdin / 2
            && let Some(rest) = stalled.take()
        {
            sleep(rest).await;
        }
        let length = (script.stdin - sent).min(3000);
        let part = content.bytes(sent, usize::try_from(length).unwrap_or(0));
        if stdin.write_all(&part).await.is_err() {
            return;
        }
        sent += length;
    }
    if script.input == Input::Flood {
        // A flood has no end of its own: it goes on until somebody closes the pipe.
        let more = vec![b'.'; 4096];
        while stdin.write_all(&more).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
