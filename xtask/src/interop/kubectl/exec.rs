//! `kubectl exec` without a terminal.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::time::timeout;

use super::{Carrier, Kubectl};
use crate::interop::client::{SHORT, feed, pipes, read_until, spawn, transfer};

/// Nothing else here would notice if kubectl did not do as it is told.
pub(super) async fn carrier(kubectl: &Kubectl) -> Result<()> {
    const WEBSOCKET: &str = "The subprotocol is v5.channel.k8s.io";
    const SPDY: &str = "X-Stream-Protocol-Version: v4.channel.k8s.io";
    let (offered, other) = match kubectl.carrier {
        Carrier::WebSocket => (WEBSOCKET, SPDY),
        Carrier::Spdy => (SPDY, WEBSOCKET),
    };
    // At this level it prints the headers of a SPDY request, and what a WebSocket came to.
    let ended = kubectl.run(&["-v=7", "exec", "host", "--", "true"]).await?.code(0)?;
    let ended = ended.stderr_has(&[offered])?;
    if String::from_utf8_lossy(&ended.stderr).contains(other) {
        return Err(ended.fault(&format!("no {other:?} expected in stderr")));
    }
    Ok(())
}

pub(super) async fn streams(kubectl: &Kubectl) -> Result<()> {
    let script = "echo out; echo err >&2; echo more";
    kubectl
        .run(&["exec", "host", "--", "sh", "-c", script])
        .await?
        .code(0)?
        .stdout("out\nmore\n")?
        .stderr("err\n")?;
    Ok(())
}

pub(super) async fn exit_codes(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["exec", "host", "--", "true"]).await?.code(0)?.stdout("")?.stderr("")?;
    for code in [7, 255] {
        let said = format!("command terminated with exit code {code}");
        let script = format!("echo tail; exit {code}");
        let ended = kubectl.run(&["exec", "host", "--", "sh", "-c", &script]).await?;
        ended.code(code)?.stdout("tail\n")?.stderr_has(&[&said])?;
    }
    Ok(())
}

pub(super) async fn killed(kubectl: &Kubectl) -> Result<()> {
    for (signal, code) in [("KILL", 137), ("TERM", 143)] {
        let script = format!("echo tail; kill -{signal} $$");
        kubectl.run(&["exec", "host", "--", "sh", "-c", &script]).await?.code(code)?.stdout("tail\n")?;
    }
    Ok(())
}

pub(super) async fn missing(kubectl: &Kubectl) -> Result<()> {
    let ended = kubectl.run(&["exec", "host", "--", "no-such-program-here"]).await?;
    ended.code(1)?.stdout("")?.stderr_has(&["no-such-program-here", "not found"])?;
    Ok(())
}

pub(super) async fn arguments(kubectl: &Kubectl) -> Result<()> {
    let args = ["a b", "", "q\"uote", "ä+%20&x=1", "new\nline", "$HOME"];
    let mut words = vec!["exec", "host", "--", "printf", "[%s]"];
    words.extend(args);
    let want: String = args.iter().map(|arg| format!("[{arg}]")).collect();
    kubectl.run(&words).await?.code(0)?.stdout(&want)?;
    Ok(())
}

pub(super) async fn stdin_empty(kubectl: &Kubectl) -> Result<()> {
    kubectl.feed(&["exec", "-i", "host", "--", "wc", "-c"], b"").await?.code(0)?.stdout("0\n")?;
    // Not requested is another state than empty: the command reads no terminal of the server's either way.
    kubectl.run(&["exec", "host", "--", "wc", "-c"]).await?.code(0)?.stdout("0\n")?;
    Ok(())
}

pub(super) async fn stdin_small(kubectl: &Kubectl) -> Result<()> {
    // What follows the end of input proves that the half close was only half.
    let script = "cat; echo after; exit 7";
    let ended = kubectl.feed(&["exec", "-i", "host", "--", "sh", "-c", script], b"hello\n").await?;
    ended.code(7)?.stdout("hello\nafter\n")?;
    Ok(())
}

/// Decision 4: a stdin that nobody reads stops neither the output nor the end.
pub(super) async fn stdin_unread(kubectl: &Kubectl) -> Result<()> {
    let script = "sleep 3; echo still here; exit 7";
    let mut child = spawn(&mut kubectl.command(&["exec", "-i", "host", "--", "sh", "-c", script]))?;
    let (stdin, mut stdout, mut stderr) = pipes(&mut child)?;
    // Without end: kubectl stops taking input when the command ends, so the feed fails and only the outcome counts.
    let feeder = tokio::spawn(async move { feed(stdin, u64::MAX / 2).await.is_err() });
    let said = read_until(&mut stdout, "still here\n", SHORT).await;
    let ended = timeout(SHORT, child.wait()).await;
    feeder.abort();
    said?;
    match ended {
        Ok(Ok(status)) if status.code() == Some(7) => Ok(()),
        ended => {
            let why = read_until(&mut stderr, "\n", Duration::from_secs(2)).await;
            bail!("exit code 7 expected, got {ended:?}: {why:?}")
        }
    }
}

pub(super) async fn stdin_big(kubectl: &Kubectl) -> Result<()> {
    let sizes = kubectl.sizes();
    let mut command = kubectl.command(&["exec", "-i", "host", "--", "sha256sum"]);
    transfer(&mut command, sizes.big, None, sizes.limit).await?.hashed_by_remote(sizes.big)
}

pub(super) async fn round_trip(kubectl: &Kubectl) -> Result<()> {
    let big = kubectl.sizes().big;
    let mut command = kubectl.command(&["exec", "-i", "host", "--", "cat"]);
    transfer(&mut command, big, None, kubectl.sizes().limit).await?.complete(big, 0)
}

/// The tail that the reference loses: the command is long gone when the reader gets to it.
pub(super) async fn stdout_slow(kubectl: &Kubectl) -> Result<()> {
    let sizes = kubectl.sizes();
    let (helper, bytes) = (kubectl.helper(), sizes.big.to_string());
    let mut command =
        kubectl.command(&["exec", "host", "--", &helper, "emit", "--bytes", &bytes, "--exit", "7"]);
    transfer(&mut command, 0, Some(sizes.slow), sizes.limit).await?.complete(sizes.big, 7)
}
