//! The sockets below HTTP: plain TCP or TLS over it, or a unix socket.

mod pace;
mod stall;

pub(crate) use pace::Pace;
pub(crate) use stall::Stall;

use crate::{Limits, api::Known};
use pace::Paced;
use socket2::{SockRef, TcpKeepalive};
use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream},
    sync::OwnedSemaphorePermit,
};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use wsstream::tcp::TcpSocket;

/// Ends a connection at once, from elsewhere, for as long as HTTP has it. In the extensions of its requests.
#[derive(Debug, Clone)]
pub(crate) struct Cut(CancellationToken);

impl Cut {
    /// One that all others of `server` are cut with.
    pub(crate) fn of(server: &CancellationToken) -> Self {
        Self(server.child_token())
    }

    pub(crate) fn cut(&self) {
        self.0.cancel();
    }

    pub(crate) async fn cancelled(&self) {
        self.0.cancelled().await;
    }
}

/// One accepted connection. It holds its place among the connections that the server allows at once, also after an
/// upgrade has taken it away from HTTP.
pub(crate) struct Socket {
    wire: Wire,
    /// There where sessions have a bandwidth.
    pace: Option<Box<Paced>>,
    /// Is told whether the peer takes what is written. Nobody asks any more once HTTP is through.
    known: Option<Known>,
    _place: OwnedSemaphorePermit,
}

enum Wire {
    Plain(TcpSocket),
    Tls(Box<TlsStream<TcpSocket>>),
    Unix(UnixStream),
}

impl Socket {
    pub(crate) fn plain(tcp: TcpSocket, place: OwnedSemaphorePermit) -> Self {
        Self { wire: Wire::Plain(tcp), pace: None, known: None, _place: place }
    }

    pub(crate) fn unix(unix: UnixStream, place: OwnedSemaphorePermit) -> Self {
        Self { wire: Wire::Unix(unix), pace: None, known: None, _place: place }
    }

    pub(crate) fn tls(tls: TlsStream<TcpSocket>, place: OwnedSemaphorePermit) -> Self {
        Self { wire: Wire::Tls(Box::new(tls)), pace: None, known: None, _place: place }
    }
}

impl Socket {
    /// Lets it be seen from elsewhere whether the peer takes what is written.
    pub(crate) fn watched(mut self, known: Known) -> Self {
        self.known = Some(known);
        self
    }

    /// Lets the connection be slowed from elsewhere.
    pub(crate) fn paced(mut self, pace: &Pace) -> Self {
        self.pace = Some(Box::new(Paced::new(pace.clone())));
        self
    }
}

/// Sets the options of an accepted socket. Failing to is no reason to refuse a client.
pub(crate) fn set_options(stream: &TcpStream, limits: &Limits) -> io::Result<()> {
    // A keystroke's echo must not wait for the acknowledgement of the one before.
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(limits.keepalive_idle)
        .with_interval(limits.keepalive_interval)
        .with_retries(limits.keepalive_probes);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let Self { wire, pace, .. } = &mut *self;
        if let Some(pace) = pace {
            ready!(pace.poll_read(cx));
        }
        let before = buf.filled().len();
        ready!(match wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_read(cx, buf),
            Wire::Tls(tls) => Pin::new(tls).poll_read(cx, buf),
            Wire::Unix(unix) => Pin::new(unix).poll_read(cx, buf),
        })?;
        if let Some(pace) = pace {
            pace.has_read(buf.filled().len() - before);
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let Self { wire, pace, known, .. } = &mut *self;
        if let Some(pace) = pace {
            ready!(pace.poll_write(cx));
        }
        let written = match (wire, bufs) {
            // One slice is cheaper as such.
            (Wire::Plain(tcp), [one]) => Pin::new(tcp).poll_write(cx, one),
            (Wire::Plain(tcp), bufs) => Pin::new(tcp).poll_write_vectored(cx, bufs),
            (Wire::Unix(unix), [one]) => Pin::new(unix).poll_write(cx, one),
            (Wire::Unix(unix), bufs) => Pin::new(unix).poll_write_vectored(cx, bufs),
            (Wire::Tls(tls), [one]) => Pin::new(tls).poll_write(cx, one),
            (Wire::Tls(tls), bufs) => Pin::new(tls).poll_write_vectored(cx, bufs),
        };
        if let Some(known) = known {
            known.stall().saw(written.is_pending());
        }
        let written = ready!(written)?;
        if let Some(pace) = pace {
            pace.has_written(written);
        }
        Poll::Ready(Ok(written))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(tcp) => tcp.is_write_vectored(),
            Wire::Tls(tls) => tls.is_write_vectored(),
            Wire::Unix(unix) => unix.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_flush(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_flush(cx),
            Wire::Unix(unix) => Pin::new(unix).poll_flush(cx),
        };
        if let Some(known) = &self.known {
            known.stall().saw(flushed.is_pending());
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(tcp) => Pin::new(tcp).poll_shutdown(cx),
            Wire::Tls(tls) => Pin::new(tls).poll_shutdown(cx),
            Wire::Unix(unix) => Pin::new(unix).poll_shutdown(cx),
        }
    }
}
