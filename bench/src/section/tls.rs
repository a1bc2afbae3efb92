//! What TLS adds to the relay of output. Where it ends, most of the CPU is the cipher's, whoever relays.

use std::process::{Command, Stdio};

use anyhow::Result;

use super::Context;
use crate::load::{Session, session::Ask};
use crate::process::{Peer, Wire};
use crate::report::{Chart, Findings, Table, cell};
use crate::sample::interleave;

const GIB: f64 = (1_u64 << 30) as f64;

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let mut peers = vec![
        Peer::serve(place, "wsstream serve, no TLS", &["--insecure-http"])?,
        Peer::serve(place, "wsstream serve, TLS", &[])?,
    ];
    peers.extend(Peer::go(place)?.map(|mut peer| {
        peer.name = "no TLS, Go";
        peer
    }));
    // As ours generates one at each start: the same kind.
    let folder = tempfile::tempdir()?;
    let (certificate, key) = (folder.path().join("certificate"), folder.path().join("key"));
    let made = Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "1",
        ])
        .args(["-subj", "/CN=localhost", "-out"])
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .stderr(Stdio::null())
        .status();
    if let (Some(go), true) = (&place.go_server, made.is_ok_and(|status| status.success())) {
        let mut command = Command::new(go);
        command.arg("-tls-cert").arg(&certificate).arg("-tls-key").arg(&key).stderr(Stdio::null());
        let mut peer = Peer::start("TLS, Go", Wire::WebSocket, &mut command)?;
        peer.tls = true;
        peers.push(peer);
    }
    let mut findings = Findings::default();
    let mut bars = Vec::new();
    let amount = context.amount(256, 128) << 20;
    for (way, input) in [("stdout", false), ("stdin", true)] {
        let words =
            if input { vec!["sink".to_owned()] } else { vec!["write".to_owned(), "32768".to_owned()] };
        let words: Vec<String> = words.into_iter().chain([amount.to_string()]).collect();
        let command = place.command(&words.iter().map(String::as_str).collect::<Vec<_>>());
        let series = interleave(context.runs, &mut peers, |peer| {
            let before = peer.cpu()?;
            if input {
                Session::open(peer, Ask::input(&command))?.feed(amount, 32 << 10)?;
            } else {
                Session::open(peer, Ask::output(&command))?.drain(amount, true)?;
            }
            Ok([(peer.cpu()? - before).as_secs_f64() * 1e3 * GIB / amount as f64])
        })?;
        let title = format!("{way} in pieces of 32 KiB: server CPU, ms per GiB");
        let mut table = Table::new(&title, &["", "ms per GiB"]);
        for (peer, [cpu]) in peers.iter().zip(&series) {
            table.row([peer.name.to_owned(), cell(cpu.figure())]);
            findings.keep(format!("{way}, {}", peer.name), cpu);
            bars.push((format!("{way}, {}", peer.name), cpu.median()));
        }
        findings.tables.push(table);
    }
    findings.charts.push(Chart {
        title: "stdout and stdin with and without TLS".into(),
        unit: "ms per GiB".into(),
        bars,
    });
    Ok(findings)
}
