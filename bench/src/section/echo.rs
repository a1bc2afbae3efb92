//! A keystroke and its echo. The server echoes by itself, so that no terminal and no shell is in the way: what is left is
//! the way there and back.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use wsstream::Subprotocol;
use wsstream::bytes::Bytes;
use wsstream::remotecommand::{Request, client};

use super::Context;
use crate::place::Place;
use crate::process::{Peer, Wire};
use crate::report::{Chart, Findings, Table, cell};
use crate::sample::{Figure, Series, interleave, quantile};

/// A keystroke as a terminal sends it is a few bytes.
const SIZE: usize = 16;

enum Client {
    Raw,
    Ours,
    Go,
    KubeRs,
}

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let rounds = usize::try_from(context.amount(10_000, 3000))?;
    let mut peers = vec![
        ("raw TCP", Client::Raw, Peer::raw(place)?),
        ("our client and server", Client::Ours, Peer::library(place)?),
    ];
    if let Some(go) = Peer::go(place)? {
        peers.push(("our client, Go's server", Client::Ours, go));
    }
    if let (Some(_), Some(go)) = (&place.go_client, Peer::go(place)?) {
        peers.push(("client-go and Go's server", Client::Go, go));
    }
    if place.kube_rs.is_some() {
        peers.push(("kube-rs, our server", Client::KubeRs, Peer::library(place)?));
        if let Some(go) = Peer::go(place)? {
            peers.push(("kube-rs, Go's server", Client::KubeRs, go));
        }
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let series = interleave(context.runs, &mut peers, |(_, client, peer)| {
        let before = peer.cpu()?;
        let mut times = match client {
            Client::Raw => runtime.block_on(raw(peer, rounds))?,
            Client::Ours => runtime.block_on(ours(peer, rounds))?,
            Client::Go => go(place, peer, rounds)?,
            Client::KubeRs => kube_rs(place, peer, rounds)?,
        };
        let cpu = (peer.cpu()? - before).as_secs_f64() * 1e6 / rounds as f64;
        Ok([quantile(&mut times, 0.5), quantile(&mut times, 0.99), quantile(&mut times, 0.999), cpu])
    })?;
    let mut findings = Findings::default();
    let mut table =
        Table::new("Round trip of 16 bytes, µs", &["", "p50", "p99", "p99.9", "server CPU per echo"]);
    let mut bars = Vec::new();
    for ((name, ..), all) in peers.iter().zip(&series) {
        table.row(std::iter::once((*name).to_owned()).chain(all.iter().map(|series| cell(series.figure()))));
        bars.push(((*name).to_owned(), all[0].median()));
        for (series, what) in all.iter().zip(["p50", "p99", "p99.9", "CPU"]) {
            findings.keep(format!("{name}, {what}"), series);
        }
    }
    let over = |at: usize| -> Figure { Series::over(&series[1][at], &series[0][at]) };
    findings.verdict("echo-p50", over(0));
    findings.verdict("echo-p99", over(1));
    findings.tables.push(table);
    findings.charts.push(Chart { title: "Keystroke echo, p50".into(), unit: "µs".into(), bars });
    Ok(findings)
}

async fn raw(peer: &Peer, rounds: usize) -> Result<Vec<f64>> {
    assert_eq!(peer.wire, Wire::Raw);
    let mut socket = TcpStream::connect(peer.address).await?;
    socket.set_nodelay(true)?;
    socket.write_all(b"echo\n").await?;
    let mut times = Vec::with_capacity(rounds);
    let mut key = [0; SIZE];
    for _ in 0..rounds {
        let started = Instant::now();
        socket.write_all(&key).await?;
        socket.read_exact(&mut key).await?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

/// Through the library's client, over v4, which Go's streaming server speaks as well.
async fn ours(peer: &Peer, rounds: usize) -> Result<Vec<f64>> {
    let socket = TcpStream::connect(peer.address).await?;
    socket.set_nodelay(true)?;
    let start = client::exec(Request::command(["@echo"]).stdin(true).stdout(true));
    let start = start.protocols([Subprotocol::V4]);
    let endpoint = format!("http://{}/api/v1/namespaces/default/pods/host/exec", peer.address);
    let mut process = start.connect(socket, start.request(&endpoint.parse()?)?).await?;
    let (mut stdin, mut stdout) =
        (process.stdin.take().context("no stdin")?, process.stdout.take().context("no stdout")?);
    let typing = async {
        let mut times = Vec::with_capacity(rounds);
        for _ in 0..rounds {
            let started = Instant::now();
            stdin.send(Bytes::from_static(&[0; SIZE])).await?;
            let mut have = 0;
            while have < SIZE {
                have += stdout.chunk().await?.context("the echo ended")?.len();
            }
            times.push(started.elapsed().as_secs_f64() * 1e6);
        }
        anyhow::Ok(times)
    };
    tokio::select! {
        times = typing => times,
        outcome = process.wait() => anyhow::bail!("the session ended: {outcome}"),
    }
}

fn go(place: &Place, peer: &Peer, rounds: usize) -> Result<Vec<f64>> {
    let url = format!(
        "http://{}/api/v1/namespaces/default/pods/host/exec?command=@echo&stdin=true&stdout=true",
        peer.address
    );
    program(place.go_client.as_deref().context("no client-go")?, &url, rounds)
}

fn kube_rs(place: &Place, peer: &Peer, rounds: usize) -> Result<Vec<f64>> {
    program(place.kube_rs.as_deref().context("no kube-rs")?, &format!("http://{}", peer.address), rounds)
}

/// A client that prints how long each round took, in nanoseconds.
fn program(client: &Path, url: &str, rounds: usize) -> Result<Vec<f64>> {
    let output = Command::new(client).args([url, &rounds.to_string(), &SIZE.to_string()]).output()?;
    ensure!(output.status.success(), "{}: {}", client.display(), String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    text.lines().map(|line| Ok(line.parse::<f64>()? / 1e3)).collect()
}
