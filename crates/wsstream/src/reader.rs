//! One-way streams without channels: the reader protocols of logs, `binary.k8s.io` and `base64.binary.k8s.io`.

use std::io;
use std::panic::AssertUnwindSafe;
use std::pin::pin;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::{Either, join, select};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tracing::debug;
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::ws::{CloseCode, CloseReason};

use crate::connection::{Builder, Connection, Driver, End, MAX_WRITE};

/// How a source is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct ReaderOptions {
    /// Send an empty message before the first byte, so that the client knows that the stream is open although the source
    /// has nothing yet. Upstream does so for pod logs.
    pub ready_message: bool,
}

/// Why a source was not sent to its end.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReaderError {
    /// The source failed; the client was told by Close 1011.
    #[error("the source failed: {0}")]
    Source(#[source] io::Error),
    /// The source panicked; the client was told by Close 1011.
    #[error("the source panicked")]
    SourcePanicked,
    /// The client closed, or was lost, before the source ended. What it has is a beginning of the source.
    #[error("the client left before the end: {0}")]
    Closed(End),
}

/// Sends everything from `source` over a connection of a reader protocol, then closes it, handshake included. Returns
/// the number of bytes sent.
///
/// What the client sends is thrown away; when it closes, sending stops. What was read from the source before it failed
/// is delivered first. A source that fails or panics ends with Close 1011, where upstream ends cleanly and nobody can
/// tell. Prepare the connection with [`sender`].
///
/// Cancel-safe: dropped, the connection is cut.
///
/// # Errors
///
/// The source or the client ended it early.
pub async fn send(
    connection: Connection,
    driver: Driver,
    source: impl AsyncRead,
    options: ReaderOptions,
) -> Result<u64, ReaderError> {
    let conversation = async {
        let result = copy(&connection, source, options).await;
        let reason = match &result {
            Ok(_) | Err(ReaderError::Closed(_)) => CloseReason::code(CloseCode::NORMAL),
            Err(error) => CloseReason::new(CloseCode::INTERNAL, error.to_string()),
        };
        connection.shutdown(&reason);
        result
    };
    let (end, result) = join(driver, conversation).await;
    let sent = result?;
    match end {
        End::Closed { .. } => Ok(sent),
        lost @ End::Lost(_) => Err(ReaderError::Closed(lost)),
    }
}

async fn copy(
    connection: &Connection,
    source: impl AsyncRead,
    options: ReaderOptions,
) -> Result<u64, ReaderError> {
    let Some(mut writer) = connection.writer(ChannelId(0)) else { return Ok(0) };
    let gone = |error: crate::connection::WriteError| {
        debug!(%error, "the client left");
        connection.ended().map(|end| Err(ReaderError::Closed(end)))
    };
    if options.ready_message
        && let Err(error) = writer.send(Bytes::new()).await
    {
        return gone(error).await;
    }
    let mut source = pin!(source);
    let mut sent = 0;
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(MAX_WRITE);
        let read = AssertUnwindSafe(source.read_buf(&mut buffer)).catch_unwind();
        let n = match select(pin!(read), pin!(connection.disconnected())).await {
            Either::Left((Ok(Ok(n)), _)) => n,
            Either::Left((Ok(Err(error)), _)) => return Err(ReaderError::Source(error)),
            Either::Left((Err(_panic), _)) => return Err(ReaderError::SourcePanicked),
            Either::Right((end, _)) => return Err(ReaderError::Closed(end)),
        };
        if n == 0 {
            return Ok(sent);
        }
        sent += n as u64;
        let message = buffer.split().freeze();
        if let Err(error) = writer.send(message).await {
            return gone(error).await;
        }
    }
}

/// Prepares the receiving side of a reader protocol.
pub fn receiver(builder: Builder) -> Builder {
    builder.channels([ChannelMode::Read])
}

/// Prepares the sending side of a reader protocol.
pub fn sender(builder: Builder) -> Builder {
    builder.channels([ChannelMode::Write])
}
