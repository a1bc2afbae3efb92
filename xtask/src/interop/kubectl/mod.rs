//! Stock kubectl, one group per version: the client that must not notice that this is no cluster.

mod attach;
mod copy;
mod errors;
mod exec;
mod get;
mod logs;
mod tty;

use std::{path::PathBuf, sync::Arc, time::Instant};

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

/// One kubectl, with a home of its own: discovery is cached there for hours.
pub(super) struct Kubectl {
    env: Arc<Env>,
    path: PathBuf,
    version: String,
    home: PathBuf,
}

/// The pod that ends when a case of this kubectl says so.
pub(super) fn gate(purpose: &str, version: &str) -> String {
    format!("{purpose}-{}", version.replace('.', "-"))
}

/// A kubectl for cases outside this group.
pub(super) fn find(env: &Arc<Env>, version: &str) -> Result<Kubectl> {
    let path = tools::kubectl(env, version)?;
    let home = env.server.folder().join(format!("home-{version}"));
    std::fs::create_dir_all(&home)?;
    Ok(Kubectl { env: Arc::clone(env), path, version: version.to_owned(), home })
}

/// Runs the whole table with one version.
pub(super) async fn run(env: &Arc<Env>, version: &str, runner: &mut Runner<'_>) {
    let group = format!("kubectl {version}");
    if !runner.wants_group(&group) {
        return;
    }
    let started = Instant::now();
    match find(env, version) {
        Ok(kubectl) => {
            println!("{group}: {}", kubectl.path.display());
            runner.group(&group, &kubectl, table(env.sizes)).await;
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

fn table(sizes: Sizes) -> Vec<Case<Kubectl>> {
    let big = sizes.limit;
    vec![
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
        command
    }

    /// The program's path.
    pub(super) fn program(&self) -> &std::path::Path {
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
        if self.version == "1.33" {
            return Ok(ended);
        }
        // Before 1.33 client-go reads before it has registered its streams (kubernetes#131189): once in a hundred
        // runs on a busy machine it complains of the ready message. 1.33 proves that nothing else is meant.
        Ok(ended.without_stderr_line("Unknown stream id 1, discarding message"))
    }

    /// Runs the client on a terminal.
    pub(super) fn terminal(&self, args: &[&str], size: (u16, u16)) -> Result<Terminal> {
        let env = [("HOME", self.home.as_path()), ("KUBECONFIG", self.server().kubeconfig())];
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
