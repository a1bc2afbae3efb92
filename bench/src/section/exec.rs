//! `exec true`: what a session costs that does nothing.

use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result};

use super::Context;
use crate::load::{Session, session::Ask};
use crate::place::{LOAD_CORE, Place, SERVER_CORE, pin};
use crate::process::Peer;
use crate::report::{Chart, Findings, Table, cell, number};
use crate::sample::{interleave, quantile};

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let count = usize::try_from(context.amount(300, 100))?;
    let mut peers = vec![
        None,
        Some(Peer::raw(place)?),
        Some(Peer::library(place)?),
        Some(Peer::serve(place, "wsstream serve --no-keeper", &["--insecure-http", "--no-keeper"])?),
        Some(Peer::serve(place, "wsstream serve", &["--insecure-http"])?),
    ];
    if let Some(go) = Peer::go(place)? {
        peers.push(Some(go));
    }
    let command = ["true".to_owned()];
    let series = interleave(context.runs, &mut peers, |peer| {
        let Some(peer) = peer else { return bare(place, count) };
        let (before, children) = (peer.cpu()?, peer.cpu_of_children()?);
        let mut times = Vec::with_capacity(count);
        let begun = Instant::now();
        for _ in 0..count {
            let started = Instant::now();
            Session::open(peer, Ask::output(&command))?.drain(0, false)?;
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        let rate = count as f64 / begun.elapsed().as_secs_f64();
        let each = |time: std::time::Duration| time.as_secs_f64() * 1e6 / count as f64;
        let (cpu, children) = (each(peer.cpu()? - before), each(peer.cpu_of_children()? - children));
        Ok([cpu, rate, quantile(&mut times, 0.5), quantile(&mut times, 0.99), children])
    })?;
    let mut findings = Findings::default();
    let mut table = Table::new(
        "One session after the other, a new connection for each",
        &[
            "",
            "server CPU, µs",
            "above bare",
            "of its CPU in the kernel",
            "per second",
            "p50, µs",
            "p99, µs",
            "CPU of its children, µs",
        ],
    )
    .note(
        "bare is posix_spawn and wait of the same command, raw the same behind a TCP connection, with a pipe; the children of `wsstream serve` are the command and, unless \
         told otherwise, the keeper beside it",
    );
    let bare = &series[0][0];
    let above: Vec<_> = series.iter().map(|all| all[0].less(bare)).collect();
    let mut bars = Vec::new();
    for ((peer, all), above) in peers.iter().zip(&series).zip(&above) {
        let name = peer.as_ref().map_or("bare", |peer| peer.name);
        findings.keep(format!("{name}, CPU"), &all[0]);
        let more = if peer.is_some() { number(above.median()) } else { String::new() };
        let [cpu, rate, p50, p99, children] = all;
        let mut row = vec![name.to_owned(), cell(cpu.figure()), more];
        row.push(peer.as_ref().map_or(Ok(String::new()), |peer| peer.kernel_part().map(percent))?);
        row.push(number(rate.median()));
        row.extend([cell(p50.figure()), cell(p99.figure()), number(children.median())]);
        table.row(row);
        bars.push((name.to_owned(), cpu.median()));
    }
    if let Some(go) = above.get(5) {
        for (at, id) in [(2, "exec-library"), (3, "exec-no-keeper"), (4, "exec-serve")] {
            findings.verdict(id, above[at].over(go));
        }
    }
    findings.tables.push(table);
    findings.charts.push(Chart {
        title: "exec true: server CPU".into(),
        unit: "µs per session".into(),
        bars,
    });
    Ok(findings)
}

fn percent(part: f64) -> String {
    format!("{:.0} %", part * 100.0)
}

/// The command alone, by a process that does nothing else.
fn bare(place: &Place, count: usize) -> Result<[f64; 5]> {
    pin(SERVER_CORE);
    let begun = Instant::now();
    let output = Command::new(&place.own).args(["peer", "bare", &count.to_string(), "true"]).output();
    pin(LOAD_CORE);
    let took = begun.elapsed().as_secs_f64();
    let cpu: f64 = String::from_utf8(output?.stdout)?.trim().parse().context("no figure")?;
    Ok([cpu / count as f64, count as f64 / took, f64::NAN, f64::NAN, f64::NAN])
}
