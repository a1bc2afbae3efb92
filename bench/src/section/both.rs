//! Input and output at once: a command gives back what it gets, as a filter does.

use anyhow::Result;

use super::Context;
use crate::load::{Session, session::Ask};
use crate::process::Peer;
use crate::report::{Chart, Findings, Table, cell, number};
use crate::sample::{Series, interleave};

const GIB: f64 = (1_u64 << 30) as f64;

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let mut peers = Peer::all(place)?;
    let mut findings = Findings::default();
    let mut table = Table::new(
        "Server CPU, ms per GiB that went there and came back",
        &["messages of input", "raw", "library", "wsstream serve", "Go", "library / raw", "library / Go"],
    )
    .note("the raw relay and the library wait for both directions in one task each; the reader waits for 128 KiB");
    let mut bars = Vec::new();
    for (label, size, amount) in [
        ("32 KiB", 32 << 10, context.amount(256, 128) << 20),
        ("1 KiB", 1 << 10, context.amount(128, 32) << 20),
    ] {
        let command = place.command(&["turn", &amount.to_string()]);
        let series = interleave(context.runs, &mut peers, |peer| {
            let before = peer.cpu()?;
            Session::open(peer, Ask { both: true, ..Ask::input(&command) })?.turn(amount, size)?;
            Ok([(peer.cpu()? - before).as_secs_f64() * 1e3 * GIB / amount as f64])
        })?;
        let cpu: Vec<&Series> = series.iter().map(|[cpu]| cpu).collect();
        for (peer, cpu) in peers.iter().zip(&cpu) {
            findings.keep(format!("{label}, {}", peer.name), cpu);
            bars.push((format!("{label} {}", peer.name), cpu.median()));
        }
        let mut row = vec![label.to_owned()];
        row.extend((0..4).map(|at| cpu.get(at).map_or_else(String::new, |cpu| cell(cpu.figure()))));
        row.push(number(cpu[1].over(cpu[0]).value));
        row.push(cpu.get(3).map_or_else(String::new, |go| number(cpu[1].over(go).value)));
        table.row(row);
    }
    findings.tables.push(table);
    findings.charts.push(Chart { title: "both ways: server CPU".into(), unit: "ms per GiB".into(), bars });
    Ok(findings)
}
