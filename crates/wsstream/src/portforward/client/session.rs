//! An open session, and the connections in it.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::try_join;
use tokio::time::{Instant, timeout};
use wsstream_proto::portforward::{Half, RequestId, StreamRequest, channels_of};
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::super::channel::{self, Preamble};
use super::super::{PortStream, SessionEnd, pair};
use super::Wire;
use crate::connection::{ChannelReader, Connection};
use crate::spdy::{self, GoAwayStatus, ReadError, StreamReader};

/// How long a server may be silent that has yet to answer a stream; upstream's client waits as long for the answer. On a slow
/// line it stands behind the bytes of other connections, so what comes of those begins the wait anew.
const REPLY: Duration = Duration::from_secs(30);

/// And what nobody sees moving: TLS holds 64 KiB back, which the slowest of lines takes so long to carry. Counts only while
/// the server has not been given everything.
const UNSEEN: Duration = Duration::from_secs(5 * 60);

/// And in all: as long as two downloads of a few megabytes take on the slowest of lines.
const REPLY_AT_MOST: Duration = Duration::from_secs(10 * 60);

/// The longest text of an error that is kept, in bytes. The rest is thrown away.
const MAX_ERROR: usize = 64 << 10;

/// An open session. Clone freely; when it, its clones and all its connections are dropped, the session closes.
#[derive(Debug, Clone)]
pub struct Forward {
    wire: Wire,
    carrier: Carrier,
}

#[derive(Debug, Clone)]
enum Carrier {
    Channels { connection: Arc<Connection>, ports: Arc<[u16]> },
    Streams { connection: spdy::Connection, next: Arc<AtomicU64> },
}

/// Why there is no connection. The session goes on, unless it is what failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Over channels a port is named when the session is opened, and has one connection.
    #[error("this session has no (further) connection to port {0}")]
    NoChannel(u16),
    /// The session takes no more streams.
    #[error("{0}")]
    Session(#[from] spdy::OpenError),
    /// The server refused a stream, or the session was lost.
    #[error("the server does not take the connection: {0}")]
    Refused(#[from] ReadError),
    /// The server did not answer for this long, and said nothing else or went on with other connections.
    #[error("the server did not answer within {0:?}")]
    Silent(Duration),
}

/// A new connection.
///
/// Whether something listens on the port is not known yet: the server says so by resetting the stream, which reads as an
/// error, or by its report.
#[derive(Debug)]
#[non_exhaustive]
pub struct Connected {
    /// Its bytes.
    pub stream: PortStream,
    /// What the server has to say about it. Dropped, it is not read.
    pub report: ErrorReport,
}

impl Forward {
    pub(super) fn channels(wire: Wire, connection: Connection, ports: &[u16]) -> Self {
        Self { wire, carrier: Carrier::Channels { connection: Arc::new(connection), ports: ports.into() } }
    }

    pub(super) fn streams(wire: Wire, connection: spdy::Connection) -> Self {
        Self { wire, carrier: Carrier::Streams { connection, next: Arc::default() } }
    }

    /// What carries it.
    #[must_use]
    pub fn wire(&self) -> Wire {
        self.wire
    }

    /// Connects to `port`. Over SPDY this waits until the server has taken the streams, one round trip. Cancel-safe.
    ///
    /// # Errors
    ///
    /// There is no connection to be had.
    pub async fn connect(&self, port: u16) -> Result<Connected, OpenError> {
        match &self.carrier {
            Carrier::Channels { connection, ports } => {
                let mut named = ports.iter().enumerate().filter(|(_, named)| **named == port);
                named
                    .find_map(|(index, _)| by_channel(connection, index, port))
                    .ok_or(OpenError::NoChannel(port))
            }
            Carrier::Streams { connection, next } => {
                let request = RequestId::new(next.fetch_add(1, Ordering::Relaxed));
                let mut opened = pin!(by_streams(connection, port, request));
                let since = Instant::now();
                let mut moving = since;
                loop {
                    let before = Moved::of(connection);
                    if let Ok(opened) = timeout(REPLY, &mut opened).await {
                        return opened;
                    }
                    let now = Moved::of(connection);
                    if now.is_more_than(&before) {
                        moving = Instant::now();
                    }
                    let patience = if now.undelivered == 0 { REPLY } else { UNSEEN };
                    if moving.elapsed() >= patience {
                        return Err(OpenError::Silent(patience));
                    }
                    if since.elapsed() >= REPLY_AT_MOST {
                        return Err(OpenError::Silent(REPLY_AT_MOST));
                    }
                }
            }
        }
    }

    /// Ends the session in good order. Connections that are open are reset: end them first.
    pub fn shutdown(&self) {
        match &self.carrier {
            Carrier::Channels { connection, .. } => {
                connection.shutdown(&CloseReason::code(CloseCode::NORMAL));
            }
            Carrier::Streams { connection, .. } => connection.shutdown(GoAwayStatus::OK),
        }
    }

    /// What went over the session so far and waits in it; `None` over channels.
    #[must_use]
    pub fn stats(&self) -> Option<spdy::Stats> {
        match &self.carrier {
            Carrier::Channels { .. } => None,
            Carrier::Streams { connection, .. } => Some(connection.stats()),
        }
    }

    /// Waits until the server has ended the session, or it is lost; not for this side's own shutdown. Cancel-safe.
    pub async fn disconnected(&self) -> SessionEnd {
        match &self.carrier {
            Carrier::Channels { connection, .. } => SessionEnd::WebSocket(connection.disconnected().await),
            Carrier::Streams { connection, .. } => SessionEnd::Spdy(connection.disconnected().await),
        }
    }
}

/// What has gone over a session. What still goes out counts as well as what comes: new streams may stand behind the uploads
/// of others, be it in a buffer of the kernel.
struct Moved {
    received: u64,
    sent: u64,
    undelivered: u64,
}

impl Moved {
    fn of(connection: &spdy::Connection) -> Self {
        let stats = connection.stats();
        // Also what nobody is left to read: the rest of a connection that was broken off.
        let received = stats.received + stats.discarded;
        Self { received, sent: stats.sent, undelivered: connection.undelivered() as u64 }
    }

    /// Only the direction of change counts: what is undelivered has frames and pings in it that were not sent by anybody.
    fn is_more_than(&self, before: &Self) -> bool {
        self.received > before.received
            || self.sent.saturating_add(before.undelivered) > before.sent.saturating_add(self.undelivered)
    }
}

fn by_channel(connection: &Connection, index: usize, port: u16) -> Option<Connected> {
    let (data, error) = channels_of(index)?;
    // Taken once: the port may be named again further on.
    let reader = connection.reader(data)?;
    let stream = channel::of_client(port, reader, connection.writer(data)?);
    let report = Reading::Channel(connection.reader(error)?, Preamble::expect(port));
    Some(Connected { stream, report: ErrorReport(report) })
}

async fn by_streams(
    connection: &spdy::Connection,
    port: u16,
    request: RequestId,
) -> Result<Connected, OpenError> {
    let headers = |half| StreamRequest { half, port, request: request.clone() }.headers();
    // Upstream's order; its server wants the error stream first only where there is no request id.
    let error = connection.open(&headers(Half::Error), false).await?;
    let (mut errors, mut writer) = error.split();
    errors.set_background(true);
    // Nothing is ever sent on it.
    let _ = writer.close();
    let mut data = connection.open(&headers(Half::Data), false).await?;
    // Upstream's client waits for one after the other, which is a second round trip.
    try_join(errors.replied(), data.replied()).await?;
    Ok(Connected { stream: pair::of_client(data), report: ErrorReport(Reading::Stream(errors)) })
}

/// What the server has to say about one connection, beside its bytes.
#[derive(Debug)]
pub struct ErrorReport(Reading);

#[derive(Debug)]
enum Reading {
    Channel(ChannelReader, Preamble),
    Stream(StreamReader),
}

impl ErrorReport {
    /// Waits for the server's text about what went wrong. `None`: it has said that there is none, or the session is over.
    /// Over channels, which have no other sign, it resolves with the first text or the end of the session.
    ///
    /// Cancel-safe in that it can be asked again, as long as nothing had come.
    pub async fn wait(&mut self) -> Option<String> {
        let mut text = BytesMut::new();
        // However the stream ends, what came on it counts.
        while let Some(chunk) = self.next().await {
            let room = MAX_ERROR.saturating_sub(text.len());
            text.extend_from_slice(chunk.get(..chunk.len().min(room)).unwrap_or_default());
            if matches!(self.0, Reading::Channel(..)) && !text.is_empty() {
                break;
            }
        }
        let text = String::from_utf8_lossy(&text).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    async fn next(&mut self) -> Option<Bytes> {
        match &mut self.0 {
            Reading::Channel(reader, preamble) => {
                let mut chunk = reader.chunk().await.ok()??;
                // One that does not fit is told by the data channel.
                let _ = preamble.take(&mut chunk);
                Some(chunk)
            }
            Reading::Stream(reader) => reader.chunk().await.ok()?,
        }
    }
}
