//! `kubectl exec -it` under a real pseudo-terminal.

use anyhow::Result;

use super::Kubectl;

const SIZE: (u16, u16) = (33, 101);

pub(super) async fn first_size(kubectl: &Kubectl) -> Result<()> {
    // No grace in the command: the size must be there before it starts.
    let mut terminal = kubectl.terminal(&["exec", "-it", "host", "--", "stty", "size"], SIZE)?;
    terminal.expect("33 101").await?;
    terminal.exits(0).await
}

pub(super) async fn resize(kubectl: &Kubectl) -> Result<()> {
    let script = "trap 'stty size; exit 9' WINCH; echo armed; while :; do sleep 0.05; done";
    let mut terminal = kubectl.terminal(&["exec", "-it", "host", "--", "bash", "-c", script], SIZE)?;
    terminal.expect("armed").await?;
    terminal.resize(44, 155)?;
    terminal.expect("44 155").await?;
    terminal.exits(9).await
}

pub(super) async fn ctrl_c(kubectl: &Kubectl) -> Result<()> {
    let mut terminal =
        kubectl.terminal(&["exec", "-it", "host", "--", "env", "PS1=ready> ", "sh", "-i"], SIZE)?;
    terminal.expect("ready> ").await?;
    // The number comes from the program that the key is to interrupt, and that one starts no other: a shell keeps a
    // signal that comes before its child for after it.
    terminal.send("sh -c 'echo $((40+2)); read line'\n").await?;
    terminal.expect("42\r\n").await?;
    terminal.send("\x03").await?;
    terminal.expect("ready> ").await?;
    // The inner shell, not the outer one, got the signal.
    terminal.send("echo code $?\n").await?;
    terminal.expect("code 130\r\n").await?;
    terminal.send("exit 0\n").await?;
    terminal.exits(0).await
}

pub(super) async fn ctrl_d(kubectl: &Kubectl) -> Result<()> {
    let mut terminal = kubectl.terminal(&["exec", "-it", "host", "--", "cat"], SIZE)?;
    terminal.send("hello\n").await?;
    // Once as the terminal's echo, once from cat.
    terminal.expect("hello\r\nhello\r\n").await?;
    terminal.send("\x04").await?;
    terminal.exits(0).await
}

pub(super) async fn exit_code(kubectl: &Kubectl) -> Result<()> {
    let script = "test -t 0 && test -t 1 && test -t 2 && exit 7";
    kubectl.terminal(&["exec", "-it", "host", "--", "sh", "-c", script], SIZE)?.exits(7).await
}
