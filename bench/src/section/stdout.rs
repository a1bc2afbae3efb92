//! A command's output to a client, in writes of several sizes.
//!
//! The command runs on the server's core, as the commands of a server do, and its CPU is not counted. How much a relay
//! finds in the pipe depends on who runs first: that is part of what is measured.

use anyhow::Result;

use super::Context;
use crate::load::{Session, session::Ask};
use crate::process::{Peer, Wire};
use crate::report::{Chart, Findings, Table, cell, number};
use crate::sample::{Series, interleave};

const GIB: f64 = (1_u64 << 30) as f64;

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let mut peers = Peer::all(place)?;
    let mut findings = Findings::default();
    let mut table = Table::new(
        "Server CPU, ms per GiB",
        &["writes of the command", "raw", "library", "wsstream serve", "Go", "library / raw", "library / Go"],
    )
    .note("the reader waits for 128 KiB, but in the last row, where it takes what is there: it has the sender pay for waking it");
    let mut messages =
        Table::new("Bytes per message", &["writes of the command", "library", "wsstream serve", "Go"]);
    let mut bars = Vec::new();
    // The slower the writes, the fewer of them.
    for (label, size, amount, lazy) in [
        ("32 KiB", 32 << 10, context.amount(512, 256) << 20, true),
        ("4 KiB", 4 << 10, context.amount(256, 128) << 20, true),
        ("1 KiB", 1 << 10, context.amount(128, 64) << 20, true),
        ("64 B", 64, context.amount(16, 8) << 20, true),
        ("32 KiB, plain reader", 32 << 10, context.amount(512, 256) << 20, false),
    ] {
        let command = place.command(&["write", &size.to_string(), &amount.to_string()]);
        let series = interleave(context.runs, &mut peers, |peer| {
            let before = peer.cpu()?;
            let ask = Ask::output(&command);
            let end = Session::open(peer, ask)?.drain(amount, lazy)?;
            let spent = (peer.cpu()? - before).as_secs_f64();
            Ok([spent * 1e3 * GIB / amount as f64, end.bytes as f64 / end.messages as f64])
        })?;
        let cpu: Vec<&Series> = series.iter().map(|[cpu, _]| cpu).collect();
        for (peer, cpu) in peers.iter().zip(&cpu) {
            findings.keep(format!("{label}, {}", peer.name), cpu);
            bars.push((format!("{label} {}", peer.name), cpu.median()));
        }
        let (raw, library, serve, go) = (cpu[0], cpu[1], cpu[2], cpu.get(3));
        let go_cell = go.map_or_else(String::new, |go| cell(go.figure()));
        let over_go = go.map_or_else(String::new, |go| number(library.over(go).value));
        table.row([
            label.to_owned(),
            cell(raw.figure()),
            cell(library.figure()),
            cell(serve.figure()),
            go_cell,
            number(library.over(raw).value),
            over_go,
        ]);
        let per = |at: usize| series.get(at).map_or_else(String::new, |[_, size]| number(size.median()));
        messages.row([label.to_owned(), per(1), per(2), per(3)]);
        if let ("32 KiB" | "1 KiB", true) = (label, lazy) {
            let id = if size > 1024 { "stdout-32k" } else { "stdout-1k" };
            for (suffix, ours) in [("", library), ("-serve", serve)] {
                findings.verdict(&format!("{id}-raw{suffix}"), ours.over(raw));
                if let Some(go) = go {
                    findings.verdict(&format!("{id}-go{suffix}"), ours.over(go));
                }
            }
        }
    }
    findings.tables = vec![table, messages];
    handler(context, &mut findings)?;
    terminal(context, &mut findings)?;
    bars.retain(|(label, _)| !label.starts_with("64 B") && !label.contains("plain"));
    findings.charts.push(Chart { title: "stdout: server CPU".into(), unit: "ms per GiB".into(), bars });
    Ok(findings)
}

/// Messages of a handler, without a pipe that gathers them: Go pays for each one by itself.
fn handler(context: &Context, findings: &mut Findings) -> Result<()> {
    let mut peers = vec![Peer::raw(&context.place)?, Peer::library(&context.place)?];
    peers.extend(Peer::go(&context.place)?);
    let mut table = Table::new(
        "Messages that a handler sends one by one, without a pipe: server CPU, ns per message",
        &["messages", "raw", "library", "Go", "library / raw", "library / Go"],
    )
    .note("each is a write of its own, with all peers");
    for (label, size, amount) in [
        ("32 KiB", 32 << 10, context.amount(256, 128) << 20),
        ("1 KiB", 1 << 10, context.amount(64, 32) << 20),
        ("64 B", 64, context.amount(8, 4) << 20),
    ] {
        let command = ["@zeros".to_owned(), amount.to_string(), size.to_string()];
        let series = interleave(context.runs, &mut peers, |peer| {
            let before = peer.cpu()?;
            let ask = Ask::output(&command);
            Session::open(peer, ask)?.drain(amount, true)?;
            Ok([(peer.cpu()? - before).as_secs_f64() * 1e9 / (amount / size) as f64])
        })?;
        for (peer, [each]) in peers.iter().zip(&series) {
            findings.keep(format!("handler, {label}, {}", peer.name), each);
        }
        let ([raw], [library]) = (&series[0], &series[1]);
        let go = series.get(2).map(|[go]| go);
        table.row([
            label.to_owned(),
            cell(raw.figure()),
            cell(library.figure()),
            go.map_or_else(String::new, |go| cell(go.figure())),
            number(library.over(raw).value),
            go.map_or_else(String::new, |go| number(library.over(go).value)),
        ]);
    }
    findings.tables.push(table);
    Ok(())
}

/// The same through a terminal, which gives at most 4 KiB to a read and costs most of it.
fn terminal(context: &Context, findings: &mut Findings) -> Result<()> {
    let place = &context.place;
    let mut peers = vec![Peer::raw(place)?, Peer::serve(place, "wsstream serve", &["--insecure-http"])?];
    peers.extend(Peer::go(place)?);
    let amount = context.amount(32, 16) << 20;
    let command = place.command(&["write", "4096", &amount.to_string()]);
    let series = interleave(context.runs, &mut peers, |peer| {
        let before = peer.cpu()?;
        let ask = Ask { tty: true, ..Ask::output(&command) };
        let end = Session::open(peer, ask)?.drain(amount, true)?;
        let spent = (peer.cpu()? - before).as_secs_f64() * 1e3 * GIB / amount as f64;
        // Bare bytes come in no messages.
        Ok([spent, end.bytes as f64 / end.messages.max(1) as f64])
    })?;
    let mut table = Table::new(
        "On a terminal, writes of 4 KiB",
        &["", "server CPU, ms per GiB", "bytes per message", "/ raw"],
    )
    .note("raw reads from the terminal and writes to the socket");
    for (peer, [cpu, size]) in peers.iter().zip(&series) {
        let size = if peer.wire == Wire::Raw { String::new() } else { number(size.median()) };
        table.row([peer.name.to_owned(), cell(cpu.figure()), size, number(cpu.over(&series[0][0]).value)]);
        findings.keep(format!("terminal, {}", peer.name), cpu);
    }
    findings.tables.push(table);
    Ok(())
}
