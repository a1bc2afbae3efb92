//! What several of these tests need.

#![allow(dead_code, reason = "each test file uses its own part")]

use std::fmt::Write as _;
use std::future::Future;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, DuplexStream};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use wsstream::connection::Builder;
use wsstream::proto::ws::{CloseCode, CloseReason};
use wsstream::{ChannelId, ChannelMode, Connection, Limits, Subprotocol, Timeouts};
use wsstream_testing::{Awkward, Peer, Plan, awkward_pair};

pub(crate) const CH0: ChannelId = ChannelId(0);
pub(crate) const CH1: ChannelId = ChannelId(1);
pub(crate) const CH2: ChannelId = ChannelId(2);
pub(crate) const CH3: ChannelId = ChannelId(3);
pub(crate) const CH4: ChannelId = ChannelId(4);

/// The five channels of a remote command as the server has them.
pub(crate) const SERVER: [ChannelMode; 5] =
    [ChannelMode::Read, ChannelMode::Write, ChannelMode::Write, ChannelMode::Write, ChannelMode::Read];

/// The same as the client has them.
pub(crate) const CLIENT: [ChannelMode; 5] =
    [ChannelMode::Write, ChannelMode::Read, ChannelMode::Read, ChannelMode::Read, ChannelMode::Write];

/// One end of a wire in memory.
pub(crate) type Wire = Awkward<DuplexStream>;

pub(crate) fn normal() -> CloseReason {
    CloseReason::code(CloseCode::NORMAL)
}

/// Timeouts that differ from the default in what `change` does.
pub(crate) fn timeouts(change: impl FnOnce(&mut Timeouts)) -> Timeouts {
    let mut timeouts = Timeouts::default();
    change(&mut timeouts);
    timeouts
}

/// Limits that differ from the default in what `change` does.
pub(crate) fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// A builder of our server for a remote command.
pub(crate) fn server(subprotocol: Subprotocol) -> Builder {
    Connection::builder(subprotocol).channels(SERVER)
}

/// A builder of our client for a remote command.
pub(crate) fn client(subprotocol: Subprotocol) -> Builder {
    Connection::builder(subprotocol).channels(CLIENT)
}

/// A wire in memory with room for 64 KiB each way.
pub(crate) fn smooth() -> (Wire, Wire) {
    awkward_pair(Plan::smooth(), Plan::smooth(), 64 << 10)
}

/// Our server's end of a wire, and a scripted client at the other.
pub(crate) fn scripted_client() -> (Wire, Peer<Wire>) {
    let (ours, theirs) = smooth();
    (ours, Peer::client(theirs))
}

/// Our client's end of a wire, and a scripted server at the other.
pub(crate) fn scripted_server() -> (Wire, Peer<Wire>) {
    let (ours, theirs) = smooth();
    (ours, Peer::server(theirs))
}

/// Two ends of a TCP connection on this machine.
pub(crate) async fn tcp_pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (client, server) =
        tokio::join!(TcpStream::connect(listener.local_addr().unwrap()), listener.accept());
    (server.unwrap().0, client.unwrap())
}

/// Fails the test when the future takes longer than anything here should.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let at = std::panic::Location::caller();
    async move {
        match timeout(Duration::from_secs(20), future).await {
            Ok(output) => output,
            Err(_) => panic!("{at}: it takes too long"),
        }
    }
}

/// Lets every other task of a single-threaded test run until nothing moves any more.
pub(crate) async fn settle() {
    for _ in 0..200 {
        tokio::task::yield_now().await;
    }
}

/// Waits until `done`, and fails the test when that takes too long.
#[track_caller]
pub(crate) fn until(mut done: impl FnMut() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !done() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
}

/// Bytes that tell where they stand: no part of them looks like another.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

/// A stream whose reads and writes are boxed away, so that nobody finds out what it is made of.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Collects what the library logs in this thread.
#[derive(Clone, Default)]
pub(crate) struct Log(Arc<Mutex<String>>);

impl Log {
    /// Begins to collect; ends when the guard is dropped.
    pub(crate) fn capture() -> (Self, tracing::subscriber::DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(Collector(log.clone()));
        (log, guard)
    }

    /// Every line, with its level in front.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.0.lock().unwrap().lines().map(ToOwned::to_owned).collect()
    }

    /// The lines of level `warn`.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.lines().into_iter().filter(|line| line.starts_with("WARN")).collect()
    }
}

struct Collector(Log);

impl tracing::Subscriber for Collector {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("wsstream")
    }

    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        struct Line<'a>(&'a mut String);
        impl tracing::field::Visit for Line<'_> {
            fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
                let _ = write!(self.0, " {}={value:?}", field.name());
            }
        }
        let mut all = self.0.0.lock().unwrap();
        let _ = write!(all, "{}", event.metadata().level());
        event.record(&mut Line(&mut all));
        all.push('\n');
    }

    fn enter(&self, _: &tracing::span::Id) {}

    fn exit(&self, _: &tracing::span::Id) {}
}

/// The kind of an IO error, for comparisons.
pub(crate) fn kind<T>(result: io::Result<T>) -> Result<T, io::ErrorKind> {
    result.map_err(|error| error.kind())
}
