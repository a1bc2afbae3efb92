//! Port-forward: what passes through a forwarder's local ports, whoever the forwarder is.
//!
//! The pod `host` is this machine, so the far end of every connection is a socket of the case itself. One forwarder is
//! started for each case: stock kubectl, over plain SPDY and over the tunnel, and our own client.

mod cases;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::AsyncReadExt as _,
    net::TcpStream,
    process::{Child, ChildStderr, ChildStdout, Command},
    time::{Instant, timeout},
};

use super::{
    Env, Sizes,
    case::{Case, Runner},
    client::{SHORT, excerpt, pipes, read_until, spawn},
    kubectl::{self, Kubectl, Version},
};
use crate::report::Outcome;

/// Who forwards, and over what.
struct Client {
    env: Arc<Env>,
    /// What it is called in the table.
    group: String,
    kind: Kind,
}

/// All of them at once.
struct Everybody(Vec<Client>);

const EVERYBODY: &str = "portforward everybody";

enum Kind {
    Kubectl { kubectl: Kubectl, websockets: bool },
    Own { transport: &'static str, home: PathBuf },
}

/// Runs the table with every forwarder: each kubectl over what it knows, and our own client. Then all of them are idle
/// together, which takes no longer than one.
pub(super) async fn run(env: &Arc<Env>, versions: &[Version], full: bool, runner: &mut Runner<'_>) {
    let mut clients = Vec::new();
    for version in versions {
        for websockets in [true, false] {
            let carrier = if websockets { "tunnel" } else { "SPDY" };
            let group = format!("portforward kubectl {} {carrier}", version.name);
            let wanted = runner.wants_group(&group) || runner.wants_group(EVERYBODY);
            if (websockets && !version.tunnel) || !wanted {
                continue;
            }
            let started = Instant::now();
            match kubectl::find(env, *version) {
                Ok(kubectl) => clients.push((group, Kind::Kubectl { kubectl, websockets })),
                Err(error) => {
                    let outcome = Outcome::missing(format!("{error:#}"));
                    runner.record(
                        &format!("{group}/client"),
                        started.elapsed(),
                        outcome,
                        runner.log_length(),
                    );
                }
            }
        }
    }
    for transport in ["websocket", "spdy", "channels"] {
        let home = env.server.folder().join("home");
        clients.push((format!("portforward own {transport}"), Kind::Own { transport, home }));
    }
    let mut all = Vec::new();
    for (group, kind) in clients {
        let client = Client { env: Arc::clone(env), group, kind };
        runner.group(&client.group, &client, table(env.sizes, client.half_closes())).await;
        all.push(client);
    }
    let case = if full {
        Case::new("two minutes idle, then data", cases::idle_long).within(Duration::from_secs(240))
    } else {
        Case::new("12 seconds idle, then data", cases::idle_short)
    };
    runner.group(EVERYBODY, &Everybody(all), vec![case]).await;
}

fn table(sizes: Sizes, half_closes: bool) -> Vec<Case<Client>> {
    let big = sizes.limit;
    let mut cases = vec![
        Case::new("the server speaks first", cases::speaks_first),
        Case::new("the server closes first", cases::closes_first),
        Case::new("a refused port beside a running download", cases::refused).within(big),
        Case::new("a local abort in mid-download", cases::aborted).within(big),
        Case::new("200 connections at once", cases::parallel).within(big),
        Case::new("big both ways at once, hashed", cases::both_ways).within(big),
        Case::new("an unknown pod", cases::unknown_pod),
    ];
    if half_closes {
        cases.push(Case::new("the client half-closes, then a long download", cases::half_closed).within(big));
    }
    cases
}

impl Client {
    fn command(&self, args: &[&str]) -> Command {
        match &self.kind {
            Kind::Kubectl { kubectl, websockets } => kubectl.port_forward(args, *websockets),
            Kind::Own { transport, home } => {
                let mut command = Command::new(&self.env.binary);
                command
                    .args(["port-forward", "--transport", transport])
                    .args(args)
                    .env("HOME", home)
                    .env("KUBECONFIG", self.env.server.kubeconfig())
                    .env_remove("RUST_LOG");
                command
            }
        }
    }

    /// Whether one direction of a connection can end alone: over v4 channels it cannot.
    fn half_closes(&self) -> bool {
        !matches!(self.kind, Kind::Own { transport: "channels", .. })
    }

    fn big(&self) -> u64 {
        self.env.sizes.big
    }

    /// Forwards free local ports to these of the pod.
    async fn forward(&self, remotes: &[u16]) -> Result<Forwarding> {
        let pairs: Vec<String> = remotes.iter().map(|remote| format!(":{remote}")).collect();
        let mut args = vec!["--address", "127.0.0.1", "host"];
        args.extend(pairs.iter().map(String::as_str));
        let mut child = spawn(&mut self.command(&args))?;
        let (_stdin, mut stdout, mut stderr) = pipes(&mut child)?;
        let mut said = String::new();
        let mut locals = Vec::new();
        for remote in remotes {
            let end = format!(" -> {remote}\n");
            if !said.contains(&end) {
                match read_until(&mut stdout, &end, SHORT).await {
                    Ok(more) => said.push_str(&more),
                    Err(error) => {
                        let mut errors = Vec::new();
                        let _ = timeout(Duration::from_secs(1), stderr.read_to_end(&mut errors)).await;
                        bail!("{error:#}; stderr: {}", excerpt(&errors));
                    }
                }
            }
            let line = said.lines().find(|line| line.ends_with(end.trim_end())).context("no line")?;
            let port =
                line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
            locals.push(port.context("no local port")?.parse()?);
        }
        Ok(Forwarding { child, locals, stdout, stderr })
    }
}

/// A forwarder that runs, with its local ports in the order of the remote ones.
struct Forwarding {
    child: Child,
    locals: Vec<u16>,
    /// Read by nobody further on: what it prints fits into the pipe.
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Forwarding {
    async fn connect(&self, index: usize) -> Result<TcpStream> {
        let port = *self.locals.get(index).context("no such port")?;
        let socket = timeout(SHORT, TcpStream::connect(("127.0.0.1", port))).await??;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// Fails unless it still runs, with what it said; then ends it.
    async fn lives(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        self.child.start_kill()?;
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        self.stdout.read_to_end(&mut out).await?;
        self.stderr.read_to_end(&mut errors).await?;
        self.child.wait().await?;
        ensure!(ended.is_none(), "the forwarder has ended ({ended:?}): {}", excerpt(&errors));
        Ok(())
    }
}
