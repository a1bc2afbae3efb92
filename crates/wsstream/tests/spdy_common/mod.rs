//! Two linked SPDY connections, over whatever may carry them.

#![allow(dead_code, reason = "each test file uses its own part")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]

use std::future::Future;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use wsstream::limits::SpdyLimits;
use wsstream::proto::spdy::{Event, Limits, Session};
use wsstream::spdy::{Builder, Connection, End, GoAwayStatus, Headers, ReadError, Stream, StreamReader};
use wsstream::transport::Io;
use wsstream::tunnel::Tunnel;
use wsstream_testing::{Plan, awkward_pair};

/// What a connection runs over.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Carrier {
    /// A wire in memory that behaves.
    Smooth,
    /// One that splits everything and is never ready at once.
    Awkward(u64),
    /// One that takes one slice at a time.
    Unvectored,
    /// A WebSocket over the first.
    Tunnel,
    /// A WebSocket over the second.
    AwkwardTunnel(u64),
}

/// Every carrier.
pub(crate) const CARRIERS: [Carrier; 5] =
    [Carrier::Smooth, Carrier::Awkward(7), Carrier::Unvectored, Carrier::Tunnel, Carrier::AwkwardTunnel(11)];

/// The two ends of a carrier: the server's and the client's.
pub(crate) fn carry(carrier: Carrier) -> (Box<dyn Io>, Box<dyn Io>) {
    let wire = |a: Plan, b: Plan| awkward_pair(a.unrecorded(), b.unrecorded(), 64 << 10);
    let smooth = || wire(Plan::smooth(), Plan::smooth());
    let awkward = |seed| wire(Plan::awkward(seed, 900), Plan::awkward(seed + 1, 900));
    match carrier {
        Carrier::Smooth => {
            let (server, client) = smooth();
            (Box::new(server), Box::new(client))
        }
        Carrier::Awkward(seed) => {
            let (server, client) = awkward(seed);
            (Box::new(server), Box::new(client))
        }
        Carrier::Unvectored => {
            let plan = || Plan::smooth().vectored(false);
            let (server, client) = wire(plan(), plan());
            (Box::new(server), Box::new(client))
        }
        Carrier::Tunnel => {
            let (server, client) = smooth();
            (Box::new(Tunnel::server(server)), Box::new(Tunnel::client(client)))
        }
        Carrier::AwkwardTunnel(seed) => {
            let (server, client) = awkward(seed);
            (Box::new(Tunnel::server(server)), Box::new(Tunnel::client(client)))
        }
    }
}

/// Two linked connections with their drivers running.
pub(crate) struct Pair {
    pub(crate) server: Connection,
    pub(crate) client: Connection,
    pub(crate) server_end: JoinHandle<End>,
    pub(crate) client_end: JoinHandle<End>,
}

pub(crate) fn linked(carrier: Carrier) -> Pair {
    linked_with(carrier, Builder::server(), Builder::client())
}

pub(crate) fn linked_with(carrier: Carrier, server: Builder, client: Builder) -> Pair {
    let (server_io, client_io) = carry(carrier);
    let (server, server_driver) = server.start(server_io);
    let (client, client_driver) = client.start(client_io);
    let (server_end, client_end) = (tokio::spawn(server_driver), tokio::spawn(client_driver));
    Pair { server, client, server_end, client_end }
}

/// Limits that differ from the default in what `change` does.
pub(crate) fn limits(change: impl FnOnce(&mut SpdyLimits)) -> SpdyLimits {
    let mut limits = SpdyLimits::default();
    change(&mut limits);
    limits
}

pub(crate) fn headers(kind: &str) -> Headers {
    Headers::from_iter([("streamtype", kind)])
}

impl Pair {
    /// A stream that the client opens and the server accepts: the server's end, then the client's.
    pub(crate) async fn stream(&self) -> (Stream, Stream) {
        let client = soon(self.client.open(&headers("data"), false)).await.unwrap();
        let server = soon(self.server.accept()).await.unwrap().accept();
        assert_eq!(server.id(), client.id());
        (server, client)
    }

    /// As [`stream`](Self::stream), with the end that shall read first.
    pub(crate) async fn reading(&self, reader: Role) -> (Stream, Stream) {
        let (server, client) = self.stream().await;
        match reader {
            Role::Server => (server, client),
            Role::Client => (client, server),
        }
    }

    pub(crate) fn of(&self, role: Role) -> &Connection {
        match role {
            Role::Server => &self.server,
            Role::Client => &self.client,
        }
    }

    /// Ends both in good order.
    pub(crate) async fn finish(self) {
        self.client.shutdown(GoAwayStatus::OK);
        self.server.shutdown(GoAwayStatus::OK);
        assert!(matches!(soon(self.server_end).await.unwrap(), End::Closed { .. }));
        assert!(matches!(soon(self.client_end).await.unwrap(), End::Closed { .. }));
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    Server,
    Client,
}

/// Both.
pub(crate) const ROLES: [Role; 2] = [Role::Server, Role::Client];

/// Fails the test when the future takes longer than anything here should.
#[track_caller]
pub(crate) fn soon<F: Future>(future: F) -> impl Future<Output = F::Output> {
    let at = std::panic::Location::caller();
    async move {
        match timeout(Duration::from_secs(60), future).await {
            Ok(output) => output,
            Err(_) => panic!("{at}: it takes too long"),
        }
    }
}

/// Lets every other task of a single-threaded test run until nothing moves any more.
pub(crate) async fn settle() {
    for _ in 0..500 {
        tokio::task::yield_now().await;
    }
}

/// The first `len` of some bytes that tell where they stand: no part of them looks like another.
pub(crate) fn pattern(len: usize) -> Bytes {
    static PATTERN: LazyLock<Bytes> =
        LazyLock::new(|| (0..3 << 20).map(|i| (u32::wrapping_mul(i, 2_654_435_761) >> 13) as u8).collect());
    PATTERN.slice(..len)
}

/// All that comes on a stream until its end.
pub(crate) async fn all(reader: &mut StreamReader) -> (Vec<u8>, Result<(), ReadError>) {
    let mut bytes = Vec::new();
    loop {
        match soon(reader.chunk()).await {
            Ok(Some(chunk)) => {
                assert!(!chunk.is_empty());
                bytes.extend(chunk);
            }
            Ok(None) => return (bytes, Ok(())),
            Err(error) => return (bytes, Err(error)),
        }
    }
}

/// A peer made of a bare session: it reads and writes only when told.
pub(crate) struct Script<T> {
    pub(crate) io: T,
    pub(crate) session: Session,
    input: BytesMut,
}

impl<T: Io> Script<T> {
    pub(crate) fn client(io: T) -> Self {
        Self { io, session: Session::client(Limits::default()), input: BytesMut::new() }
    }

    pub(crate) fn server(io: T) -> Self {
        Self { io, session: Session::server(Limits::default()), input: BytesMut::new() }
    }

    /// Writes what the session has queued.
    pub(crate) async fn flush(&mut self) {
        while self.session.outbox().has_remaining() {
            let outbox = self.session.outbox();
            let n = soon(self.io.write(outbox.chunk())).await.unwrap();
            outbox.advance(n);
        }
    }

    /// Writes bytes as they are.
    pub(crate) async fn raw(&mut self, bytes: &[u8]) {
        soon(self.io.write_all(bytes)).await.unwrap();
    }

    /// The next event; `None` at the end of the stream.
    pub(crate) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.session.handle_input(&mut self.input).unwrap() {
                return Some(event);
            }
            self.input.reserve(16 << 10);
            let read = soon(self.io.read_buf(&mut self.input)).await;
            if read.is_err() || read.is_ok_and(|n| n == 0) {
                return None;
            }
        }
    }

    /// Events until the one that `wanted` chooses; fails at the end of the stream.
    pub(crate) async fn until<R>(&mut self, mut wanted: impl FnMut(Event) -> Option<R>) -> R {
        loop {
            let event = self.event().await.expect("the stream goes on");
            if let Some(found) = wanted(event) {
                return found;
            }
        }
    }
}

/// A control frame, its length told as `len`.
pub(crate) fn control(kind: u16, flags: u8, len: u32, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80, 3];
    frame.extend(kind.to_be_bytes());
    frame.extend((u32::from(flags) << 24 | len).to_be_bytes());
    frame.extend(payload);
    frame
}
