//! One exec or attach, driven to its end or to a line of its output.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::api::{AttachParams, AttachedProcess};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    time::timeout,
};

use crate::Env;

/// How long something small may take.
pub const SHORT: Duration = Duration::from_secs(30);

/// A session that ended.
pub struct Ended {
    pub stdout: String,
    pub stderr: String,
    pub code: Option<i32>,
    pub status: Status,
}

/// stdout and stderr without stdin.
pub fn plain() -> AttachParams {
    AttachParams::default().stdin(false).stdout(true).stderr(true)
}

/// Runs a command on pod `host` with some input to its end.
pub async fn run(env: &Env, command: &[&str], input: Option<&[u8]>) -> Result<Ended> {
    let params = plain().stdin(input.is_some());
    let mut process = env.pods.exec("host", command.iter().copied(), &params).await?;
    let status = process.take_status().context("no status")?;
    let mut out = process.stdout().context("no stdout")?;
    let mut err = process.stderr().context("no stderr")?;
    let stdin = process.stdin();
    let (mut stdout, mut stderr) = (String::new(), String::new());
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            stdin.write_all(input).await?;
            stdin.shutdown().await?;
        }
        std::io::Result::Ok(())
    };
    let all = async {
        tokio::join!(feed, out.read_to_string(&mut stdout), err.read_to_string(&mut stderr), status)
    };
    let (fed, read_out, read_err, status) = timeout(SHORT, all).await.context("not done after 30 s")?;
    fed?;
    read_out?;
    read_err?;
    let status = status.context("the session ended without a status")?;
    Ok(Ended { stdout, stderr, code: code(&status), status })
}

/// The exit code that a status carries.
pub fn code(status: &Status) -> Option<i32> {
    if status.status.as_deref() == Some("Success") {
        return Some(0);
    }
    let causes = status.details.as_ref()?.causes.as_ref()?;
    causes.iter().find(|cause| cause.reason.as_deref() == Some("ExitCode"))?.message.as_ref()?.parse().ok()
}

/// Waits for the status of a session and checks its exit code.
pub async fn exits(process: &mut AttachedProcess, want: i32) -> Result<()> {
    let status = process.take_status().context("no status")?;
    let status =
        timeout(SHORT, status).await.context("no status after 30 s")?.context("ended without a status")?;
    ensure!(code(&status) == Some(want), "exit code {want} expected, got {status:?}");
    Ok(())
}

/// Reads until the text has come.
pub async fn until(from: &mut (impl AsyncRead + Unpin), text: &str) -> Result<String> {
    let mut seen = Vec::new();
    let mut buffer = [0; 4096];
    let read = async {
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = from.read(&mut buffer).await?;
            ensure!(count > 0, "the output ended without {text:?}: {:?}", String::from_utf8_lossy(&seen));
            seen.extend_from_slice(&buffer[..count]);
        }
        Ok(())
    };
    match timeout(SHORT, read).await {
        Ok(result) => result.map(|()| String::from_utf8_lossy(&seen).into_owned()),
        Err(_) => bail!("no {text:?} after 30 s: {:?}", String::from_utf8_lossy(&seen)),
    }
}

/// Counts and hashes a stream to its end.
pub async fn hash(from: &mut (impl AsyncRead + Unpin)) -> Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0;
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok((bytes, hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect()));
        }
        hasher.update(&buffer[..count]);
        bytes += count as u64;
    }
}
