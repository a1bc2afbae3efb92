//! Real clients against the real binary: the proof that an unmodified kubectl, the Python package, kube-rs and
//! client-go see what the specification promises; and our own client against Go's streaming server.
//!
//! One server is started for the whole run, with a config that declares every kind of pod. Each client is a
//! group; a group is a table of cases. A case is a plain function that returns an error saying what was wrong.

mod case;
mod client;
mod crictl;
mod files;
pub(crate) mod go;
mod kube_rs;
mod kubectl;
mod life;
mod own;
mod portforward;
pub(crate) mod proc;
mod python;
mod scripted;
mod server;
mod terminal;
mod tools;

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result};

use crate::{report::Totals, workspace::Workspace};
use case::Runner;
use server::Server;

/// `cargo xtask interop`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// The full tier: every kubectl, transfers of 1 GiB, 5,000 files (hours)
    #[arg(long)]
    full: bool,
    /// Only cases whose name (`group/case`) contains this text; may be repeated
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// Use the debug build of the binary instead of the release build
    #[arg(long)]
    debug: bool,
    /// Print the names of the cases and run none
    #[arg(long)]
    list: bool,
}

impl Args {
    /// What `cargo xtask full` runs.
    pub fn full() -> Self {
        Self { full: true, ..Self::default() }
    }
}

/// How much each case moves.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Bytes of a big transfer.
    big: u64,
    /// Bytes per second of the slow reader.
    slow: u64,
    /// Files of a tree that is copied.
    files: usize,
    /// How long one big transfer may take.
    limit: Duration,
}

const MIB: u64 = 1024 * 1024;

impl Sizes {
    fn of(args: &Args) -> Self {
        if args.full {
            Self { big: 1024 * MIB, slow: 8 * MIB, files: 5_000, limit: Duration::from_secs(900) }
        } else {
            // Everything arrives in the time that the slow reader takes for a small part of it.
            Self { big: 64 * MIB, slow: 16 * MIB, files: 500, limit: Duration::from_secs(180) }
        }
    }
}

/// What every case needs.
#[derive(Debug)]
struct Env {
    workspace: PathBuf,
    /// Cached tools: kubectl builds, the Python environment, the kube-rs program.
    cache: PathBuf,
    /// The binary under test.
    binary: PathBuf,
    /// This program, for `emit`: the remote side of big transfers.
    helper: PathBuf,
    sizes: Sizes,
    server: Server,
}

/// Builds the binary, starts the server and runs every chosen case.
pub fn run(workspace: &Workspace, args: &Args, totals: &mut Totals) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run_all(workspace, args, totals))
}

async fn run_all(workspace: &Workspace, args: &Args, totals: &mut Totals) -> Result<()> {
    let mut runner = Runner::new(totals, args.only.clone(), args.list);
    let versions = kubectl::versions(args.full);
    let cache = workspace.target.join("interop");
    std::fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    // Built before anything is timed.
    let binary = tools::binary(workspace, args)?;
    let folder = tempfile::Builder::new().prefix("wsstream-interop-").tempdir()?;
    // A copy: a rebuild of xtask while a long run goes on must not change what the cases execute.
    let helper = folder.path().join("helper");
    std::fs::copy(std::env::current_exe()?, &helper).context("cannot copy the helper")?;
    let server = Server::start(&binary, folder, &server::pods(&gates(&versions))).await?;
    runner.show_log_of(&server);
    let env = Arc::new(Env {
        workspace: workspace.root.clone(),
        cache,
        binary,
        helper,
        sizes: Sizes::of(args),
        server,
    });

    for version in &versions {
        kubectl::run(&env, *version, &mut runner).await;
    }
    own::run(&env, &mut runner).await;
    python::run(&env, &mut runner).await;
    kube_rs::run(&env, &mut runner).await;
    go::run(&env, &mut runner).await;
    crictl::run(&env, workspace, &mut runner).await;
    portforward::run(&env, &versions, args.full, &mut runner).await;
    life::run(&env, &versions, &mut runner).await;
    Ok(())
}

/// Pods that end when a case says so, one for each case that needs it.
fn gates(versions: &[kubectl::Version]) -> Vec<String> {
    let mut gates = Vec::new();
    for version in versions {
        gates.push(kubectl::gate("watch", version.name));
        gates.push(kubectl::gate("follow", version.name));
    }
    gates.extend(["own-follow", "python-follow", "kube-rs-follow"].map(str::to_owned));
    gates
}
