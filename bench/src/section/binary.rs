//! The program itself: its size, and how long it takes from the command line to serving.

use std::io::{Read as _, Write as _};
use std::time::Instant;

use anyhow::{Result, ensure};

use super::Context;
use crate::load::stream::Stream;
use crate::process::Peer;
use crate::report::{Findings, Table, cell, number};
use crate::sample::{Figure, interleave};

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let mut findings = Findings::default();
    let size = |path: &std::path::Path| -> Result<f64> {
        Ok(std::fs::metadata(path)?.len() as f64 / f64::from(1 << 20))
    };
    let mut sizes = Table::new("Stripped program, MiB", &["", "MiB"]).note(
        "Go's server holds the streaming server and the API server's tunnel; a kubelet or an API server is several times \
         as large",
    );
    let ours = size(&place.wsstream)?;
    sizes.row(["wsstream".into(), number(ours)]);
    if let Some(go) = &place.go_server {
        sizes.row(["Go's server of this bench".into(), number(size(go)?)]);
    }
    findings.verdict("binary-size", Figure::once(ours));

    let mut starts: Vec<(&str, &[&str])> =
        vec![("wsstream serve", &[]), ("wsstream serve --insecure-http", &["--insecure-http"])];
    if place.go_server.is_some() {
        starts.push(("Go's server of this bench, no TLS", &["go"]));
    }
    let series = interleave(context.runs, &mut starts, |(name, flags)| {
        let started = Instant::now();
        let peer = match *flags {
            ["go"] => Peer::go(place)?,
            flags => Some(Peer::serve(place, name, flags)?),
        };
        // It says where it listens; believed once it has answered.
        if let Some(peer) = &peer {
            answer(peer)?;
        }
        Ok([started.elapsed().as_secs_f64() * 1e3])
    })?;
    let mut table = Table::new("From the start of the process to its first answer, ms", &["", "ms"])
        .note("with TLS a certificate is generated, with a kubeconfig written in either case; the TLS handshake is part of it; the program is in the page cache");
    for ((name, _), [series]) in starts.iter().zip(&series) {
        table.row([(*name).to_owned(), cell(series.figure())]);
        findings.keep(format!("start, {name}"), series);
    }
    findings.verdict("binary-start", series[0][0].figure());
    findings.tables = vec![sizes, table];
    Ok(findings)
}

/// Any answer: a server of our bench has no page for its health.
fn answer(peer: &Peer) -> Result<()> {
    let mut stream = Stream::connect(peer.address, peer.tls)?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", peer.address)?;
    let mut status = [0; 9];
    stream.read_exact(&mut status)?;
    ensure!(status.starts_with(b"HTTP/1.1 "), "{} answered {}", peer.name, String::from_utf8_lossy(&status));
    Ok(())
}
