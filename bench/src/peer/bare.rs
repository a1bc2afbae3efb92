//! What a command costs by itself: posix_spawn and wait, nothing else.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result};
use nix::sys::resource::{UsageWho, getrusage};

/// `bare COUNT COMMAND...`: prints the CPU of this process, children apart, in microseconds.
pub(super) fn run(words: &[String]) -> Result<()> {
    let count: u32 = words.first().context("how many?")?.parse()?;
    let program = words.get(1).context("what?")?;
    let used = || -> Result<i64> {
        let usage = getrusage(UsageWho::RUSAGE_SELF)?;
        let (user, system) = (usage.user_time(), usage.system_time());
        Ok((user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec())
    };
    let before = used()?;
    for _ in 0..count {
        let mut command = Command::new(program);
        command.args(&words[2..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command.status()?;
    }
    println!("{}", used()? - before);
    Ok(())
}
