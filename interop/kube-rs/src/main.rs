//! The crate `kube` as a real client of `wsstream serve`, driven by `cargo xtask interop`.
//!
//! Prints one JSON object a line for each case, and one that counts them at the end, so that a crash on the way
//! cannot look like success. The cluster is the one of `KUBECONFIG`.

mod cases;
mod session;

use std::{
    env,
    panic::AssertUnwindSafe,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};

/// What a case needs.
pub struct Env {
    /// Pods of the default namespace.
    pub pods: Api<Pod>,
    /// The run's folder, where gates are.
    pub folder: String,
    /// The program that emits the pattern.
    pub helper: String,
    /// Bytes of a big transfer.
    pub big: u64,
}

#[tokio::main]
async fn main() -> Result<()> {
    let (mut group, mut folder, mut helper, mut big, mut only) = (None, None, None, None, Vec::new());
    let mut words = env::args().skip(1);
    while let Some(flag) = words.next() {
        let value = words.next().with_context(|| format!("{flag} needs a value"))?;
        match flag.as_str() {
            "--group" => group = Some(value),
            "--folder" => folder = Some(value),
            "--helper" => helper = Some(value),
            "--big" => big = Some(value.parse()?),
            "--only" => only.push(value),
            _ => anyhow::bail!("unknown flag {flag}"),
        }
    }
    let group = group.context("--group")?;
    let client = Client::try_default().await.context("KUBECONFIG")?;
    let env = Env {
        pods: Api::default_namespaced(client),
        folder: folder.context("--folder")?,
        helper: helper.context("--helper")?,
        big: big.context("--big")?,
    };
    let mut count = 0;
    for (name, case) in cases::table() {
        let full = format!("{group}/{name}");
        if !only.is_empty() && !only.iter().any(|part| full.contains(part.as_str())) {
            continue;
        }
        let started = Instant::now();
        let run = tokio::time::timeout(Duration::from_secs(180), case(&env));
        let why = match AssertUnwindSafe(run).catch_unwind().await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(format!("{error:#}")),
            Ok(Err(_)) => Some("not done after 180 s".into()),
            Err(_) => Some("the client panicked".into()),
        };
        count += 1;
        let seconds = started.elapsed().as_secs_f64();
        println!("{}", serde_json::json!({"case": name, "seconds": seconds, "why": why}));
    }
    println!("{}", serde_json::json!({"done": count}));
    Ok(())
}
