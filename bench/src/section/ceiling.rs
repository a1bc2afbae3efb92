//! What a server holds when all of its clients send at once and read nothing: its ceiling is what the limits say, whatever
//! the clients do.

use std::io::{ErrorKind, Write as _};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use anyhow::Result;
use wsstream::bytes::Buf as _;
use wsstream::limits::{OWN_SHARE, SHARED_BUFFER};
use wsstream::proto::spdy::{Headers, Limits, Session};

use super::Context;
use crate::load::{frames::input, session::switched};
use crate::peer::{raise_descriptors, small_buffers};
use crate::process::Peer;
use crate::report::{Findings, Table, number};
use crate::sample::Figure;

const CONNECTIONS: usize = 10_000;
const PIECE: usize = 32 << 10;
/// What one connection would send: the buffer of each if there were no ceiling, and a quarter.
const EACH: usize = 40 * PIECE;
/// Nothing more is taken, and memory has come to rest.
const QUIET: Duration = Duration::from_secs(3);
/// In each direction the own share of a session and one piece on top, and the piece that its handler waits with.
const SESSION: usize = 2 * (OWN_SHARE + PIECE) + PIECE;
/// As many tell what an idle one takes.
const IDLE: usize = 1000;

pub(super) fn run(context: &Context) -> Result<Findings> {
    raise_descriptors();
    let mut findings = Findings::default();
    let mut table = Table::new(
        "10,000 sessions that send and never read, memory of the server, MiB",
        &["", "idle, KiB each", "before", "at most", "ceiling", "each might send", "taken of each, KiB"],
    )
    .note(
        "anonymous memory in RAM. Before: with output on its way to each, which is not read either. Ceiling: 64 MiB that all \
         share, and for each session what an idle one takes, 32 KiB of its own and a piece of 32 KiB each way, and the piece \
         that its handler waits with. The kernel's buffers are not in it",
    );
    for (id, name, wire) in [("ceiling-ws", "WebSocket", channels()), ("ceiling-spdy", "SPDY", streams()?)] {
        let idle = idle(&Peer::bounded(&context.place)?, &wire)?;
        let peer = Peer::bounded(&context.place)?;
        let empty = peer.resident()?;
        let flood = flood(&peer, &wire)?;
        let sessions = CONNECTIONS as f64 * (idle + (SESSION >> 10) as f64);
        let ceiling = empty + sessions + (SHARED_BUFFER >> 10) as f64;
        findings.verdict(id, Figure::once(flood.peak / ceiling));
        table.row([
            name.to_owned(),
            number(idle),
            number(flood.opened / 1024.0),
            number(flood.peak / 1024.0),
            number(ceiling / 1024.0),
            format!("{} KiB", EACH >> 10),
            number(flood.taken as f64 / CONNECTIONS as f64 / 1024.0),
        ]);
    }
    findings.tables.push(table);
    Ok(findings)
}

/// How the sessions of one wire begin, and what they send.
struct Wire {
    /// Of the request.
    upgrade: &'static str,
    /// What opens the session behind it.
    opening: Vec<u8>,
    /// Sent again and again.
    piece: Vec<u8>,
}

fn channels() -> Wire {
    let upgrade = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n";
    Wire { upgrade, opening: Vec::new(), piece: input(PIECE) }
}

/// The streams of a command, and frames of data on its stdin.
fn streams() -> Result<Wire> {
    let mut session = Session::client(Limits::default());
    let mut stdin = 0;
    for kind in ["error", "stdin", "stdout"] {
        let id = session.open(&[("streamtype", kind)].into_iter().collect::<Headers>(), false)?;
        stdin = if kind == "stdin" { id.get() } else { stdin };
    }
    let len = session.outbox().remaining();
    let opening = session.outbox().copy_to_bytes(len).to_vec();
    let mut piece = stdin.to_be_bytes().to_vec();
    piece.extend(u32::try_from(PIECE)?.to_be_bytes());
    piece.resize(8 + PIECE, 0);
    let upgrade = "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io\r\n";
    Ok(Wire { upgrade, opening, piece })
}

/// What came of it, in KiB of memory and bytes.
struct Flood {
    opened: f64,
    peak: f64,
    taken: usize,
}

fn open(peer: &Peer, wire: &Wire, command: &str) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(peer.address)?;
    small_buffers(&socket)?;
    let path = "/api/v1/namespaces/default/pods/host/exec";
    write!(socket, "GET {path}?command={command}&stdin=true&stdout=true HTTP/1.1\r\nHost: localhost\r\n")?;
    write!(socket, "Connection: Upgrade\r\n{}\r\n", wire.upgrade)?;
    // What stands behind it is of no interest, nor is what comes then: nothing is read.
    switched(&mut socket, peer.name)?;
    socket.write_all(&wire.opening)?;
    Ok(socket)
}

/// What one takes whose handler waits, in KiB.
fn idle(peer: &Peer, wire: &Wire) -> Result<f64> {
    let empty = peer.resident()?;
    let sockets = (0..IDLE).map(|_| open(peer, wire, "hold")).collect::<Result<Vec<_>>>()?;
    #[allow(clippy::disallowed_methods, reason = "no runtime waits here")]
    std::thread::sleep(QUIET);
    let full = peer.resident()?;
    drop(sockets);
    Ok((full - empty) / IDLE as f64)
}

fn flood(peer: &Peer, wire: &Wire) -> Result<Flood> {
    let mut sockets = Vec::with_capacity(CONNECTIONS);
    for _ in 0..CONNECTIONS {
        let socket = open(peer, wire, "flood")?;
        socket.set_nonblocking(true)?;
        sockets.push((socket, 0));
    }
    let opened = peer.resident()?;
    let (mut peak, mut last) = (opened, Instant::now());
    while last.elapsed() < QUIET {
        for (socket, sent) in &mut sockets {
            while *sent < EACH {
                let at = *sent % wire.piece.len();
                match socket.write(&wire.piece[at..]) {
                    Ok(len) => {
                        *sent += len;
                        last = Instant::now();
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                    Err(error) => return Err(error.into()),
                }
            }
        }
        peak = peak.max(peer.resident()?);
    }
    Ok(Flood { opened, peak, taken: sockets.iter().map(|(_, sent)| *sent).sum() })
}
