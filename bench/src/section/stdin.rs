//! A client's input to a command, in messages of several sizes, sent many at a time: what a paste or `kubectl cp` does.

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
        "Server CPU, ms per GiB",
        &["messages", "raw", "library", "wsstream serve", "Go", "library / raw", "library / Go"],
    )
    .note("the client masks before the clock runs and writes 64 KiB at a time; the raw relay gets the same bytes unframed");
    let mut bars = Vec::new();
    for (label, size, amount) in [
        ("32 KiB", 32 << 10, context.amount(512, 256) << 20),
        ("4 KiB", 4 << 10, context.amount(256, 128) << 20),
        ("1 KiB", 1 << 10, context.amount(128, 32) << 20),
        ("64 B", 64, context.amount(8, 4) << 20),
    ] {
        let command = place.command(&["sink", &amount.to_string()]);
        let series = interleave(context.runs, &mut peers, |peer| {
            let before = peer.cpu()?;
            Session::open(peer, Ask::input(&command))?.feed(amount, size)?;
            let spent = (peer.cpu()? - before).as_secs_f64();
            Ok([spent * 1e3 * GIB / amount as f64])
        })?;
        let cpu: Vec<&Series> = series.iter().map(|[cpu]| cpu).collect();
        for (peer, cpu) in peers.iter().zip(&cpu) {
            findings.keep(format!("{label}, {}", peer.name), cpu);
            bars.push((format!("{label} {}", peer.name), cpu.median()));
        }
        let (raw, library, serve, go) = (cpu[0], cpu[1], cpu[2], cpu.get(3));
        table.row([
            label.to_owned(),
            cell(raw.figure()),
            cell(library.figure()),
            cell(serve.figure()),
            go.map_or_else(String::new, |go| cell(go.figure())),
            number(library.over(raw).value),
            go.map_or_else(String::new, |go| number(library.over(go).value)),
        ]);
        if let "32 KiB" | "1 KiB" = label {
            let id = if size > 1024 { "stdin-32k" } else { "stdin-1k" };
            for (suffix, ours) in [("", library), ("-serve", serve)] {
                findings.verdict(&format!("{id}-raw{suffix}"), ours.over(raw));
                if let Some(go) = go {
                    findings.verdict(&format!("{id}-go{suffix}"), ours.over(go));
                }
            }
        }
    }
    findings.tables.push(table);
    // A hundred times the others, and it would hide them.
    bars.retain(|(label, _)| label.starts_with("32") || label.starts_with('4'));
    findings.charts.push(Chart { title: "stdin: server CPU".into(), unit: "ms per GiB".into(), bars });
    Ok(findings)
}
