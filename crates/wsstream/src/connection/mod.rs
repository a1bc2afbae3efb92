//! One connection and its channels: the Rust counterpart of Go's `wsstream.Conn`.
//!
//! A [`Builder`] turns an upgraded byte stream into a [`Connection`] (the handle) and a [`Driver`] (the future that
//! moves it). The connection sends nothing of its own but control frames; what a channel means is the business of the
//! layers above, such as [`remotecommand`](crate::remotecommand).
//!
//! # Events
//!
//! `tracing` events of this module, target `wsstream::connection::core`: at `warn` a protocol violation by the peer, a
//! message dropped because its channel does not exist or its base64 is bad, memory refused; at `debug` a channel
//! closed by the peer, the peer's Close, dead or idle peers, IO errors, and how the connection ended. No payload is
//! ever logged.

mod clock;
mod core;
mod driver;
mod end;
mod inbox;
mod reader;
mod wakers;
mod writer;

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::connection::{Config, Connection as Machine, DropCounts, Role};
use wsstream_proto::subprotocol::{Encoding, Framing, Subprotocol};
use wsstream_proto::ws::CloseReason;

use self::clock::Clock;
use self::core::{Core, Shared};
use crate::limits::{Limits, Timeouts};
use crate::transport::{Io, UnsentProbe};

pub(crate) use self::core::READ_SIZE;
pub(crate) use inbox::Inbox;

pub use driver::Driver;
pub use end::{End, Loss, Side};
pub use reader::{ChannelReader, ReadError};
pub use writer::{ChannelWriter, MAX_WRITE, WriteError};

/// What a handle holds on to; the last one dropped closes the connection.
struct Handle {
    shared: Arc<Shared>,
    number: u64,
    is_server: bool,
}

impl Handle {
    fn new(shared: Arc<Shared>, is_server: bool) -> Self {
        shared.lock().add_handle();
        let number = shared.next_handle();
        Self { shared, number, is_server }
    }
}

impl Clone for Handle {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.shared), self.is_server)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.lock().drop_handle(&self.shared.write_waker);
    }
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Handle({})", self.number)
    }
}

/// What went over a connection so far.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Payload bytes that arrived, by channel, read or not.
    pub received: Vec<u64>,
    /// Payload bytes that were queued to be sent, by channel.
    pub sent: Vec<u64>,
    /// Messages without payload that arrived: at a client, the server's ready signal.
    pub empty_messages: u64,
    /// Messages that were dropped, by reason.
    pub dropped: DropCounts,
    /// Bytes that wait in this process for their reader.
    pub waiting: usize,
    /// The most that ever waited so.
    pub most_waiting: usize,
    /// Pings that arrived.
    pub pings: u64,
    /// Pings that were sent and that nothing followed, neither a pong nor anything else, before the next was due or the
    /// peer was given up.
    pub pings_missed: u64,
}

/// Prepares a connection; see [`Connection::builder`].
#[derive(Debug, Clone)]
#[must_use = "a builder does nothing until `server` or `client` is called"]
pub struct Builder {
    subprotocol: Subprotocol,
    channels: Vec<ChannelMode>,
    limits: Limits,
    timeouts: Timeouts,
    probe: Option<UnsentProbe>,
    already_read: Bytes,
}

impl Builder {
    /// The mode of each channel on this side, from channel 0 on. A single-stream protocol has one channel, 0.
    pub fn channels(mut self, modes: impl IntoIterator<Item = ChannelMode>) -> Self {
        self.channels = modes.into_iter().collect();
        self
    }

    /// How much may be held and taken.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The clocks.
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// How to learn what the kernel has not delivered yet; asked only while closing.
    pub fn unsent_probe(mut self, probe: Option<UnsentProbe>) -> Self {
        self.probe = probe;
        self
    }

    /// As [`unsent_probe`](Self::unsent_probe), for a probe that the caller may have given: one that was given counts for
    /// more than the one that was found in the upgrade.
    #[cfg(any(feature = "client", feature = "server"))]
    pub(crate) fn given_probe(self, given: Option<UnsentProbe>) -> Self {
        if given.is_some() { self.unsent_probe(given) } else { self }
    }

    /// Bytes that were read from the stream behind the HTTP head of the upgrade.
    pub fn already_read(mut self, bytes: Bytes) -> Self {
        self.already_read = bytes;
        self
    }

    /// The server's end of a stream whose upgrade is done.
    pub fn server(self, io: impl Io + 'static) -> (Connection, Driver) {
        self.build(Box::new(io), Role::Server)
    }

    /// The client's end of a stream whose upgrade is done.
    pub fn client(self, io: impl Io + 'static) -> (Connection, Driver) {
        self.build(Box::new(io), Role::Client { mask: rand::random })
    }

    fn build(self, io: Box<dyn Io>, role: Role) -> (Connection, Driver) {
        let is_server = matches!(role, Role::Server);
        // The limit is one of payload; base64 takes 4 bytes for 3.
        let max_message = match self.subprotocol.encoding() {
            Encoding::Binary => self.limits.max_message.saturating_add(1),
            Encoding::Base64 => {
                (self.limits.max_message.saturating_add(2) / 3).saturating_mul(4).saturating_add(1)
            }
        };
        let machine = Machine::new(&Config {
            role,
            subprotocol: self.subprotocol.clone(),
            channels: self.channels.clone(),
            max_message,
        });
        let core = Core::new(
            io,
            machine,
            is_server,
            self.channels.iter().map(|mode| mode.reads()),
            BytesMut::from(self.already_read),
            self.limits,
            Clock::new(self.timeouts),
            self.probe,
        );
        let shared = Arc::new(Shared::new(core));
        let connection = Connection {
            handle: Handle::new(Arc::clone(&shared), is_server),
            subprotocol: Arc::new(self.subprotocol),
            channels: self.channels.into(),
        };
        (connection, Driver::new(shared))
    }
}

/// The handle of one connection.
///
/// Give out readers and writers from it, then keep it to [`shutdown`](Self::shutdown). When it and all its readers and
/// writers are dropped without that, the connection closes with 1011 (server) or 1001 (client), which no client takes
/// for success; when the peer had closed already, its Close is answered with the same code.
#[derive(Debug)]
pub struct Connection {
    handle: Handle,
    subprotocol: Arc<Subprotocol>,
    channels: Arc<[ChannelMode]>,
}

impl Connection {
    /// Begins a connection over `subprotocol`, with no channels yet and the default limits and timeouts.
    pub fn builder(subprotocol: Subprotocol) -> Builder {
        let channels = match subprotocol.framing() {
            Framing::Channels => Vec::new(),
            Framing::Single => vec![ChannelMode::ReadWrite],
        };
        Builder {
            subprotocol,
            channels,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            probe: None,
            already_read: Bytes::new(),
        }
    }

    /// What the handshake agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> &Subprotocol {
        &self.subprotocol
    }

    /// The reading side of a channel; `None` when it was taken before or the channel does not exist. On a channel that
    /// is not read here it is at the end of input from the start, as upstream has it.
    #[must_use]
    pub fn reader(&self, channel: ChannelId) -> Option<ChannelReader> {
        self.handle.shared.lock().take_reader(usize::from(channel.0))?;
        Some(ChannelReader::new(self.handle.clone(), channel))
    }

    /// A writing side of a channel; `None` when it is not written here. Several may exist: each message is whole.
    #[must_use]
    pub fn writer(&self, channel: ChannelId) -> Option<ChannelWriter> {
        let mode = self.channels.get(usize::from(channel.0))?;
        mode.writes().then(|| ChannelWriter::new(self.handle.clone(), channel, false))
    }

    /// A writing side for code that writes to every channel alike: where [`writer`](Self::writer) has none it accepts
    /// everything and discards it, as upstream does.
    #[must_use]
    pub fn writer_or_discard(&self, channel: ChannelId) -> ChannelWriter {
        self.writer(channel).unwrap_or_else(|| ChannelWriter::new(self.handle.clone(), channel, true))
    }

    /// Ends the connection in good order: sends Close behind everything that was queued, then the [`Driver`] reads on
    /// until the peer's Close, and ends. A server throws away what still comes; a client hands it to its readers.
    /// Nothing can be sent after this. Calling it again changes nothing.
    pub fn shutdown(&self, reason: &CloseReason) {
        self.handle.shared.lock().shutdown(reason, &self.handle.shared.write_waker);
    }

    /// Waits until the connection is over and tells how it ended. Cancel-safe; resolves at once afterwards.
    pub async fn ended(&self) -> End {
        poll_fn(|cx| self.handle.shared.lock().poll_end(cx)).await
    }

    /// Waits until the peer has closed or the connection is lost, whichever comes first; not for this side's own
    /// shutdown. A peer that has closed can still be sent to. Cancel-safe.
    pub async fn disconnected(&self) -> End {
        poll_fn(|cx| self.handle.shared.lock().poll_disconnect(cx)).await
    }

    /// A handle for [`disconnected`](Self::disconnected) alone, which does not keep the connection open.
    #[must_use]
    pub fn disconnect(&self) -> Disconnect {
        Disconnect(Arc::clone(&self.handle.shared))
    }

    /// When data last went either way; at first, when the connection began.
    #[cfg(feature = "server")]
    pub(crate) fn last_data(&self) -> tokio::time::Instant {
        self.handle.shared.lock().last_data()
    }

    /// Whether the peer has ended its stream of bytes: behind a Close that is no loss, and nobody reads there any more.
    #[cfg(feature = "server")]
    pub(crate) fn peer_hung_up(&self) -> bool {
        self.handle.shared.lock().peer_hung_up()
    }

    /// What went over the connection so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.shared.lock().stats()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.handle.shared.lock().drop_untaken_readers();
    }
}

/// Tells when the peer has closed or the connection is lost. Clone freely; it does not keep the connection open.
#[derive(Clone)]
pub struct Disconnect(Arc<Shared>);

impl Disconnect {
    /// Waits for it, and tells what happened. Cancel-safe; resolves at once afterwards.
    pub async fn wait(&self) -> End {
        poll_fn(|cx| self.0.lock().poll_disconnect(cx)).await
    }
}

impl fmt::Debug for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Disconnect")
    }
}
