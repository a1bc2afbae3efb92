//! Busy sessions beside idle ones: whether those who do nothing cost those who do.

use std::time::Instant;

use anyhow::Result;

use super::Context;
use crate::load::stream::Stream;
use crate::load::{Session, session::Ask};
use crate::peer::raise_descriptors;
use crate::process::Peer;
use crate::report::{Chart, Findings, Table, cell, number};
use crate::sample::interleave;

const BUSY: usize = 50;
const IDLE: usize = 10_000;

pub(super) fn run(context: &Context) -> Result<Findings> {
    raise_descriptors();
    let place = &context.place;
    let (alone, crowded) = (Peer::library(place)?, Peer::library(place)?);
    let mut findings = Findings::default();
    let mut growth = Table::new(
        "What each further connection costs the server",
        &["idle sessions", "memory, KiB each", "CPU to open, µs each"],
    )
    .note("sessions of the library whose handler waits; sockets and buffers of the kernel are not in it");
    let mut idle: Vec<Stream> = Vec::with_capacity(IDLE);
    let hold = ["@hold".to_owned()];
    for goal in [10, 100, 1000, IDLE] {
        let (before, resident, had) = (crowded.cpu()?, crowded.resident()?, idle.len());
        while idle.len() < goal {
            let ask = Ask::input(&hold);
            idle.push(Session::open(&crowded, ask)?.into_stream());
        }
        let more = (goal - had) as f64;
        growth.row([
            format!("{had} to {goal}"),
            number((crowded.resident()? - resident) / more),
            number((crowded.cpu()? - before).as_secs_f64() * 1e6 / more),
        ]);
    }
    let amount = context.amount(32, 8) << 20;
    let zeros = ["@zeros".to_owned(), amount.to_string(), (32 << 10).to_string()];
    let mut peers = [alone, crowded];
    let series = interleave(context.runs, &mut peers, |peer| {
        let (before, started) = (peer.cpu()?, Instant::now());
        std::thread::scope(|scope| {
            let busy: Vec<_> = (0..BUSY)
                .map(|_| {
                    let (peer, ask) = (&*peer, Ask::output(&zeros));
                    scope.spawn(move || Session::open(peer, ask)?.drain(amount, true))
                })
                .collect();
            busy.into_iter().try_for_each(|thread| thread.join().expect("no panic").map(|_| ()))
        })?;
        let total = (BUSY as u64 * amount) as f64;
        let cpu = (peer.cpu()? - before).as_secs_f64();
        Ok([
            total / started.elapsed().as_secs_f64() / f64::from(1 << 20),
            cpu * 1e3 * f64::from(1 << 30) / total,
        ])
    })?;
    let mut table = Table::new("50 busy sessions", &["", "MiB/s together", "server CPU, ms per GiB"]);
    let mut bars = Vec::new();
    for (name, [rate, cpu]) in ["alone", "beside 10,000 idle sessions"].into_iter().zip(&series) {
        table.row([name.to_owned(), cell(rate.figure()), cell(cpu.figure())]);
        findings.keep(name, rate);
        bars.push((name.to_owned(), rate.median()));
    }
    findings.verdict("connections-busy", series[1][0].over(&series[0][0]));
    drop(idle);
    findings.tables = vec![table, growth];
    findings.charts.push(Chart { title: "50 busy sessions: throughput".into(), unit: "MiB/s".into(), bars });
    Ok(findings)
}
