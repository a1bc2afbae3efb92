//! Forwarded connections over real sockets: by the library, by `wsstream port-forward` and by kubectl, through the proxy to
//! targets in this process, so that the truth of both directions is known.

use std::{net::SocketAddr, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufRead, AsyncBufReadExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    time::{sleep, timeout},
};
use wsstream::{http::Uri, portforward::client::Wire};
use wsstream_testing::chaos::{
    Plan, Proxy, Tally, Verdict,
    forward::{
        Conversation, Forwarding,
        client::{attempt, converse},
        judge::{Seen, judge},
        party::{End, Party, View},
        script::Departure,
        session::{Views, seen, views},
    },
    plan::Fault,
};

use super::{
    Budget,
    client::{Actor, DEADLINE, authorise, collect, program},
    server::{Place, Running, Target},
    sockets::{AT_ONCE, Case, SETTLES, join_all, swarm_of},
    targets::{Socket, Targets},
};

/// How long a client may take for its session, and a program for its local ports.
const OPENS: Duration = Duration::from_secs(60);

/// How long the programs behind the ports may take when the local ones are done, and to learn that their client has gone.
const TARGETS_END: Duration = Duration::from_secs(30);

/// How long those behind kubectl may take before it is ended.
const FOREIGN_ENDS: Duration = Duration::from_secs(2);

/// How soon `wsstream port-forward` must have ended when it is asked to.
const STOPS: Duration = Duration::from_secs(15);

/// One session that is about to be run.
#[derive(Debug)]
pub(super) struct Forwarded {
    actor: Actor,
    script: Forwarding,
    plan: Plan,
    /// The program opens a new session when one is lost.
    reconnects: bool,
}

impl Case for Forwarded {
    fn story(&self) -> String {
        let again = if self.reconnects { ", connects again" } else { "" };
        format!("{:?}{again} {}\n      plan: {}", self.actor, self.script, self.plan)
    }

    fn is_foreign(&self) -> bool {
        self.actor.is_foreign()
    }
}

/// Random sessions against one server; of `kubectl`'s, or of ours.
pub(super) async fn sweep(
    place: &Place,
    kubectl: bool,
    budget: &Budget,
    seed: u64,
    note: &mut String,
) -> Result<Tally> {
    let target = if kubectl { Target::Tls } else { Target::Plain };
    let server = Running::start(place, target, None).await?;
    let before = server.reading()?;
    let make = |number: u64| {
        let seed = seed.wrapping_add(number);
        // Programs take as long to start as many sessions of the library do.
        let actor = match (kubectl, seed % 4) {
            (true, _) => Actor::Kubectl,
            (false, 0) => Actor::Program,
            (false, _) => Actor::Library,
        };
        Forwarded::random(actor, seed)
    };
    let run = async |session: &Forwarded| session.run(place, &server).await;
    let mut tally = swarm_of(budget, AT_ONCE, false, make, run).await;
    let (after, leaks) = server.settles(&before, SETTLES).await?;
    tally.leaks += leaks;
    tally.panics += server.panics();
    *note = format!(
        "seeds from {seed}; the server holds {} descriptors (before {}), {} KiB (before {})",
        after.descriptors, before.descriptors, after.resident, before.resident
    );
    Ok(tally)
}

impl Forwarded {
    fn random(actor: Actor, seed: u64) -> Self {
        let script = Forwarding::brief(seed);
        let script = match actor {
            Actor::Kubectl => script.by_kubectl(),
            Actor::Program => script.by_program(),
            _ => script,
        };
        let (up, down) = script.volume();
        Self { actor, plan: Plan::brief(seed, up, down), script, reconnects: seed.is_multiple_of(3) }
    }

    async fn run(&self, place: &Place, server: &Running) -> Result<(Verdict, u64)> {
        let views = views(&self.script);
        let mut targets = Targets::open(&self.script, &views)?;
        let proxy = Proxy::start(server.address, self.plan.clone()).await?;
        let through = proxy.address();
        let client = timeout(DEADLINE, async {
            match self.actor {
                Actor::Library => {
                    let endpoint =
                        format!("http://{through}/api/v1/namespaces/default/pods/host/portforward");
                    library(&self.script, &views, &targets.ports(), through, &endpoint, Some(server)).await
                }
                _ => self.program(place, server, through, &views, &mut targets).await,
            }
        });
        let mut wrongs = match client.await {
            Ok(wrongs) => wrongs?,
            Err(_) => vec!["the client never ended".to_owned()],
        };
        wrongs.extend(targets.ended(TARGETS_END).await);
        Ok(verdict(&self.script, &self.plan, &views, &proxy, wrongs))
    }

    async fn program(
        &self,
        place: &Place,
        server: &Running,
        through: SocketAddr,
        views: &Views,
        targets: &mut Targets,
    ) -> Result<Vec<String>> {
        let (mut command, kubeconfig) = program(self.actor, place, server, through)?;
        self.ask(&mut command);
        command.args(targets.ports().iter().map(|port| format!(":{port}")));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot run the client")?;
        let stderr = tokio::spawn(collect(child.stderr.take().context("no stderr")?));
        let stdout = child.stdout.take().context("no stdout")?;
        let mut wrongs = Vec::new();
        let mut said = BufReader::new(stdout);
        if let Ok(Some(locals)) = timeout(OPENS, locals(&mut said, &targets.ports())).await {
            let rest = tokio::spawn(collect(said));
            let each = self.script.connections.iter().zip(&locals).zip(views.iter());
            let conversations = join_all(each.map(|((one, port), [view, _])| near(one, *port, view)));
            // They live until the program has gone: a local socket that is closed before is an end in good order, which a
            // program that is about to be killed may still hand on.
            tokio::pin!(conversations);
            let stayed = tokio::select! {
                _ = &mut conversations => true,
                () = self.leaves(views) => false,
            };
            if stayed && self.is_foreign() {
                // What it leaves half open is its own affair.
                let _ = targets.ended(FOREIGN_ENDS).await;
            } else if stayed {
                // It cannot know when the programs behind the ports are done.
                wrongs.extend(targets.ended(TARGETS_END).await);
            }
            stop(&mut child, stayed && !self.is_foreign(), &mut wrongs).await?;
            rest.await?;
        } else {
            // It has not come so far, and says so by its exit code.
            child.start_kill()?;
            let status = child.wait().await?;
            if status.success() {
                wrongs.push("no ports, and exit code 0".to_owned());
            }
        }
        let words = String::from_utf8_lossy(&stderr.await?).into_owned();
        if words.contains("panicked at") {
            wrongs.push(format!("panic: {words}"));
        }
        let _ = std::fs::remove_file(kubeconfig);
        Ok(wrongs)
    }

    /// The words of a client's command line, but the ports.
    fn ask(&self, command: &mut Command) {
        command.args(["port-forward", "--address", "127.0.0.1"]);
        if self.actor == Actor::Kubectl {
            let tunnel = (self.script.wire == Wire::Tunnel).to_string();
            command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", tunnel).arg("pod/host");
            return;
        }
        let transport = match self.script.wire {
            Wire::Spdy => "spdy",
            Wire::Channels(_) => "channels",
            _ => "websocket",
        };
        command.args(["--transport", transport]);
        if !self.reconnects {
            command.arg("--no-reconnect");
        }
        command.arg("host");
    }

    /// Resolves when the program is to be killed, which may be never.
    async fn leaves(&self, views: &Views) {
        let (Departure::Client(at), Some([near, _])) = (self.script.departure, views.first()) else {
            return std::future::pending().await;
        };
        if near.subscribe().wait_for(|view| view.heard.seen() >= at).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Has all conversations over a session of the library's; `server`: whose token to bring.
pub(super) async fn library(
    script: &Forwarding,
    views: &Views,
    ports: &[u16],
    through: SocketAddr,
    endpoint: &str,
    server: Option<&Running>,
) -> Result<Vec<String>> {
    let attempt = attempt(script, ports);
    let mut request = attempt.request(&endpoint.parse::<Uri>()?)?;
    if let Some(server) = server {
        authorise(&mut request, server)?;
    }
    let opened = timeout(OPENS, async {
        let socket = TcpStream::connect(through).await.ok()?;
        attempt.connect(socket, request).await.ok()
    });
    // Refused, lost or silent: no connection, and nobody was told that there is one.
    let Ok(Some((session, driver))) = opened.await else { return Ok(Vec::new()) };
    Ok(converse(Arc::new(script.clone()), Arc::clone(views), ports, session, driver).await)
}

/// What became of a session, and the bytes that were checked.
pub(super) fn verdict(
    script: &Forwarding,
    plan: &Plan,
    views: &Views,
    proxy: &Proxy,
    wrongs: Vec<String>,
) -> (Verdict, u64) {
    let (connections, claim) = seen(views);
    let bytes = connections.iter().map(|both| both.near.heard.seen() + both.far.heard.seen()).sum();
    let short = |fault: &Fault| matches!(fault, Fault::Stall(Some(_)));
    let harmless = proxy.record().fired == 0 || plan.faults.iter().all(|(_, _, fault)| short(fault));
    let calm = harmless && script.departure == Departure::None;
    let verdict = judge(script, &Seen { connections, calm, blind: false, wrongs });
    (
        if let Verdict::Lie(what) = verdict {
            Verdict::Lie(format!("{what}\n      {claim}"))
        } else {
            verdict
        },
        bytes,
    )
}

/// The local ports, in the order of the pod's; `None` when the program ends before.
async fn locals(said: &mut (impl AsyncBufRead + Unpin), ports: &[u16]) -> Option<Vec<u16>> {
    let mut found: Vec<Option<u16>> = vec![None; ports.len()];
    let mut line = String::new();
    while found.iter().any(Option::is_none) {
        line.clear();
        if said.read_line(&mut line).await.ok()? == 0 {
            return None;
        }
        let words = line.trim_end().strip_prefix("Forwarding from 127.0.0.1:");
        let Some((local, remote)) = words.and_then(|words| words.split_once(" -> ")) else { continue };
        let (Ok(local), Ok(remote)) = (local.parse(), remote.parse::<u16>()) else { continue };
        for (port, slot) in ports.iter().zip(&mut found) {
            if *port == remote {
                *slot = Some(local);
            }
        }
    }
    found.into_iter().collect()
}

/// The program at a local port.
async fn near(one: &Conversation, port: u16, view: &watch::Sender<View>) {
    sleep(one.later).await;
    match TcpStream::connect(("127.0.0.1", port)).await {
        Ok(socket) => Socket::talk(socket, Party::client(one), view).await,
        Err(error) => view.send_modify(|view| {
            view.end = Some(End::Broken(error.to_string()));
            view.silent = true;
        }),
    }
}

/// Ends the forwarder: asks ours, and kills what is to leave without a word.
async fn stop(child: &mut Child, asks: bool, wrongs: &mut Vec<String>) -> Result<()> {
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw);
    if let Some(pid) = pid.filter(|_| asks) {
        let _ = kill_process(pid, Signal::TERM);
        if timeout(STOPS, child.wait()).await.is_err() {
            wrongs.push("the program never ended when it was asked to".to_owned());
        }
    }
    let _ = child.start_kill();
    child.wait().await?;
    Ok(())
}
