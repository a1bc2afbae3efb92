//! Clients that are programs of their own: they run their cases themselves and report one JSON object a line.

use std::{path::Path, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, anyhow};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::Command,
    time::timeout,
};

use super::{Env, MIB, case::Runner, client::excerpt};
use crate::report::Outcome;

/// How long a client may be silent: its own cases are bounded below that.
const SILENCE: Duration = Duration::from_secs(240);

/// Runs a client that takes `--group --folder --helper --big --only`, and records its cases.
pub(super) async fn run(env: &Env, group: &str, mut command: Command, runner: &mut Runner<'_>) {
    if runner.lists(&format!("{group}/… (the client's own table)")) {
        return;
    }
    command
        .args(["--group", group, "--folder"])
        .arg(env.server.folder())
        .arg("--helper")
        .arg(&env.helper)
        // These clients copy every byte more than once in slow code: a size that shows faults, not patience.
        .args(["--big", &env.sizes.big.min(64 * MIB).to_string()])
        .env("KUBECONFIG", env.server.kubeconfig())
        .env("HOME", env.server.folder().join("home"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    for only in runner.filters() {
        command.args(["--only", only]);
    }
    let log_from = runner.log_length();
    if let Err(error) = follow(group, command, runner).await {
        runner.record(
            &format!("{group}/client"),
            Duration::ZERO,
            Outcome::Failed(format!("{error:#}")),
            log_from,
        );
    }
}

async fn follow(group: &str, mut command: Command, runner: &mut Runner<'_>) -> Result<()> {
    let mut child = command.spawn()?;
    let stdout = child.stdout.take().ok_or_else(|| anyhow!("no stdout"))?;
    let mut stderr = child.stderr.take().ok_or_else(|| anyhow!("no stderr"))?;
    let errors = tokio::spawn(async move {
        let mut errors = Vec::new();
        let _ = stderr.read_to_end(&mut errors).await;
        errors
    });
    let mut lines = BufReader::new(stdout).lines();
    let (mut count, mut promised) = (0, None);
    let mut log_from = runner.log_length();
    while let Some(line) = timeout(SILENCE, lines.next_line()).await.context("the client is stuck")?? {
        let Ok(report) = serde_json::from_str::<Value>(&line) else {
            println!("    {group}: {line}");
            continue;
        };
        if let Some(done) = report["done"].as_u64() {
            promised = Some(done);
            continue;
        }
        let outcome = report["why"].as_str().map_or(Outcome::Passed, |why| Outcome::Failed(why.to_owned()));
        let name = format!("{group}/{}", report["case"].as_str().unwrap_or("?"));
        let took =
            Duration::try_from_secs_f64(report["seconds"].as_f64().unwrap_or_default()).unwrap_or_default();
        runner.record(&name, took, outcome, log_from);
        log_from = runner.log_length();
        count += 1;
    }
    let status = child.wait().await?;
    if promised != Some(count) || !status.success() {
        let errors = errors.await.unwrap_or_default();
        return Err(anyhow!("the client ended with {status} after {count} cases:\n{}", excerpt(&errors)));
    }
    Ok(())
}

/// Records that the client could not be had.
pub(super) fn missing(
    group: &str,
    program: Result<impl AsRef<Path>>,
    runner: &mut Runner<'_>,
) -> Option<Command> {
    match program {
        Ok(path) => Some(Command::new(path.as_ref())),
        Err(error) => {
            let from = runner.log_length();
            runner.record(
                &format!("{group}/client"),
                Duration::ZERO,
                Outcome::missing(format!("{error:#}")),
                from,
            );
            None
        }
    }
}
