//! Forwarded ports, by our client against our server and against Go's. Client and target share a core, so that a server
//! that is fast enough is held up by them: the server's CPU says what the throughput then cannot.

use std::io;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use wsstream::bytes::{Bytes, BytesMut};
use wsstream::http::HeaderValue;
use wsstream::portforward::PortStream;
use wsstream::portforward::client::{self, Forward, Wire};
use wsstream::proto::subprotocol::Encoding;

use super::Context;
use crate::place::{LOAD_CORE, Place, pin};
use crate::process::{Peer, TOKEN, Wire as Carrier};
use crate::report::{Chart, Findings, Table, cell, number};
use crate::sample::{Figure, Series, interleave, quantile};

const GIB: f64 = (1_u64 << 30) as f64;
const MIB: f64 = (1_u64 << 20) as f64;
/// As Go's streaming server knows it: `v4.channel.k8s.io`.
const CHANNELS: Wire = Wire::Channels(Encoding::Binary);
/// A connection that does not move any more has failed.
const STUCK: Duration = Duration::from_secs(120);

pub(super) fn run(context: &Context) -> Result<Findings> {
    let place = &context.place;
    let target = target(place)?;
    let mut peers = Peer::all(place)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let amount = context.amount(512, 64) << 20;
    let connects = usize::try_from(context.amount(500, 200))?;
    let port = target.address.port();
    let mut findings = Findings::default();
    let mut moved = Table::new(
        "Throughput, MiB/s, and server CPU, ms per GiB",
        &[
            "",
            "raw",
            "library",
            "wsstream serve",
            "Go",
            "library / Go",
            "CPU: raw",
            "library",
            "wsstream serve",
            "Go",
            "library / raw",
            "library / Go",
        ],
    )
    .note(
        "raw joins two sockets, with reads of 32 KiB, and knows no connections within one. Go's tunnel is the API server's, which leads to the streaming server over loopback, as in a cluster",
    );
    let mut busy = Table::new(
        "How busy the server's core is meanwhile, %",
        &["", "raw", "library", "wsstream serve", "Go"],
    )
    .note("far below 100 the load is what limits the throughput, and the server's CPU is what tells the servers apart");
    let mut opened = Table::new(
        "From asking for a connection to its first byte, p50, µs",
        &["", "library", "wsstream serve", "Go", "library / Go"],
    );
    let mut bars = Vec::new();
    for (wire, name) in [(Wire::Tunnel, "tunnel"), (Wire::Spdy, "spdy"), (CHANNELS, "channels")] {
        for (verb, id, label) in [(b'd', "down", "from the port"), (b'u', "up", "to the port")] {
            let series = interleave(context.runs, &mut peers, |peer| {
                let (before, started) = (peer.cpu()?, Instant::now());
                let moving = async |forward: Forward| {
                    let mut stream = forward.connect(port).await?.stream;
                    transfer(&mut stream, verb, amount).await
                };
                match peer.wire {
                    Carrier::Raw => raw(&runtime, peer, port, verb, amount),
                    _ => session(&runtime, peer, wire, port, moving),
                }
                .with_context(|| format!("{} over {name}, {label}", peer.name))?;
                let cpu = (peer.cpu()? - before).as_secs_f64() * 1e3 * GIB / amount as f64;
                Ok([amount as f64 / MIB / started.elapsed().as_secs_f64(), cpu])
            })?;
            let at = |peer: usize, what: usize| {
                series.get(peer).map(|all| cell(all[what].figure())).unwrap_or_default()
            };
            let over =
                |peer: usize, what: usize| series.get(peer).map(|all| series[1][what].over(&all[what]));
            let ratio = |over: Option<Figure>| over.map_or_else(String::new, |over| number(over.value));
            moved.row([
                format!("{name}, {label}"),
                at(0, 0),
                at(1, 0),
                at(2, 0),
                at(3, 0),
                ratio(over(3, 0)),
                at(0, 1),
                at(1, 1),
                at(2, 1),
                at(3, 1),
                ratio(over(0, 1)),
                ratio(over(3, 1)),
            ]);
            let part = |peer: usize| {
                let all = series.get(peer)?;
                let parts: Vec<f64> =
                    all[0].0.iter().zip(&all[1].0).map(|(rate, cpu)| rate / 1024.0 * cpu / 10.0).collect();
                Some(number(Series(parts).median()))
            };
            busy.row([
                format!("{name}, {label}"),
                part(0).unwrap_or_default(),
                part(1).unwrap_or_default(),
                part(2).unwrap_or_default(),
                part(3).unwrap_or_default(),
            ]);
            for (peer, [rate, cpu]) in peers.iter().zip(&series) {
                findings.keep(format!("{name} {id}, {}, MiB/s", peer.name), rate);
                findings.keep(format!("{name} {id}, {}, CPU", peer.name), cpu);
                bars.push((format!("{name}, {label}, {}", peer.name), rate.median()));
            }
            if let (Some(over), true) = (over(3, 0), wire != CHANNELS) {
                findings.verdict(&format!("forward-{name}-{id}"), over);
            }
        }
        if wire == CHANNELS {
            // One connection for each session: to connect is to open a session.
            continue;
        }
        let series = interleave(context.runs, &mut peers[1..], |peer| {
            let mut times =
                session(&runtime, peer, wire, port, async |forward| connect(&forward, port, connects).await)
                    .with_context(|| format!("{} over {name}, connecting", peer.name))?;
            Ok([quantile(&mut times, 0.5)])
        })?;
        let at = |peer: usize| series.get(peer).map(|all| cell(all[0].figure())).unwrap_or_default();
        let over = series.get(2).map(|go| series[0][0].over(&go[0]));
        opened.row([
            name.into(),
            at(0),
            at(1),
            at(2),
            over.map_or_else(String::new, |over| number(over.value)),
        ]);
        for (peer, [time]) in peers[1..].iter().zip(&series) {
            findings.keep(format!("{name} connect, {}", peer.name), time);
        }
        if let Some(over) = over {
            findings.verdict(&format!("forward-{name}-connect"), over);
        }
    }
    findings.tables = vec![moved, busy, opened];
    findings.charts.push(Chart { title: "port-forward: throughput".into(), unit: "MiB/s".into(), bars });
    Ok(findings)
}

/// What the ports lead to, on the load's core.
fn target(place: &Place) -> Result<Peer> {
    // Started on the server's core as every peer; it binds itself elsewhere before it has any threads.
    let mut command = Command::new(&place.own);
    command.args(["peer", "target"]).env("BENCH_CORE", LOAD_CORE.to_string());
    Peer::start("target", Carrier::Raw, &mut command)
}

/// One session, and `work` in it.
fn session<T>(
    runtime: &Runtime,
    peer: &Peer,
    wire: Wire,
    port: u16,
    work: impl AsyncFnOnce(Forward) -> Result<T>,
) -> Result<T> {
    pin(LOAD_CORE);
    runtime.block_on(async {
        let socket = TcpStream::connect(peer.address).await?;
        socket.set_nodelay(true)?;
        let attempt = match wire {
            Wire::Tunnel => client::tunnel(),
            Wire::Spdy => client::spdy(),
            _ => client::channels([port], Encoding::Binary),
        };
        let endpoint = format!("http://{}/api/v1/namespaces/default/pods/host/portforward", peer.address);
        let mut request = attempt.request(&endpoint.parse()?)?;
        let token = HeaderValue::from_str(&format!("Bearer {TOKEN}"))?;
        request.headers_mut().insert("authorization", token);
        let (forward, driver) = attempt.connect(socket, request).await?;
        let held = forward.clone();
        let mut driver = std::pin::pin!(driver);
        let mut work = std::pin::pin!(tokio::time::timeout(STUCK, work(forward)));
        tokio::select! {
            biased;
            done = &mut work => {
                held.shutdown();
                drop(held);
                let _ = tokio::time::timeout(Duration::from_secs(5), driver).await;
                done.context("no end in sight")?
            }
            // Over channels it ends with its only connection; what came before is there to be read.
            end = &mut driver => work.await.context("no end in sight")?.with_context(|| format!("the session ended: {end}")),
        }
    })
}

fn order(verb: u8, bytes: u64) -> Bytes {
    let mut order = vec![verb];
    order.extend(bytes.to_be_bytes());
    order.into()
}

/// The same bytes without a session.
fn raw(runtime: &Runtime, peer: &Peer, port: u16, verb: u8, amount: u64) -> Result<()> {
    pin(LOAD_CORE);
    runtime.block_on(async {
        let mut socket = TcpStream::connect(peer.address).await?;
        socket.set_nodelay(true)?;
        socket.write_all(format!("forward {port}\n").as_bytes()).await?;
        let mut socket = Bare(socket);
        let work = transfer(&mut socket, verb, amount);
        tokio::time::timeout(STUCK, work).await.context("no end in sight")?
    })
}

/// What bytes are moved by.
trait Moves {
    async fn send(&mut self, data: Bytes) -> io::Result<()>;
    async fn chunk(&mut self) -> io::Result<Option<Bytes>>;
}

impl Moves for PortStream {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        Self::send(self, data).await
    }

    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        Self::chunk(self).await
    }
}

struct Bare(TcpStream);

impl Moves for Bare {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.0.write_all(&data).await
    }

    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        let mut buffer = BytesMut::with_capacity(32 << 10);
        let read = self.0.read_buf(&mut buffer).await?;
        Ok((read > 0).then(|| buffer.freeze()))
    }
}

async fn transfer(stream: &mut impl Moves, verb: u8, amount: u64) -> Result<()> {
    stream.send(order(verb, amount)).await?;
    let mut have = 0;
    if verb == b'd' {
        while have < amount {
            have += stream.chunk().await?.with_context(|| format!("the port ended after {have} bytes"))?.len()
                as u64;
        }
        ensure!(have == amount, "{have} bytes came of {amount}");
    } else {
        let block = Bytes::from(vec![0; 32 << 10]);
        while have < amount {
            stream.send(block.clone()).await?;
            have += block.len() as u64;
        }
        stream.chunk().await?.context("the port has taken less than all")?;
    }
    Ok(())
}

async fn connect(forward: &Forward, port: u16, count: usize) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        let mut stream = forward.connect(port).await?.stream;
        stream.send(order(b'c', 0)).await?;
        stream.chunk().await?.context("no answer")?;
        times.push(started.elapsed().as_secs_f64() * 1e6);
        // The end of it belongs to it, but not to the time.
        stream.close()?;
        while stream.chunk().await?.is_some() {}
    }
    Ok(times)
}
