//! Go's SPDY library against ours, without the layers above: every frame that we write is read by the library of every
//! Kubernetes server and client, in both roles.
//!
//! The services are the same on both sides, named by the header `do` of a stream; interop/go/spdystream has them in Go.

mod services;

use std::{
    path::Path,
    process::Stdio,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use futures_util::future::try_join_all;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    task::JoinHandle,
    time::{sleep, timeout},
};
use wsstream::{
    connection::Side,
    limits::Timeouts,
    spdy::{
        Builder, Connection, End, GoAwayStatus, Headers, Loss, OpenError, ReadError, ResetStatus, Stream,
        StreamReader,
    },
};

use crate::{
    interop::{
        Env, MIB,
        case::{Case, Runner},
        client::{SHORT, feed, hash},
    },
    payload::Payload,
    report::Outcome,
};

/// Both roles.
pub(super) async fn run(env: &Arc<Env>, program: &Path, runner: &mut Runner<'_>) {
    let group = "go spdystream server";
    let started = Instant::now();
    match Peer::start(env, program).await {
        Ok(peer) => {
            let cases = vec![
                Case::new("two hundred streams at once", many),
                Case::new("the answer comes behind the end of the input", half_close),
                Case::new("big both ways on one stream, hashed", large).within(env.sizes.limit),
                Case::new("five streams go on beside one that is never read", unread),
                Case::new("a stream that the peer resets", reset_by_peer),
                Case::new("a stream that is reset tells the peer", reset_here),
                Case::new("a stream that the peer refuses", refused),
                Case::new("ping", ping),
                Case::new("the peer's GOAWAY lets open streams go on", go_away),
            ];
            runner.group(group, &peer, cases).await;
        }
        Err(error) => {
            let outcome = Outcome::Failed(format!("{error:#}"));
            runner.record(&format!("{group}/starts"), started.elapsed(), outcome, runner.log_length());
        }
    }
    if let Err(error) = services::against_client(env, program, runner).await {
        let outcome = Outcome::Failed(format!("{error:#}"));
        runner.record("go spdystream client/ends", started.elapsed(), outcome, runner.log_length());
    }
}

/// A running `spdystream server`, killed when this is dropped.
struct Peer {
    _child: Child,
    address: String,
    big: u64,
}

/// Our end of one connection to it.
struct Session {
    connection: Connection,
    driver: JoinHandle<End>,
}

impl Peer {
    async fn start(env: &Env, program: &Path) -> Result<Self> {
        let mut command = Command::new(program);
        command
            .arg("server")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot run Go's spdystream")?;
        let mut lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        let line = timeout(SHORT, lines.next_line()).await??.unwrap_or_default();
        let address = line.strip_prefix("listening on ").context("it does not listen")?.to_owned();
        Ok(Self { _child: child, address, big: env.sizes.big })
    }

    async fn connect(&self) -> Result<Session> {
        self.connect_with(Builder::client()).await
    }

    async fn connect_with(&self, builder: Builder) -> Result<Session> {
        let socket = TcpStream::connect(&self.address).await?;
        socket.set_nodelay(true)?;
        let (connection, driver) = builder.start(socket);
        Ok(Session { connection, driver: tokio::spawn(driver) })
    }
}

impl Session {
    async fn open(&self, service: &str) -> Result<Stream> {
        let headers = Headers::from_iter([("streamtype", "data"), ("do", service)]);
        Ok(self.connection.open(&headers, false).await?)
    }

    /// Sends all of the input and its end, and reads to the end.
    async fn ask(&self, service: &str, input: &[u8]) -> Result<String> {
        let (mut reader, mut writer) = self.open(service).await?.split();
        let send = async {
            writer.write_all(input).await?;
            writer.shutdown().await
        };
        let mut answer = Vec::new();
        let (sent, read) = timeout(SHORT, async { tokio::join!(send, reader.read_to_end(&mut answer)) })
            .await
            .with_context(|| format!("{service} does not end"))?;
        sent?;
        read?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Ends it in good order, which Go must see as such.
    async fn finish(self) -> Result<()> {
        self.connection.shutdown(GoAwayStatus::OK);
        let end = timeout(SHORT, self.driver).await.context("the connection does not end")??;
        ensure!(end == End::Closed { by: Side::Local, status: GoAwayStatus::OK }, "it ended by {end:?}");
        Ok(())
    }
}

async fn many(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    let asked = (0..200).map(|number| {
        let (session, words) = (&session, format!("stream {number}\n").repeat(100));
        async move {
            let answer = session.ask("echo", words.as_bytes()).await?;
            ensure!(answer == words, "stream {number} got {answer:?}");
            Ok(())
        }
    });
    timeout(SHORT, try_join_all(asked)).await.context("they stand still")??;
    session.finish().await
}

async fn half_close(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    let length = 3 * MIB + 1;
    let (mut reader, mut writer) = session.open("digest").await?.split();
    let mut answer = String::new();
    let (sent, read) = tokio::join!(feed(&mut writer, length), reader.read_to_string(&mut answer));
    sent?;
    read?;
    let want = format!("{length} {}", Payload::hash(length));
    ensure!(answer == want, "{want:?} expected, got {answer:?}");
    session.finish().await
}

async fn large(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    let (mut reader, mut writer) = session.open("echo").await?.split();
    let (sent, got) = tokio::join!(feed(&mut writer, peer.big), hash(&mut reader, None));
    sent?;
    ensure!(got? == (peer.big, Payload::hash(peer.big)), "the echo of {} bytes differs", peer.big);
    session.finish().await
}

async fn unread(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    // Less than the receive buffer takes, more than Go's own queue of one frame.
    let (_kept, mut writer) = session.open("echo").await?.split();
    timeout(SHORT, feed(&mut writer, MIB)).await.context("its input is not taken")??;
    let others = (0..5).map(|_| async {
        let (mut reader, mut writer) = session.open("echo").await?.split();
        let length = 4 * MIB;
        let (sent, got) = tokio::join!(feed(&mut writer, length), hash(&mut reader, None));
        sent?;
        ensure!(got? == (length, Payload::hash(length)), "an echo differs");
        Ok(())
    });
    timeout(SHORT, try_join_all(others)).await.context("the others stand still")??;
    session.finish().await
}

async fn reset_by_peer(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    let (mut reader, _writer) = session.open("reset").await?.split();
    let mut got = Vec::new();
    let end = until_error(&mut reader, &mut got).await?;
    ensure!(got == b"before", "what was sent before the reset is expected, got {got:?}");
    ensure!(end == Some(ReadError::Reset(ResetStatus::CANCEL)), "a reset expected, got {end:?}");
    ensure!(session.ask("echo", b"alive").await? == "alive", "the connection is not well");
    session.finish().await
}

async fn until_error(reader: &mut StreamReader, got: &mut Vec<u8>) -> Result<Option<ReadError>> {
    let read = async {
        loop {
            match reader.chunk().await {
                Ok(Some(chunk)) => got.extend_from_slice(&chunk),
                Ok(None) => return None,
                Err(error) => return Some(error),
            }
        }
    };
    timeout(SHORT, read).await.context("no end comes")
}

async fn reset_here(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    let (_reader, mut writer) = session.open("watch").await?.split();
    writer.write_all(b"some").await?;
    writer.reset_after_data(ResetStatus::CANCEL);
    let started = Instant::now();
    loop {
        let ended = session.ask("watched", b"").await?;
        if ended == "1" {
            break;
        }
        ensure!(started.elapsed() < SHORT, "Go has seen {ended} ends");
    }
    session.finish().await
}

async fn refused(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    let replied = timeout(SHORT, session.open("refuse").await?.replied()).await?;
    ensure!(
        replied == Err(ReadError::Reset(ResetStatus::REFUSED_STREAM)),
        "a refusal expected, got {replied:?}"
    );
    ensure!(session.ask("echo", b"alive").await? == "alive", "the connection is not well");
    session.finish().await
}

async fn ping(peer: &Peer) -> Result<()> {
    // A frame that it cannot read would end the connection.
    let mut timeouts = Timeouts::default();
    timeouts.ping_interval = Some(Duration::from_millis(5));
    let session = peer.connect_with(Builder::client().timeouts(timeouts)).await?;
    sleep(Duration::from_millis(200)).await;
    for _ in 0..10 {
        ensure!(session.ask("ping", b"").await? == "pong", "Go's ping is not answered");
    }
    ensure!(session.connection.stats().counts.pings == 10, "{:?}", session.connection.stats());
    session.finish().await
}

async fn go_away(peer: &Peer) -> Result<()> {
    let session = peer.connect().await?;
    let mut open = session.open("echo").await?;
    open.replied().await?;
    session.ask("goaway", b"").await?;
    let by_peer = End::Closed { by: Side::Peer, status: GoAwayStatus::OK };
    let said = timeout(SHORT, session.connection.disconnected()).await.context("no GOAWAY comes")?;
    ensure!(said == by_peer, "GOAWAY expected, got {said:?}");
    match session.open("echo").await {
        Err(error) if error.downcast_ref() == Some(&OpenError::GoingAway) => {}
        other => bail!("no more streams expected, got {:?}", other.map(|stream| stream.id())),
    }
    open.write_all(b"still here").await?;
    open.shutdown().await?;
    let mut answer = Vec::new();
    let end = until_error(open.reader(), &mut answer).await?;
    ensure!(answer == b"still here", "no echo behind GOAWAY: {answer:?}");
    // Its Close forgets the stream before it writes the FIN, and with the last stream the connection (`stream.go`): the FIN
    // may not get out.
    ensure!(matches!(end, None | Some(ReadError::Lost(Loss::Eof))), "an end expected, got {end:?}");
    let Session { connection, driver } = session;
    connection.shutdown(GoAwayStatus::OK);
    let end = timeout(SHORT, driver).await.context("the connection does not end")??;
    ensure!(end == by_peer, "it ended by {end:?}");
    Ok(())
}
