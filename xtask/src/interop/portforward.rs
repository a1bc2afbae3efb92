//! Port-forward: what passes through a forwarder's local ports, whoever the forwarder is.
//!
//! The pod `host` is this machine, so the far end of every connection is a socket of the case itself. One forwarder is
//! started for each case: stock kubectl, over plain SPDY and over the tunnel, and our own client.

use std::{path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdout, Command},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Env, Sizes,
    case::{Case, Runner},
    client::{SHORT, excerpt, feed, finish, hash, pipes, read_until, spawn},
    kubectl::{self, Kubectl, Version},
};
use crate::{payload::Payload, report::Outcome};

/// Who forwards, and over what.
struct Client {
    env: Arc<Env>,
    kind: Kind,
}

enum Kind {
    Kubectl { kubectl: Kubectl, websockets: bool },
    Own { transport: &'static str, home: PathBuf },
}

/// Runs the table with every forwarder: each kubectl over what it knows, and our own client.
pub(super) async fn run(env: &Arc<Env>, versions: &[Version], full: bool, runner: &mut Runner<'_>) {
    for version in versions {
        for websockets in [true, false] {
            let carrier = if websockets { "tunnel" } else { "SPDY" };
            let group = format!("portforward kubectl {} {carrier}", version.name);
            if (websockets && !version.tunnel) || !runner.wants_group(&group) {
                continue;
            }
            let started = Instant::now();
            match kubectl::find(env, *version) {
                Ok(kubectl) => {
                    let client = Client { env: Arc::clone(env), kind: Kind::Kubectl { kubectl, websockets } };
                    runner.group(&group, &client, table(env.sizes, full)).await;
                }
                Err(error) => {
                    let outcome = Outcome::missing(format!("{error:#}"));
                    runner.record(
                        &format!("{group}/client"),
                        started.elapsed(),
                        outcome,
                        runner.log_length(),
                    );
                }
            }
        }
    }
    for transport in ["websocket", "spdy", "channels"] {
        let home = env.server.folder().join("home");
        let client = Client { env: Arc::clone(env), kind: Kind::Own { transport, home } };
        let mut cases = table(env.sizes, full);
        if transport == "channels" {
            // There a client cannot end its direction alone.
            cases.retain(|case| !case.name().contains("half"));
        }
        runner.group(&format!("portforward own {transport}"), &client, cases).await;
    }
}

fn table(sizes: Sizes, full: bool) -> Vec<Case<Client>> {
    let big = sizes.limit;
    let mut cases = vec![
        Case::new("the server speaks first", speaks_first),
        Case::new("the server closes first", closes_first),
        Case::new("the client half-closes, then a long download", half_closed).within(big),
        Case::new("a refused port beside a running download", refused).within(big),
        Case::new("a local abort in mid-download", aborted).within(big),
        Case::new("200 connections at once", parallel).within(big),
        Case::new("big both ways at once, half-closed and hashed", both_ways).within(big),
        Case::new("an unknown pod", unknown_pod),
    ];
    if full {
        cases.push(Case::new("two minutes idle, then data", idle_long).within(Duration::from_secs(240)));
    } else {
        cases.push(Case::new("12 seconds idle, then data", idle_short));
    }
    cases
}

impl Client {
    fn command(&self, args: &[&str]) -> Command {
        match &self.kind {
            Kind::Kubectl { kubectl, websockets } => kubectl.port_forward(args, *websockets),
            Kind::Own { transport, home } => {
                let mut command = Command::new(&self.env.binary);
                command
                    .args(["port-forward", "--transport", transport])
                    .args(args)
                    .env("HOME", home)
                    .env("KUBECONFIG", self.env.server.kubeconfig())
                    .env_remove("RUST_LOG");
                command
            }
        }
    }

    fn big(&self) -> u64 {
        self.env.sizes.big
    }

    /// Forwards free local ports to these of the pod.
    async fn forward(&self, remotes: &[u16]) -> Result<Forwarding> {
        let pairs: Vec<String> = remotes.iter().map(|remote| format!(":{remote}")).collect();
        let mut args = vec!["--address", "127.0.0.1", "host"];
        args.extend(pairs.iter().map(String::as_str));
        let mut child = spawn(&mut self.command(&args))?;
        let (_stdin, mut stdout, mut stderr) = pipes(&mut child)?;
        let mut said = String::new();
        let mut locals = Vec::new();
        for remote in remotes {
            let end = format!(" -> {remote}\n");
            if !said.contains(&end) {
                match read_until(&mut stdout, &end, SHORT).await {
                    Ok(more) => said.push_str(&more),
                    Err(error) => {
                        let mut errors = Vec::new();
                        let _ = timeout(Duration::from_secs(1), stderr.read_to_end(&mut errors)).await;
                        bail!("{error:#}; stderr: {}", excerpt(&errors));
                    }
                }
            }
            let line = said.lines().find(|line| line.ends_with(end.trim_end())).context("no line")?;
            let port =
                line.strip_prefix("Forwarding from 127.0.0.1:").and_then(|rest| rest.split(' ').next());
            locals.push(port.context("no local port")?.parse()?);
        }
        Ok(Forwarding { child, locals, stdout, stderr })
    }
}

/// A forwarder that runs, with its local ports in the order of the remote ones.
struct Forwarding {
    child: Child,
    locals: Vec<u16>,
    /// Read by nobody further on: what it prints fits into the pipe.
    stdout: ChildStdout,
    stderr: ChildStderr,
}

impl Forwarding {
    async fn connect(&self, index: usize) -> Result<TcpStream> {
        let port = *self.locals.get(index).context("no such port")?;
        let socket = timeout(SHORT, TcpStream::connect(("127.0.0.1", port))).await??;
        socket.set_nodelay(true)?;
        Ok(socket)
    }

    /// Fails unless it still runs, with what it said; then ends it.
    async fn lives(mut self) -> Result<()> {
        let ended = self.child.try_wait()?;
        self.child.start_kill()?;
        let (mut out, mut errors) = (Vec::new(), Vec::new());
        self.stdout.read_to_end(&mut out).await?;
        self.stderr.read_to_end(&mut errors).await?;
        self.child.wait().await?;
        ensure!(ended.is_none(), "the forwarder has ended ({ended:?}): {}", excerpt(&errors));
        Ok(())
    }
}

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

async fn speaks_first(client: &Client) -> Result<()> {
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
async fn closes_first(client: &Client) -> Result<()> {
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

async fn half_closed(client: &Client) -> Result<()> {
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
async fn refused(client: &Client) -> Result<()> {
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
async fn aborted(client: &Client) -> Result<()> {
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

async fn parallel(client: &Client) -> Result<()> {
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

async fn both_ways(client: &Client) -> Result<()> {
    let (listener, port) = target().await?;
    let forwarding = client.forward(&[port]).await?;
    let mut local = forwarding.connect(0).await?;
    let mut remote = accept(&listener).await?;
    let length = client.big();
    let (mut local_read, mut local_write) = local.split();
    let (mut remote_read, mut remote_write) = remote.split();
    let (up, down, uploaded, downloaded) = tokio::join!(
        feed(&mut local_write, length),
        // Its end comes behind the upload's: kubectl drops an upload at the end of the download.
        async {
            let mut payload = Payload::new(length);
            while let Some(chunk) = payload.chunk() {
                remote_write.write_all(chunk).await?;
            }
            std::io::Result::Ok(())
        },
        hash(&mut remote_read, None),
        exactly(&mut local_read, length),
    );
    up.context("upload")?;
    down.context("download")?;
    intact(uploaded?, length).context("upload")?;
    downloaded.context("download")?;
    remote.shutdown().await?;
    ensure!(read_all(&mut local).await?.is_empty(), "bytes behind the end of the download");
    forwarding.lives().await
}

/// Compares what comes with the pattern.
async fn exactly(from: &mut (impl tokio::io::AsyncRead + Unpin), length: u64) -> Result<()> {
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
    for _ in 0..2 {
        local.write_all(b"ping").await?;
        expect(&mut remote, b"ping").await?;
        remote.write_all(b"pong").await?;
        expect(&mut local, b"pong").await?;
        sleep(pause).await;
    }
    // Another connection after the pause, too.
    let mut second = forwarding.connect(0).await?;
    accept(&listener).await?.write_all(b"new").await?;
    expect(&mut second, b"new").await?;
    local.write_all(b"last").await?;
    expect(&mut remote, b"last").await?;
    forwarding.lives().await
}

async fn idle_short(client: &Client) -> Result<()> {
    idle(client, Duration::from_secs(6)).await
}

async fn idle_long(client: &Client) -> Result<()> {
    idle(client, Duration::from_secs(60)).await
}

async fn unknown_pod(client: &Client) -> Result<()> {
    let ended = finish(&mut client.command(&["nobody", ":80"]), b"", SHORT).await?;
    ended.code(1)?.stderr_has(&["pods \"nobody\" not found"])?;
    Ok(())
}
