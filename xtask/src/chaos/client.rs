//! One real session: the library in this process, or a program, against a server behind a proxy with a plan.

use std::{net::SocketAddr, path::PathBuf, process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use tokio::{
    net::TcpStream,
    process::{Child, Command},
    time::{sleep, timeout},
};
use wsstream::{
    bytes::Bytes,
    http::{HeaderValue, Uri, header::AUTHORIZATION},
    remotecommand::{Request, client},
};
use wsstream_testing::chaos::{
    Plan, Proxy, Script, Verdict,
    oracle::{Claim, Seen, judge},
    plan::Fault,
    script::{Departure, Finish, Taking},
    session::converse,
};

use super::{
    pipes::feed,
    puppet::Puppet,
    server::{Place, Running},
    words::{kubectl_claim, own_claim, split, without_log},
};

pub(super) use super::pipes::{collect, drain};

/// Within this every real session has come to an end. A changed length of a TLS record makes its receiver wait for
/// bytes that never come, which only the deadline for a dead peer (90 s) ends; all else takes seconds.
pub(super) const DEADLINE: Duration = Duration::from_secs(150);

/// What an attached command waits for.
pub(super) const GO: &[u8] = b"\n";

/// Who asks for the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    /// `remotecommand::client` in this process.
    Library,
    /// `wsstream exec`.
    Program,
    /// kubectl, whose lies are its own.
    Kubectl,
    /// client-go's own executor (interop/go/client), whose lies are its own.
    ClientGo,
}

impl Actor {
    /// Whether somebody else's code says how the session ended.
    pub(crate) fn is_foreign(self) -> bool {
        matches!(self, Self::Kubectl | Self::ClientGo)
    }
}

/// One session that is about to be run.
#[derive(Debug, Clone)]
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
    /// It attaches to the command of this pod, which begins when a line has come on its stdin.
    pub(crate) attach: Option<String>,
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
        if actor == Actor::ClientGo && script.protocol != wsstream::Subprotocol::V4 {
            // Of the versions with a status, those that its executor takes.
            script.protocol = [wsstream::Subprotocol::V5, wsstream::Subprotocol::V4]
                [usize::from(seed.is_multiple_of(4))]
            .clone();
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
        Self {
            actor,
            script,
            plan,
            words: Vec::new(),
            code: None,
            doomed: false,
            kill_after: None,
            attach: None,
        }
    }

    /// How to repeat it.
    pub(crate) fn story(&self) -> String {
        format!("{:?} {}; {:?}\n      plan: {}", self.actor, self.script, self.words, self.plan)
    }

    /// Runs and judges it; also the payload bytes that came.
    pub(crate) async fn run(&self, place: &Place, server: &Running) -> Result<(Verdict, u64)> {
        let (script, seen) = self.observe(place, server).await?;
        Ok((judge(&script, &seen), seen.stdout.seen() + seen.stderr.seen()))
    }

    /// Runs it; what there is to judge.
    pub(crate) async fn observe(&self, place: &Place, server: &Running) -> Result<(Script, Seen)> {
        let proxy = Proxy::start(server.address, self.plan.clone()).await?;
        let ended = timeout(DEADLINE, async {
            match self.actor {
                Actor::Library => self.library(place, server, proxy.address()).await,
                Actor::Program | Actor::Kubectl | Actor::ClientGo => {
                    self.program(place, server, proxy.address()).await
                }
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
        let mut script = self.script.clone();
        if let Some(code) = self.code {
            script.finish = Finish::Exit(code);
        }
        Ok((script, seen))
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let mut command = vec![place.puppet.to_string_lossy().into_owned()];
        command.extend(Puppet::words(&self.script));
        command.extend(self.words.iter().cloned());
        command
    }

    async fn library(&self, place: &Place, server: &Running, through: SocketAddr) -> Result<Consumed> {
        let script = &self.script;
        let (start, path) = match &self.attach {
            None => {
                let request = Request::command(self.command(place)).stdin(script.has_stdin());
                (client::exec(request.stdout(true).stderr(true)), "host/exec".to_owned())
            }
            Some(pod) => {
                let request = Request::default().stdin(true).stdout(true).stderr(true);
                (client::attach(request), format!("{pod}/attach"))
            }
        };
        let start = start.protocols([script.protocol.clone()]);
        let start = if script.spdy { start.spdy_protocols([script.protocol.clone()]) } else { start };
        Ok(match connect(&start, script.spdy, server, through, &path).await? {
            Ok(mut process) => {
                if let (Some(_), Some(stdin)) = (&self.attach, &mut process.stdin) {
                    // Where it cannot be sent, the outcome says why.
                    let _ = stdin.send(Bytes::from_static(GO)).await;
                    if !script.has_stdin() {
                        process.stdin = None;
                    }
                }
                converse(script, process, script.seed).await
            }
            Err(why) => (Claim::Lost(why), script.checker(1), script.checker(2), Vec::new()),
        })
    }

    async fn program(&self, place: &Place, server: &Running, through: SocketAddr) -> Result<Consumed> {
        let script = &self.script;
        let (mut command, kubeconfig) = program(self.actor, place, server, through)?;
        self.ask(&mut command, place, server);
        let stdin = if script.has_stdin() || self.attach.is_some() { Stdio::piped() } else { Stdio::null() };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().context("cannot run the client")?;
        let consumed = self.watch(child).await;
        let _ = std::fs::remove_file(kubeconfig);
        consumed
    }

    /// The words of a client's command line.
    fn ask(&self, command: &mut Command, place: &Place, server: &Running) {
        let script = &self.script;
        if self.actor == Actor::ClientGo {
            // What client-go says is told from the command's words by the prefix.
            command.args([
                "--prefix",
                "client-go: ",
                "--container",
                "host",
                "--protocol",
                script.protocol.name(),
                "--transport",
                if script.spdy { "spdy" } else { "websocket" },
            ]);
            if !server.token.is_empty() {
                command.args(["--token", &server.token]);
            }
            if script.has_stdin() {
                command.arg("--stdin");
            }
            command.args(["host", "--"]).args(self.command(place));
            return;
        }
        if self.actor == Actor::Kubectl && script.spdy {
            command.env("KUBECTL_REMOTE_COMMAND_WEBSOCKETS", "false");
        }
        // Quiet: notices would stand among the command's own words.
        match &self.attach {
            None if self.actor == Actor::Kubectl => command.arg("exec"),
            None => command.args(["exec", "--quiet"]),
            Some(_) => command.args(["attach", "--quiet"]),
        };
        if self.actor == Actor::Program {
            let name = script.protocol.name();
            command.args(["--protocol", if name.is_empty() { "none" } else { name }]);
            command.args(["--transport", if script.spdy { "spdy" } else { "websocket" }]);
        }
        if script.has_stdin() || self.attach.is_some() {
            command.arg("-i");
        }
        match &self.attach {
            None => command.args(["-c", "host", "host", "--"]).args(self.command(place)),
            Some(pod) => command.args(["-c", pod, pod]),
        };
    }

    async fn watch(&self, mut child: Child) -> Result<Consumed> {
        let script = &self.script;
        let (stdout, stderr) =
            (child.stdout.take().context("no stdout")?, child.stderr.take().context("no stderr")?);
        let goes = self.attach.is_some();
        let feeder = child.stdin.take().map(|stdin| tokio::spawn(feed(script.clone(), stdin, goes)));
        let out = tokio::spawn(drain(stdout, script.checker(1), script.taking, None));
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
        let mut text = err.await?;
        if self.actor.is_foreign() {
            text = without_log(&text);
        }
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
        } else if self.actor.is_foreign() {
            kubectl_claim(status, words)
        } else {
            own_claim(status, words, &mut wrongs)
        };
        Ok((claim, stdout, stderr, wrongs))
    }
}

/// What a client was told and what it got.
pub(super) type Consumed = wsstream_testing::chaos::session::Consumed;

/// Asks for a session at `place`, `POD/exec` or `POD/attach`; the inner error is why there is none.
pub(super) async fn connect(
    start: &client::Start,
    spdy: bool,
    server: &Running,
    through: SocketAddr,
    place: &str,
) -> Result<Result<client::Process, String>> {
    let endpoint: Uri = format!("http://{through}/api/v1/namespaces/default/pods/{place}").parse()?;
    let mut upgrade = if spdy { start.spdy_request(&endpoint)? } else { start.request(&endpoint)? };
    authorise(&mut upgrade, server)?;
    let connected = async {
        let socket = TcpStream::connect(through).await.map_err(|error| error.to_string())?;
        let connected = match spdy {
            true => start.connect_spdy(socket, upgrade).await,
            false => start.connect(socket, upgrade).await,
        };
        connected.map_err(|error| error.to_string())
    };
    Ok(connected.await)
}

/// A client program that is led through the proxy, and the kubeconfig that leads it, to be removed in the end.
pub(super) fn program(
    actor: Actor,
    place: &Place,
    server: &Running,
    through: SocketAddr,
) -> Result<(Command, PathBuf)> {
    let kubeconfig = server.kubeconfig_for(&format!("kubeconfig-{}", through.port()), through)?;
    let mut command = match actor {
        Actor::Kubectl => Command::new(place.peers.kubectl()?),
        Actor::ClientGo => Command::new(place.peers.go()?.client),
        Actor::Library | Actor::Program => Command::new(&place.binary),
    };
    command.env("HOME", place.folder.path()).env("KUBECONFIG", &kubeconfig).env_remove("RUST_LOG");
    Ok((command, kubeconfig))
}

/// Adds the server's token, where it has one.
pub(super) fn authorise<B>(request: &mut wsstream::http::Request<B>, server: &Running) -> Result<()> {
    if !server.token.is_empty() {
        let bearer = HeaderValue::from_str(&format!("Bearer {}", server.token))?;
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    Ok(())
}
