//! The routes of the server that container runtimes embed, over real sockets: exec, attach and port-forward at URLs that it
//! gave out, by the library over WebSocket and SPDY.

use std::time::Duration;

use anyhow::Result;
use tokio::{
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use wsstream::{
    http::Uri,
    remotecommand::{Request, client},
};
use wsstream_testing::chaos::{
    Plan, Proxy, Script, Tally, Verdict,
    cri::Server,
    forward::{Forwarding, session::views},
    oracle::{Claim, Seen, judge},
    plan::Fault,
    script::{Departure, Finish},
    session::converse,
};

use super::{
    Budget,
    client::DEADLINE,
    forward::{library, verdict},
    sockets::{AT_ONCE, Case, SETTLES, swarm_of},
    targets::Targets,
};

/// How long what runs behind the server may take to learn that its client has gone.
const ENDS: Duration = Duration::from_secs(30);

/// One session that is about to be run.
#[derive(Debug)]
struct Routed {
    door: Door,
    plan: Plan,
}

#[derive(Debug)]
enum Door {
    Command { script: Script, attach: bool },
    Forward(Forwarding),
}

impl Case for Routed {
    fn story(&self) -> String {
        let what = match &self.door {
            Door::Command { script, attach: false } => format!("exec {script}"),
            Door::Command { script, attach: true } => format!("attach {script}"),
            Door::Forward(script) => script.to_string(),
        };
        format!("CRI: {what}\n      plan: {}", self.plan)
    }

    fn is_foreign(&self) -> bool {
        false
    }
}

/// Random sessions against one server in this process.
pub(super) async fn sweep(budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let server = Server::start().await?;
    let panics = server.panics();
    let make = |number: u64| Routed::random(seed.wrapping_add(number));
    let run = async |session: &Routed| session.run(&server).await;
    let mut tally = swarm_of(budget, AT_ONCE, false, make, run).await;
    let since = Instant::now();
    while server.sessions() > 0 && since.elapsed() < SETTLES {
        sleep(Duration::from_millis(50)).await;
    }
    let left = server.sessions();
    tally.leaks += left as u64;
    tally.panics += server.panics() - panics;
    *note = format!("seeds from {seed}; {left} sessions live");
    Ok(tally)
}

impl Routed {
    fn random(seed: u64) -> Self {
        if seed % 3 == 2 {
            let script = Forwarding::brief(seed);
            let (up, down) = script.volume();
            return Self { plan: Plan::brief(seed, up, down), door: Door::Forward(script) };
        }
        let (mut script, attach) = (Script::brief(seed), seed.is_multiple_of(5));
        if (seed >> 1).is_multiple_of(2) {
            script = script.over_spdy();
        }
        if attach {
            // It tells of no exit code.
            script.finish = Finish::Exit(0);
        }
        let (up, down) = script.volume();
        Self { plan: Plan::brief(seed, up, down), door: Door::Command { script, attach } }
    }

    async fn run(&self, server: &Server) -> Result<(Verdict, u64)> {
        let proxy = Proxy::start(server.address(), self.plan.clone()).await?;
        match &self.door {
            Door::Command { script, attach } => self.command(server, &proxy, script, *attach).await,
            Door::Forward(script) => self.forward(server, &proxy, script).await,
        }
    }

    async fn command(
        &self,
        server: &Server,
        proxy: &Proxy,
        script: &Script,
        attach: bool,
    ) -> Result<(Verdict, u64)> {
        let (path, play) = server.command(script, attach)?;
        let request = Request::command(["run"]).stdin(script.has_stdin()).stdout(true).stderr(true);
        let start = if attach { client::attach(request) } else { client::exec(request) };
        let protocol = || [script.protocol.clone()];
        let start = start.protocols(protocol()).spdy_protocols(protocol());
        let endpoint: Uri = format!("http://{}{path}", proxy.address()).parse()?;
        let connected = async {
            let socket = TcpStream::connect(proxy.address()).await?;
            anyhow::Ok(if script.spdy {
                start.connect_spdy(socket, start.spdy_request(&endpoint)?).await?
            } else {
                start.connect(socket, start.request(&endpoint)?).await?
            })
        };
        let consumed = timeout(DEADLINE, async {
            match connected.await {
                Ok(process) => converse(script, process, script.seed).await,
                Err(error) => {
                    (Claim::Lost(error.to_string()), script.checker(1), script.checker(2), Vec::new())
                }
            }
        });
        let (claim, stdout, stderr, mut wrongs) = match consumed.await {
            Ok(consumed) => consumed,
            Err(_) => (Claim::Hung, script.checker(1), script.checker(2), Vec::new()),
        };
        wrongs.extend(play.wrongs(ENDS).await);
        let left = script.departure != Departure::None;
        let short = |fault: &Fault| matches!(fault, Fault::Stall(Some(_)));
        let seen = Seen {
            claim,
            fired: proxy.record().fired.max(u32::from(left)),
            harmless: !left && self.plan.faults.iter().all(|(_, _, fault)| short(fault)),
            blind: false,
            stdout,
            stderr,
            wrongs,
        };
        Ok((judge(script, &seen), seen.stdout.seen() + seen.stderr.seen()))
    }

    async fn forward(&self, server: &Server, proxy: &Proxy, script: &Forwarding) -> Result<(Verdict, u64)> {
        let views = views(script);
        let mut targets = Targets::open(script, &views)?;
        let ports = targets.ports();
        let endpoint = format!("http://{}{}", proxy.address(), server.forward(&ports)?);
        let client = library(script, &views, &ports, proxy.address(), &endpoint, None);
        let mut wrongs = match timeout(DEADLINE, client).await {
            Ok(wrongs) => wrongs?,
            Err(_) => vec!["the client never ended".to_owned()],
        };
        wrongs.extend(targets.ended(ENDS).await);
        Ok(verdict(script, &self.plan, &views, proxy, wrongs))
    }
}
