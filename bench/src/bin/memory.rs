//! How much is allocated for a connection that lies idle, before and after it was used. A program of its own because it
//! counts allocations, which nothing that is timed should do.
//!
//! A line for each kind: its name, bytes before use, bytes after 32 KiB each way, separated by tabs.

use std::alloc::System;
use std::io::{Read as _, Write as _};
use std::net::TcpStream as Client;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use cap::Cap;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use wsstream::remotecommand::{ExitCode, Failure, Streams, server::Exec};
use wsstream::{ChannelId, ChannelMode, Connection, Subprotocol};
use wsstream_bench::load::frames::{Frames, input};

#[global_allocator]
static HEAP: Cap<System> = Cap::new(System, usize::MAX);

const CONNECTIONS: usize = 2000;
const SIZE: usize = 32 << 10;

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// A task that waits for a socket and holds nothing: the floor.
    Task,
    /// Channels on a socket.
    Channels,
    /// An exec session behind hyper.
    Exec,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    wsstream_bench::peer::raise_descriptors();
    // The first of everything makes tables that all the others share.
    for (kind, name) in [
        (Kind::Task, "bare task and socket"),
        (Kind::Channels, "channels"),
        (Kind::Exec, "exec session behind hyper"),
    ] {
        measure(kind, 50).await?;
        let [before, after] = measure(kind, CONNECTIONS).await?;
        println!("{name}\t{before:.0}\t{after:.0}");
    }
    Ok(())
}

/// Bytes for each of `count` connections.
async fn measure(kind: Kind, count: usize) -> Result<[f64; 2]> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let (ready, served) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut clients: Vec<Client> = Vec::with_capacity(count);
    let base = HEAP.allocated();
    let server = tokio::spawn({
        let (ready, served) = (Arc::clone(&ready), Arc::clone(&served));
        async move {
            loop {
                let Ok((socket, _)) = listener.accept().await else { return };
                ready.fetch_add(1, Ordering::Relaxed);
                let served = Arc::clone(&served);
                match kind {
                    Kind::Task => drop(tokio::spawn(task(socket, served))),
                    Kind::Channels => drop(tokio::spawn(channels(socket, served))),
                    Kind::Exec => drop(tokio::spawn(exec(socket, served))),
                }
            }
        }
    });
    let mut clients = tokio::task::spawn_blocking(move || {
        for _ in 0..count {
            let mut socket = Client::connect(address)?;
            if kind == Kind::Exec {
                upgrade(&mut socket)?;
            }
            clients.push(socket);
        }
        anyhow::Ok(clients)
    })
    .await??;
    settled(&ready, count).await?;
    let before = HEAP.allocated().saturating_sub(base);
    clients = tokio::task::spawn_blocking(move || {
        let message = if kind == Kind::Task { vec![0; SIZE] } else { input(SIZE) };
        let mut part = vec![0; 64 << 10];
        for socket in &mut clients {
            socket.write_all(&message)?;
            let (mut have, mut frames) = (0, Frames::default());
            while have < SIZE {
                let read = socket.read(&mut part)?;
                ensure!(read > 0, "the echo ended");
                frames.push(&part[..read]);
                have = if kind == Kind::Task { have + read } else { frames.bytes[1] as usize };
            }
        }
        Ok(clients)
    })
    .await??;
    settled(&served, count * SIZE).await?;
    let after = HEAP.allocated().saturating_sub(base);
    drop(clients);
    server.abort();
    let _ = server.await;
    // The tasks see their sockets end.
    tokio::time::sleep(Duration::from_millis(300)).await;
    Ok([before as f64 / count as f64, after as f64 / count as f64])
}

/// Waits until the counter has come to its goal, and then until the tasks have come to rest.
async fn settled(counter: &AtomicUsize, goal: usize) -> Result<()> {
    let until = Instant::now() + Duration::from_secs(30);
    while counter.load(Ordering::Relaxed) < goal {
        ensure!(Instant::now() < until, "{} of {goal}", counter.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    Ok(())
}

async fn task(mut socket: TcpStream, served: Arc<AtomicUsize>) -> std::io::Result<()> {
    loop {
        socket.readable().await?;
        let mut buffer = Vec::with_capacity(SIZE);
        match socket.try_read_buf(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                socket.write_all(&buffer).await?;
                served.fetch_add(read, Ordering::Relaxed);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn channels(socket: TcpStream, served: Arc<AtomicUsize>) {
    let modes = [ChannelMode::Read, ChannelMode::Write];
    let (connection, driver) = Connection::builder(Subprotocol::V5).channels(modes).server(socket);
    let (Some(mut reader), Some(mut writer)) =
        (connection.reader(ChannelId::STDIN), connection.writer(ChannelId::STDOUT))
    else {
        return;
    };
    let echo = async {
        while let Ok(Some(chunk)) = reader.chunk().await {
            let size = chunk.len();
            if writer.send(chunk).await.is_err() {
                return;
            }
            served.fetch_add(size, Ordering::Relaxed);
        }
    };
    tokio::select! {
        _ = driver => {}
        () = echo => {}
    }
}

async fn exec(socket: TcpStream, served: Arc<AtomicUsize>) {
    let answer = service_fn(move |mut request| {
        let served = Arc::clone(&served);
        async move {
            let session = match Exec::accept(&mut request) {
                Ok(session) => session,
                Err(rejection) => return Ok(rejection.into_response()),
            };
            let response = session.response().map(|()| String::new());
            let run = move |_, streams: Streams| {
                let served = Arc::clone(&served);
                async move {
                    let (Some(mut stdin), Some(mut stdout)) = (streams.stdin, streams.stdout) else {
                        return Err(Failure::internal("no streams"));
                    };
                    while let Some(chunk) = stdin.chunk().await.map_err(Failure::internal)? {
                        let size = chunk.len();
                        stdout.send(chunk).await.map_err(Failure::internal)?;
                        served.fetch_add(size, Ordering::Relaxed);
                    }
                    Ok(ExitCode(0))
                }
            };
            tokio::spawn(session.serve(run));
            Ok::<_, std::convert::Infallible>(response)
        }
    });
    let _ = http1::Builder::new().serve_connection(TokioIo::new(socket), answer).with_upgrades().await;
}

fn upgrade(socket: &mut Client) -> Result<()> {
    socket.write_all(
        b"GET /exec?command=x&stdin=true&stdout=true HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\n\
          Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
          Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n",
    )?;
    let (mut head, mut byte) = ([0; 4], [0]);
    while head != *b"\r\n\r\n" {
        socket.read_exact(&mut byte)?;
        head = [head[1], head[2], head[3], byte[0]];
    }
    // The ready message: three bytes behind the head, on channel 1.
    let mut ready = [0; 3];
    Ok(socket.read_exact(&mut ready)?)
}
