//! `kubectl logs`: history, bounds, following.

use anyhow::{Result, bail};

use super::{Kubectl, gate};
use crate::interop::{
    client::{SHORT, finish, pipes, read_until, spawn},
    server::STORY_LINES,
};

fn story(from: usize) -> String {
    (from..=STORY_LINES).map(|line| format!("line {line}\n")).collect()
}

pub(super) async fn whole(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["logs", "story"]).await?.code(0)?.stdout(&story(1))?;
    // What a container said before it failed is what people look for.
    kubectl.run(&["logs", "failed"]).await?.code(0)?.stdout("last words\n")?;
    Ok(())
}

pub(super) async fn tail(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["logs", "story", "--tail=3"]).await?.code(0)?.stdout(&story(STORY_LINES - 2))?;
    kubectl.run(&["logs", "story", "--tail=0"]).await?.code(0)?.stdout("")?;
    kubectl.run(&["logs", "story", "--tail=1000"]).await?.code(0)?.stdout(&story(1))?;
    Ok(())
}

pub(super) async fn timestamps(kubectl: &Kubectl) -> Result<()> {
    let ended = kubectl.run(&["logs", "story", "--timestamps"]).await?.code(0)?;
    let text = ended.text();
    let mut last = "";
    for (line, want) in text.lines().zip(story(1).lines()) {
        let Some((stamp, rest)) = line.split_once(' ') else {
            return Err(ended.fault("a line has no timestamp"));
        };
        // RFC 3339 in UTC with a fixed number of digits sorts as text.
        let shaped = stamp.len() >= 20 && stamp.ends_with('Z') && stamp.as_bytes().get(10) == Some(&b'T');
        if !shaped || rest != want || stamp < last {
            return Err(ended.fault(&format!("timestamps in order before the lines expected, see {line:?}")));
        }
        last = stamp;
    }
    if text.lines().count() != STORY_LINES {
        return Err(ended.fault("a line is missing"));
    }
    Ok(())
}

pub(super) async fn since(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["logs", "story", "--since=1h"]).await?.code(0)?.stdout(&story(1))?;
    // The story ended before the first case; one second later it is older than a second.
    tokio::time::sleep(std::time::Duration::from_millis(1500)).await;
    kubectl.run(&["logs", "story", "--since=1s"]).await?.code(0)?.stdout("")?;
    let recent = kubectl.run(&["logs", "ticker", "--since=2s"]).await?.code(0)?;
    let lines = recent.text().lines().count();
    if !(1..=40).contains(&lines) {
        return Err(recent.fault("the lines of about two seconds expected"));
    }
    Ok(())
}

pub(super) async fn container(kubectl: &Kubectl) -> Result<()> {
    kubectl.run(&["logs", "two", "-c", "second"]).await?.code(0)?.stdout("from second\n")?;
    kubectl.run(&["logs", "two", "-c", "first"]).await?.code(0)?.stdout("from first\n")?;
    let all = kubectl.run(&["logs", "two", "--all-containers", "--prefix"]).await?.code(0)?;
    all.stdout_has(&["[pod/two/first] from first\n", "[pod/two/second] from second\n"])?;
    Ok(())
}

pub(super) async fn follow_live(kubectl: &Kubectl) -> Result<()> {
    let mut child = spawn(&mut kubectl.command(&["logs", "-f", "--tail=1", "ticker"]))?;
    let (_stdin, mut stdout, _stderr) = pipes(&mut child)?;
    let seen = read_until(&mut stdout, "tick ", SHORT).await?;
    let number = |text: &str| {
        text.rsplit("tick ").next().and_then(|rest| rest.lines().next()?.trim().parse::<u64>().ok())
    };
    // The number may still be cut: the next line completes it, and a later one proves that it is live.
    let more = read_until(&mut stdout, "\ntick ", SHORT).await?;
    let first = number(&format!("{seen}{}", more.lines().next().unwrap_or_default()));
    let later = match first {
        Some(first) => read_until(&mut stdout, &format!("{}\n", first + 5), SHORT).await,
        None => bail!("no number in {seen:?}"),
    };
    child.kill().await?;
    later.map(drop)
}

pub(super) async fn follow_ends(kubectl: &Kubectl) -> Result<()> {
    let pod = gate("follow", &kubectl.version);
    let mut command = kubectl.command(&["logs", "-f", &pod]);
    let following = finish(&mut command, b"", SHORT);
    let opening = async {
        // Not before kubectl follows: its first bytes cannot be seen from here, so the gate waits for the log.
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        kubectl.server().open_gate(&pod).await
    };
    let (followed, opened) = tokio::join!(following, opening);
    opened?;
    followed?.code(0)?.stdout("before\nafter\n")?;
    // A container that has ended is followed to its end at once.
    kubectl.run(&["logs", "-f", &pod]).await?.code(0)?.stdout("before\nafter\n")?;
    Ok(())
}
