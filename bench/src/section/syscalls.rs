//! System calls for 32 KiB, counted by strace, which is attached to the server for one transfer in each direction.

use std::collections::{BTreeMap, BTreeSet};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::Context;
use crate::load::{Session, session::Ask};
use crate::process::Peer;
use crate::report::{Findings, Table, number};
use crate::sample::Figure;

const AMOUNT: u64 = 64 << 20;
const PARTS: f64 = (AMOUNT / (32 << 10)) as f64;

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let mut findings = Findings::default();
    let mut table = Table::new("Calls per 32 KiB", &["", "reads", "writes", "epoll_wait", "others"]).note(
        "counted over 64 MiB by `strace -f`, threads of the server only; read, readv and recvfrom count as reads, write, writev, sendto and sendmsg as \
         writes; with a tracer the server is the slower side, so both ends of it are always ready",
    );
    if Command::new("strace").arg("-V").output().is_err() {
        findings.tables.push(table.note("strace is not installed: nothing was counted"));
        return Ok(findings);
    }
    let mut peers = vec![
        Peer::raw(place)?,
        Peer::library(place)?,
        Peer::serve(place, "wsstream serve", &["--insecure-http"])?,
    ];
    peers.extend(Peer::go(place)?);
    for (direction, stdin) in [("stdout", false), ("stdin", true)] {
        let amount = AMOUNT.to_string();
        let words: &[&str] = if stdin { &["sink", &amount] } else { &["write", "32768", &amount] };
        let command = place.command(words);
        for peer in &peers {
            let counts = counted(peer, || {
                let session = Session::open(peer, Ask { stdin, ..Ask::output(&command) })?;
                if stdin { session.feed(AMOUNT, 32 << 10) } else { session.drain(AMOUNT, true) }.map(|_| ())
            })?;
            let sum = |names: &[&str]| {
                counts.iter().filter(|(name, _)| names.contains(&name.as_str())).map(|(_, n)| n).sum::<f64>()
                    / PARTS
            };
            let (reads, writes) = (
                sum(&["read", "readv", "recvfrom", "recvmsg"]),
                sum(&["write", "writev", "sendto", "sendmsg"]),
            );
            let waits = sum(&["epoll_wait", "epoll_pwait", "epoll_pwait2"]);
            let others = counts.values().sum::<f64>() / PARTS - reads - writes - waits;
            table.row([
                format!("{direction}, {}", peer.name),
                number(reads),
                number(writes),
                number(waits),
                number(others),
            ]);
            if peer.name == "library" {
                findings.verdict(&format!("syscalls-{direction}-read"), Figure::once(reads));
                findings.verdict(&format!("syscalls-{direction}-write"), Figure::once(writes));
            }
        }
    }
    findings.tables.push(table);
    Ok(findings)
}

/// How often the peer makes which call during `work`.
fn counted(peer: &Peer, work: impl FnOnce() -> Result<()>) -> Result<BTreeMap<String, f64>> {
    let file = tempfile::NamedTempFile::new()?;
    let pid = peer.pid().to_string();
    let mut strace = Command::new("strace");
    // With the commands, which are taken out below: who follows threads follows children.
    strace.args(["-f", "-qq", "-s", "0", "-o"]).arg(file.path()).args(["-p", &pid]);
    let mut strace = strace.stderr(Stdio::null()).spawn()?;
    attached(peer.pid())?;
    let done = work();
    let threads: BTreeSet<String> = std::fs::read_dir(format!("/proc/{pid}/task"))?
        .map(|thread| Ok(thread?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    kill(Pid::from_raw(i32::try_from(strace.id())?), Signal::SIGINT)?;
    strace.wait()?;
    done?;
    let text = std::fs::read_to_string(file.path())?;
    let mut counts = BTreeMap::new();
    for line in text.lines() {
        let (thread, call) = line.split_once(' ').unwrap_or_default();
        // A call that another one interrupts in the log has two lines; the second has no name in this place.
        if let Some((name, _)) = call.trim_start().split_once('(')
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && threads.contains(thread)
        {
            *counts.entry(name.to_owned()).or_insert(0.0) += 1.0;
        }
    }
    ensure!(!counts.is_empty(), "strace counted nothing");
    Ok(counts)
}

/// Waits until a tracer is there.
fn attached(pid: u32) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
        let tracer =
            status.lines().find_map(|line| line.strip_prefix("TracerPid:")).context("no TracerPid")?;
        if tracer.trim() != "0" {
            return Ok(());
        }
        #[allow(clippy::disallowed_methods, reason = "no runtime waits here")]
        std::thread::sleep(Duration::from_millis(5));
    }
    bail!("strace did not attach")
}
