//! Stock kubectl, one group per version and carrier: the client that must not notice that this is no cluster.

mod attach;
mod copy;
mod errors;
mod exec;
mod get;
mod logs;
mod tty;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use anyhow::Result;
use tokio::process::Command;

use super::{
    Env, Sizes,
    case::{Case, Runner},
    client::{Finished, SHORT, finish},
    server::Server,
    terminal::Terminal,
    tools,
};
use crate::report::Outcome;

/// One release and which of its verbs know WebSockets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Version {
    /// `1.33`.
    pub(super) name: &'static str,
    /// `exec`, `attach` and `cp`: since 1.29 behind `KUBECTL_REMOTE_COMMAND_WEBSOCKETS`, since 1.30 without it.
    pub(super) websocket: bool,
    /// `port-forward`: since 1.30 behind `KUBECTL_PORT_FORWARD_WEBSOCKETS`, since 1.31 without it.
    pub(super) tunnel: bool,
}

const fn version(name: &'static str, websocket: bool, tunnel: bool) -> Version {
    Version { name, websocket, tunnel }
}

/// Every release that is run, the newest first.
const VERSIONS: &[Version] = &[
    version("1.33", true, true),
    version("1.32", true, true),
    version("1.31", true, true),
    version("1.30", true, true),
    version("1.29", true, false),
    version("1.28", false, false),
    version("1.27", false, false),
];

/// The releases of a tier: all of them, or the newest and the oldest.
pub(super) fn versions(full: bool) -> Vec<Version> {
    let ends = [VERSIONS.first(), VERSIONS.last()];
    VERSIONS.iter().filter(|row| full || ends.contains(&Some(*row))).copied().collect()
}

/// What carries `exec`, `attach` and `cp`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Carrier {
    /// v5 over a WebSocket.
    WebSocket,
    /// v4 over SPDY/3.1.
    Spdy,
}

/// One kubectl, with a home of its own: discovery is cached there for hours.
pub(super) struct Kubectl {
    env: Arc<Env>,
    path: PathBuf,
    version: String,
    carrier: Carrier,
    home: PathBuf,
}

/// The variable that turns WebSockets on or off for `exec`, `attach` and `cp`.
pub(super) const WEBSOCKETS: &str = "KUBECTL_REMOTE_COMMAND_WEBSOCKETS";

/// The pod that ends when a case of this kubectl says so.
pub(super) fn gate(purpose: &str, version: &str) -> String {
    format!("{purpose}-{}", version.replace('.', "-"))
}

/// A kubectl for cases outside this group, with what carries its streams by default.
pub(super) fn find(env: &Arc<Env>, version: Version) -> Result<Kubectl> {
    found(env, version, if version.websocket { Carrier::WebSocket } else { Carrier::Spdy })
}

fn found(env: &Arc<Env>, version: Version, carrier: Carrier) -> Result<Kubectl> {
    let path = tools::kubectl(env, version.name)?;
    let home = env.server.folder().join(format!("home-{}", version.name));
    std::fs::create_dir_all(&home)?;
    Ok(Kubectl { env: Arc::clone(env), path, version: version.name.to_owned(), carrier, home })
}

/// Runs one version: the whole table over what it uses by itself, and what streams over SPDY too.
pub(super) async fn run(env: &Arc<Env>, version: Version, runner: &mut Runner<'_>) {
    for carrier in [Carrier::WebSocket, Carrier::Spdy] {
        let second = carrier == Carrier::Spdy && version.websocket;
        if carrier == Carrier::WebSocket && !version.websocket {
            continue;
        }
        let group =
            format!("kubectl {}{}", version.name, if carrier == Carrier::Spdy { " SPDY" } else { "" });
        if !runner.wants_group(&group) {
            continue;
        }
        let started = Instant::now();
        match found(env, version, carrier) {
            Ok(kubectl) => {
                println!("{group}: {}", kubectl.path.display());
                let mut cases = table(env.sizes);
                if second {
                    // Nothing of these is carried by a stream.
                    cases
                        .retain(|case| !case.name().starts_with("logs/") && !case.name().starts_with("get/"));
                }
                runner.group(&group, &kubectl, cases).await;
            }
            Err(error) => {
                let name = format!("{group}/client");
                runner.record(
                    &name,
                    started.elapsed(),
                    Outcome::missing(format!("{error:#}")),
                    runner.log_length(),
                );
            }
        }
    }
}

fn table(sizes: Sizes) -> Vec<Case<Kubectl>> {
    let big = sizes.limit;
    vec![
        Case::new("exec/carried by what was asked for", exec::carrier),
        Case::new("exec/separate stdout and stderr", exec::streams),
        Case::new("exec/exit codes 0, 7, 255", exec::exit_codes),
        Case::new("exec/killed command", exec::killed),
        Case::new("exec/missing binary", exec::missing),
        Case::new("exec/arguments arrive as they are", exec::arguments),
        Case::new("exec/empty stdin", exec::stdin_empty),
        Case::new("exec/small stdin", exec::stdin_small),
        Case::new("exec/stdin nobody reads", exec::stdin_unread).within(big),
        Case::new("exec/big stdin, hashed", exec::stdin_big).within(big),
        Case::new("exec/big stdin and stdout at once", exec::round_trip).within(big),
        Case::new("exec/big stdout to a slow reader, exit 7", exec::stdout_slow).within(big),
        Case::new("exec -it/first size", tty::first_size),
        Case::new("exec -it/resize while running", tty::resize),
        Case::new("exec -it/Ctrl-C", tty::ctrl_c),
        Case::new("exec -it/Ctrl-D", tty::ctrl_d),
        Case::new("exec -it/exit code", tty::exit_code),
        Case::new("attach/sees the output", attach::output),
        Case::new("attach -i/reaches stdin", attach::input),
        Case::new("attach -it/a terminal that outlives its client", attach::terminal),
        Case::new("cp/one big file, up", copy::file_up).within(big),
        Case::new("cp/one big file, down", copy::file_down).within(big),
        Case::new("cp/many small files, up", copy::tree_up).within(big),
        Case::new("cp/many small files, down", copy::tree_down).within(big),
        Case::new("logs/whole", logs::whole),
        Case::new("logs/--tail", logs::tail),
        Case::new("logs/--timestamps", logs::timestamps),
        Case::new("logs/--since", logs::since),
        Case::new("logs/-c", logs::container),
        Case::new("logs/-f sees new lines", logs::follow_live),
        Case::new("logs/-f ends with its container", logs::follow_ends),
        Case::new("get/pods", get::table),
        Case::new("get/pods -o json", get::json),
        Case::new("get/pod by name", get::one),
        Case::new("get/pods -w", get::watch),
        Case::new("errors/wrong token", errors::token),
        Case::new("errors/wrong pod", errors::pod),
        Case::new("errors/wrong container", errors::container),
        Case::new("errors/wrong namespace", errors::namespace),
    ]
}

impl Kubectl {
    /// The client with arguments, in an environment that holds nothing of the developer's own cluster.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.path);
        command.args(args).env("HOME", &self.home).env("KUBECONFIG", self.server().kubeconfig());
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy();
            if key.starts_with("KUBECTL_") || key.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(&*key);
            }
        }
        command.env(WEBSOCKETS, self.websockets());
        command
    }

    fn websockets(&self) -> &'static str {
        if self.carrier == Carrier::WebSocket { "true" } else { "false" }
    }

    /// The program's path.
    pub(super) fn program(&self) -> &Path {
        &self.path
    }

    /// `1.33`.
    pub(super) fn version(&self) -> &str {
        &self.version
    }

    /// `kubectl exec` for cases outside this group.
    pub(super) fn exec(&self, args: &[&str]) -> Command {
        let mut words = vec!["exec"];
        words.extend(args);
        self.command(&words)
    }

    /// `kubectl port-forward`, through a WebSocket or over plain SPDY.
    pub(super) fn port_forward(&self, args: &[&str], websockets: bool) -> Command {
        let mut words = vec!["port-forward"];
        words.extend(args);
        let mut command = self.command(&words);
        command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", if websockets { "true" } else { "false" });
        command
    }

    /// Runs a short command without input.
    async fn run(&self, args: &[&str]) -> Result<Finished> {
        self.feed(args, b"").await
    }

    /// Runs a short command with input.
    async fn feed(&self, args: &[&str], input: &[u8]) -> Result<Finished> {
        let ended = finish(&mut self.command(args), input, SHORT).await?;
        if self.version == "1.33" || self.carrier == Carrier::Spdy {
            return Ok(ended);
        }
        // Before 1.33 client-go reads before it has registered its streams (kubernetes#131189): once in a hundred
        // runs on a busy machine it complains of the ready message. 1.33 proves that nothing else is meant.
        Ok(ended.without_stderr_line("Unknown stream id 1, discarding message"))
    }

    /// Runs the client on a terminal.
    pub(super) fn terminal(&self, args: &[&str], size: (u16, u16)) -> Result<Terminal> {
        let env = [
            ("HOME", self.home.as_path()),
            ("KUBECONFIG", self.server().kubeconfig()),
            (WEBSOCKETS, Path::new(self.websockets())),
        ];
        Terminal::start(&self.path, args, &env, size)
    }

    fn server(&self) -> &Server {
        &self.env.server
    }

    fn sizes(&self) -> Sizes {
        self.env.sizes
    }

    fn helper(&self) -> String {
        self.env.helper.to_string_lossy().into_owned()
    }

    /// A fresh path of this run that cases of several versions do not share.
    fn scratch(&self, name: &str) -> PathBuf {
        self.server().folder().join("work").join(format!("{}-{name}", self.version))
    }
}
