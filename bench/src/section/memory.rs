//! What lies idle costs memory only: connections after use, as the allocator sees them, and whole sessions, as the kernel
//! sees the server.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Context;
use crate::load::stream::Stream;
use crate::load::{Session, session::Ask};
use crate::peer::raise_descriptors;
use crate::process::Peer;
use crate::report::{Chart, Findings, Table, number};
use crate::sample::Figure;

pub(super) fn run(context: &Context) -> Result<Findings> {
    raise_descriptors();
    let mut findings = Findings::default();
    connections(context, &mut findings)?;
    sessions(context, &mut findings)?;
    Ok(findings)
}

/// By a program that counts its own allocations.
fn connections(context: &Context, findings: &mut Findings) -> Result<()> {
    let output = Command::new(&context.place.memory).output()?;
    ensure!(output.status.success(), "memory: {}", String::from_utf8_lossy(&output.stderr));
    let mut table = Table::new(
        "One idle connection, allocated for it, bytes",
        &["", "before use", "after 32 KiB each way"],
    )
    .note("all that is on the heap for it: task, socket of the runtime, and what wsstream keeps");
    for line in String::from_utf8(output.stdout)?.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let [name, before, after] = words[..] else { continue };
        table.row([name, before, after].map(str::to_owned));
        if name == "channels" {
            findings.verdict("memory-connection", Figure::once(after.parse::<f64>()? / 1024.0));
        }
    }
    ensure!(!table.rows.is_empty(), "the program said nothing");
    findings.tables.push(table);
    Ok(())
}

/// Sessions of `cat`, which ends with its input.
fn sessions(context: &Context, findings: &mut Findings) -> Result<()> {
    let place = &context.place;
    let mut table = Table::new(
        "One idle session of `cat`, memory of the server, KiB each",
        &["", "first 100", "100 to 1,000", "1,000 to 3,000", "the keeper beside each"],
    )
    .note("anonymous memory in RAM; the command, the kernel's sockets and pipes apart");
    let open = ["--insecure-http", "--max-connections", "4000"];
    let peers = [
        (Peer::library(place)?, 3000),
        (Peer::embedded(place)?, 3000),
        (Peer::serve(place, "wsstream serve --no-keeper", &[&open[..], &["--no-keeper"]].concat())?, 3000),
        (Peer::serve(place, "wsstream serve", &open)?, 3000),
    ];
    let peers = peers.into_iter().chain(Peer::go(place)?.map(|go| (go, 3000)));
    let (mut bars, mut costs) = (Vec::new(), Vec::new());
    for (peer, most) in peers {
        let steps = grow(&peer, most).with_context(|| format!("{}: sessions", peer.name))?;
        let each = |at: usize| steps.get(at).map_or_else(String::new, |step| number(step.each));
        let keeper = steps.last().map_or(0.0, |step| step.keeper);
        let keeper = if keeper > 0.0 { number(keeper) } else { String::new() };
        table.row([peer.name.to_owned(), each(0), each(1), each(2), keeper]);
        let last = steps.last().context("no steps")?;
        bars.push((peer.name.to_owned(), last.each));
        costs.push((peer.name, steps));
    }
    let cost = |name: &str| costs.iter().find(|(other, _)| *other == name).map(|(_, steps)| steps);
    let program = cost("wsstream serve").context("no server")?;
    let last = |steps: &[Step]| steps.last().map_or(f64::NAN, |step| step.each);
    let dearest = program.iter().map(|step| step.each).fold(f64::NAN, f64::max);
    findings.verdict("memory-session", Figure::once(dearest));
    let behind = program.iter().skip(1).map(|step| step.each).fold(f64::NAN, f64::max);
    findings
        .verdict("memory-flat", Figure::once(behind / program.first().map_or(f64::NAN, |step| step.each)));
    if let Some(go) = cost("Go") {
        findings.verdict("memory-go", Figure::once(last(program) / last(go)));
    }
    findings.tables.push(table);
    findings.charts.push(Chart {
        title: "One idle exec session".into(),
        unit: "KiB in the server".into(),
        bars,
    });
    Ok(())
}

/// What each session from one number to the next has cost.
struct Step {
    each: f64,
    keeper: f64,
}

fn grow(peer: &Peer, most: usize) -> Result<Vec<Step>> {
    let command = ["cat".to_owned()];
    let ask = Ask::input(&command);
    // The first makes tables and threads that all the others share.
    let mut open: Vec<Stream> = vec![echoed(peer, ask)?];
    let mut steps = Vec::new();
    for goal in [100, 1000, 3000] {
        if goal > most {
            break;
        }
        let (before, had) = (peer.resident()?, open.len());
        while open.len() < goal {
            open.push(echoed(peer, ask)?);
        }
        let each = (peer.resident()? - before) / (goal - had) as f64;
        let keeper = peer.resident_children("ws-keeper")? / open.len() as f64;
        steps.push(Step { each, keeper });
    }
    Ok(steps)
}

/// A session that was used: 32 KiB there and back.
fn echoed(peer: &Peer, ask: Ask<'_>) -> Result<Stream> {
    use std::io::{Read as _, Write as _};
    const SIZE: u64 = 32 << 10;
    let mut stream = Session::open(peer, ask)?.into_stream();
    stream.write_all(&crate::load::frames::input(SIZE as usize))?;
    let (mut frames, mut part) = (crate::load::frames::Frames::default(), [0; 16 << 10]);
    while frames.bytes[1] < SIZE {
        let read = stream.read(&mut part)?;
        ensure!(read > 0, "the session ended after {} bytes", frames.bytes[1]);
        frames.push(&part[..read]);
    }
    Ok(stream)
}
