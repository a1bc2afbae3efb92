//! What is done through a forwarder.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{Client, Everybody, Kind};
use crate::{
    interop::client::{SHORT, excerpt, feed, finish, hash},
    payload::Payload,
};

/// A port of this machine, which is the pod.
async fn target() -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn accept(listener: &TcpListener) -> Result<TcpStream> {
    let socket = timeout(SHORT, listener.accept()).await.context("nobody came to the port")??.0;
    socket.set_nodelay(true)?;
    Ok(socket)
}

async fn read_all(socket: &mut TcpStream) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    timeout(SHORT, socket.read_to_end(&mut all)).await.context("the connection does not end")??;
    Ok(all)
}

async fn expect(socket: &mut TcpStream, want: &[u8]) -> Result<()> {
    let mut got = vec![0; want.len()];
    timeout(SHORT, socket.read_exact(&mut got)).await.context("the bytes do not come")??;
    ensure!(got == want, "{} expected, got {}", excerpt(want), excerpt(&got));
    Ok(())
}

pub(super) async fn speaks_first(client: &Client) -> Result<()> {
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    for _ in 0..3 {
        let mut local = forwarding.connect(0).await?;
        let mut remote = accept(&listener).await?;
        remote.write_all(b"220 ready\r\n").await?;
        expect(&mut local, b"220 ready\r\n").await?;
        local.write_all(b"QUIT\r\n").await?;
        expect(&mut remote, b"QUIT\r\n").await?;
    }
    forwarding.lives().await
}

/// The local client sees the end although it has not ended its own direction.
pub(super) async fn closes_first(client: &Client) -> Result<()> {
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    for _ in 0..3 {
        let mut local = forwarding.connect(0).await?;
        local.write_all(b"hello").await?;
        let mut remote = accept(&listener).await?;
        expect(&mut remote, b"hello").await?;
        remote.write_all(b"bye").await?;
        drop(remote);
        ensure!(read_all(&mut local).await? == b"bye", "the last words are not whole");
    }
    forwarding.lives().await
}

pub(super) async fn half_closed(client: &Client) -> Result<()> {
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    let mut local = forwarding.connect(0).await?;
    local.write_all(b"question").await?;
    local.shutdown().await?;
    let mut remote = accept(&listener).await?;
    ensure!(read_all(&mut remote).await? == b"question", "the question is not whole");
    // Longer than the second that containerd gives the other direction.
    sleep(Duration::from_secs(2)).await;
    let length = client.big() / 4;
    let (sent, got) = tokio::join!(feed(&mut remote, length), hash(&mut local, None));
    sent?;
    intact(got?, length)?;
    forwarding.lives().await
}

fn intact((bytes, hash): (u64, String), length: u64) -> Result<()> {
    ensure!(bytes == length, "{bytes} of {length} bytes came");
    ensure!(hash == Payload::hash(length), "all bytes came, and their hash differs");
    Ok(())
}

/// The download goes on, and so does the forwarder.
pub(super) async fn refused(client: &Client) -> Result<()> {
    let (listener, port) = target().await?;
    let closed = target().await?.1;
    let forwarding = client.forward(&[port, closed]).await?;
    let mut local = forwarding.connect(0).await?;
    let mut remote = accept(&listener).await?;
    let length = client.big();
    let sending = async {
        feed(&mut remote, length).await?;
        drop(remote);
        std::io::Result::Ok(())
    };
    let refusals = async {
        for _ in 0..5 {
            // An end or an abort, but soon, and nothing before; it may come before we have seen ourselves connected.
            let Ok(mut bad) = forwarding.connect(1).await else { continue };
            let mut byte = [0];
            let read = timeout(SHORT, bad.read(&mut byte)).await.context("the refused client hangs")?;
            ensure!(!matches!(read, Ok(1..)), "bytes from a port that nothing listens on");
        }
        Ok(())
    };
    let (sent, got, refusals) = tokio::join!(sending, hash(&mut local, None), refusals);
    refusals?;
    sent?;
    intact(got?, length)?;
    forwarding.lives().await
}

/// Other connections live on, and the target gets rid of what it sends. It learns of the abort at once where the forwarder
/// says so; kubectl may say no more than that its client sends nothing further, and throws away what still comes.
pub(super) async fn aborted(client: &Client) -> Result<()> {
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    let mut other = forwarding.connect(0).await?;
    let mut other_remote = accept(&listener).await?;
    let (rounds, blocks) = match &client.kind {
        Kind::Own { .. } => (5, usize::MAX),
        // Before 1.32 it leaves the stream unread (kubernetes#126718), and all of its connections stand still when its
        // queue of 50 frames is full.
        Kind::Kubectl { kubectl, .. } if kubectl.version() < "1.32" => (1, 16),
        Kind::Kubectl { .. } => (5, 1000),
    };
    for _ in 0..rounds {
        let mut local = forwarding.connect(0).await?;
        let mut remote = accept(&listener).await?;
        let download = async {
            let block = vec![7; 64 << 10];
            let mut left = blocks;
            while left > 0 && remote.write_all(&block).await.is_ok() {
                left -= 1;
            }
        };
        let abort = async {
            let mut some = vec![0; 100_000];
            local.read_exact(&mut some).await?;
            local.set_zero_linger()?;
            drop(local);
            anyhow::Ok(())
        };
        let (ended, aborted) = tokio::join!(timeout(SHORT, download), abort);
        aborted?;
        ended.context("the target cannot get rid of what it sends to a client that is gone")?;
        other.write_all(b"ping").await?;
        expect(&mut other_remote, b"ping").await?;
        other_remote.write_all(b"pong").await?;
        expect(&mut other, b"pong").await?;
    }
    forwarding.lives().await
}

pub(super) async fn parallel(client: &Client) -> Result<()> {
    const CONNECTIONS: usize = 200;
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    let echo = tokio::spawn(async move {
        let mut all = JoinSet::new();
        loop {
            let (mut socket, _) = listener.accept().await?;
            all.spawn(async move {
                // Bounded by what the client sends: it waits for the echo of each block.
                let mut block = vec![0; 16 << 10];
                while socket.read_exact(&mut block).await.is_ok() && socket.write_all(&block).await.is_ok() {}
            });
        }
        #[allow(unreachable_code, reason = "names the type of the error")]
        std::io::Result::Ok(())
    });
    let mut clients = JoinSet::new();
    for number in 0..CONNECTIONS {
        let mut local = forwarding.connect(0).await?;
        clients.spawn(async move {
            for round in 0..4_u8 {
                let block = vec![round.wrapping_add(u8::try_from(number).unwrap_or_default()); 16 << 10];
                local.write_all(&block).await?;
                let mut back = vec![0; block.len()];
                local.read_exact(&mut back).await?;
                ensure!(back == block, "connection {number} got the bytes of another one");
            }
            Ok(())
        });
    }
    while let Some(done) = clients.join_next().await {
        done??;
    }
    echo.abort();
    forwarding.lives().await
}

pub(super) async fn both_ways(client: &Client) -> Result<()> {
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    let mut local = forwarding.connect(0).await?;
    let mut remote = accept(&listener).await?;
    let length = client.big();
    let (mut local_read, mut local_write) = local.split();
    let (mut remote_read, mut remote_write) = remote.split();
    let (up, down, uploaded, downloaded) = tokio::join!(
        async {
            pattern(&mut local_write, length).await?;
            if client.half_closes() {
                local_write.shutdown().await?;
            }
            std::io::Result::Ok(())
        },
        // Its end comes behind the upload's: kubectl drops an upload at the end of the download.
        pattern(&mut remote_write, length),
        async {
            exactly(&mut remote_read, length).await?;
            if client.half_closes() {
                ensure!(remote_read.read(&mut [0]).await? == 0, "bytes behind the end");
            }
            Ok(())
        },
        exactly(&mut local_read, length),
    );
    up.context("upload")?;
    down.context("download")?;
    uploaded.context("upload")?;
    downloaded.context("download")?;
    remote.shutdown().await?;
    ensure!(read_all(&mut local).await?.is_empty(), "bytes behind the end of the download");
    forwarding.lives().await
}

/// Sends the pattern, and no end behind it.
async fn pattern(to: &mut (impl AsyncWrite + Unpin), length: u64) -> std::io::Result<()> {
    let mut payload = Payload::new(length);
    while let Some(chunk) = payload.chunk() {
        to.write_all(chunk).await?;
    }
    Ok(())
}

/// Compares what comes with the pattern.
async fn exactly(from: &mut (impl AsyncRead + Unpin), length: u64) -> Result<()> {
    let mut payload = Payload::new(length);
    let mut got = Vec::new();
    while let Some(want) = payload.chunk() {
        got.resize(want.len(), 0);
        from.read_exact(&mut got).await?;
        ensure!(got == want, "the bytes differ");
    }
    Ok(())
}

async fn idle(client: &Client, pause: Duration) -> Result<()> {
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    let mut local = forwarding.connect(0).await?;
    let mut remote = accept(&listener).await?;
    local.write_all(b"ping").await?;
    expect(&mut remote, b"ping").await?;
    remote.write_all(b"pong").await?;
    expect(&mut local, b"pong").await?;
    sleep(pause).await;
    // Another connection after the pause, too.
    let mut second = forwarding.connect(0).await?;
    accept(&listener).await?.write_all(b"new").await?;
    expect(&mut second, b"new").await?;
    local.write_all(b"last").await?;
    expect(&mut remote, b"last").await?;
    forwarding.lives().await
}

async fn all_idle(Everybody(clients): &Everybody, pause: Duration) -> Result<()> {
    let each = clients.iter().map(async |client| idle(client, pause).await.context(client.group.clone()));
    try_join_all(each).await.map(drop)
}

pub(super) async fn idle_short(everybody: &Everybody) -> Result<()> {
    all_idle(everybody, Duration::from_secs(12)).await
}

pub(super) async fn idle_long(everybody: &Everybody) -> Result<()> {
    all_idle(everybody, Duration::from_secs(120)).await
}

pub(super) async fn unknown_pod(client: &Client) -> Result<()> {
    let ended = finish(&mut client.command(&["nobody", ":80"]), b"", SHORT).await?;
    ended.code(1)?.stderr_has(&["pods \"nobody\" not found"])?;
    Ok(())
}
