//! Go's own streaming code on the other side: client-go against our server, our client against the server that
//! container runtimes embed.
//!
//! kubectl is client-go too, but offers v5 alone and hides the library's errors behind its own words; the server is
//! the reference for what a client must cope with, its documented defects included.

mod client;
mod own;
pub(crate) mod server;
mod spdystream;

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use super::{Env, case::Runner};
use crate::{report::Outcome, workspace::which};

/// The two programs of interop/go.
#[derive(Debug, Clone)]
pub(crate) struct Peers {
    /// exec and attach by client-go: `client [flags] POD -- COMMAND...`.
    pub(crate) client: PathBuf,
    /// cri-streaming behind the paths of an API server: `server --kubeconfig FILE`.
    pub(crate) server: PathBuf,
}

/// Builds both programs and runs their cases.
pub(super) async fn run(env: &Arc<Env>, runner: &mut Runner<'_>) {
    if ["go spdystream server", "go spdystream client"].iter().any(|group| runner.wants_group(group)) {
        let started = Instant::now();
        match build_program(&env.workspace, &env.cache, "spdystream") {
            Ok(program) => spdystream::run(env, &program, runner).await,
            Err(error) => {
                let outcome = Outcome::missing(format!("{error:#}"));
                runner.record("go spdystream/program", started.elapsed(), outcome, runner.log_length());
            }
        }
    }
    if !runner.wants_group("go client") && !runner.wants_group("go server") {
        return;
    }
    let started = Instant::now();
    match build(&env.workspace, &env.cache) {
        Ok(peers) => {
            client::run(env, &peers, runner).await;
            own::run(env, &peers, runner).await;
        }
        Err(error) => {
            let log_from = runner.log_length();
            let outcome = Outcome::missing(format!("{error:#}"));
            runner.record("go/peers", started.elapsed(), outcome, log_from);
        }
    }
}

/// Builds both into `cache`, from the modules whose sums stand in interop/go/go.sum. Go's own cache tells what is new.
pub(crate) fn build(root: &Path, cache: &Path) -> Result<Peers> {
    Ok(Peers { client: build_program(root, cache, "client")?, server: build_program(root, cache, "server")? })
}

/// Builds one of the programs of interop/go.
pub(super) fn build_program(root: &Path, cache: &Path, name: &str) -> Result<PathBuf> {
    let Some(go) = which("go") else { bail!("no Go to build Go's own {name}") };
    let built = cache.join(format!("go-{name}"));
    if !built.is_file() {
        println!("building Go's own {name} from its modules, once");
    }
    let status = Command::new(&go)
        .args(["build", "-trimpath", "-mod=readonly", "-ldflags", "-s -w", "-o"])
        .arg(&built)
        .arg(format!("./{name}"))
        .current_dir(root.join("interop/go"))
        // The toolchain that is there: another would have to be downloaded.
        .env("GOTOOLCHAIN", "local")
        .env("CGO_ENABLED", "0")
        .status()
        .with_context(|| format!("cannot run {}", go.display()))?;
    if !status.success() {
        bail!("building interop/go/{name} ended with {status}");
    }
    Ok(built)
}
