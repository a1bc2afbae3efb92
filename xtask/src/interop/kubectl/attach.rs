//! `kubectl attach`: joining a process that was there before and stays afterwards.

use anyhow::Result;
use tokio::io::AsyncWriteExt as _;

use super::Kubectl;
use crate::interop::client::{SHORT, pipes, read_until, spawn};

pub(super) async fn output(kubectl: &Kubectl) -> Result<()> {
    let mut child = spawn(&mut kubectl.command(&["attach", "ticker"]))?;
    let (_stdin, mut stdout, mut stderr) = pipes(&mut child)?;
    read_until(&mut stdout, "tick ", SHORT).await?;
    read_until(&mut stderr, "tock ", SHORT).await?;
    child.kill().await?;
    Ok(())
}

pub(super) async fn input(kubectl: &Kubectl) -> Result<()> {
    // Twice: the end of one client's input is not the end of the process's.
    for turn in ["first", "second"] {
        let mut child = spawn(&mut kubectl.command(&["attach", "-i", "echo"]))?;
        let (mut stdin, mut stdout, _stderr) = pipes(&mut child)?;
        let line = format!("{turn} from kubectl {}\n", kubectl.version);
        stdin.write_all(line.as_bytes()).await?;
        read_until(&mut stdout, &line, SHORT).await?;
        drop(stdin);
        child.kill().await?;
    }
    Ok(())
}

pub(super) async fn terminal(kubectl: &Kubectl) -> Result<()> {
    for size in [(31_u16, 97_u16), (29, 83)] {
        let mut terminal = kubectl.terminal(&["attach", "-it", "shell"], size)?;
        // A terminal shows nothing by itself when one joins late: press return for a prompt.
        terminal.send("\n").await?;
        terminal.expect("ready> ").await?;
        // kubectl first sends a size one larger to force a redraw; the last one stays.
        let want = format!("{} {}\r\n", size.0, size.1);
        terminal.send("until [ \"$(stty size)\" = \"").await?;
        terminal.send(&format!("{} {}\" ]; do sleep 0.05; done; stty size\n", size.0, size.1)).await?;
        terminal.expect(&want).await?;
        terminal.resize(size.0 + 5, size.1 + 5)?;
        terminal.send("sleep 0.5; stty size\n").await?;
        terminal.expect(&format!("{} {}\r\n", size.0 + 5, size.1 + 5)).await?;
        terminal.kill().await?;
    }
    Ok(())
}
