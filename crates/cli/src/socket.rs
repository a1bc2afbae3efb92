//! The TCP connection below everything that is sent to the server. It can be asked what has not arrived there, also from
//! above TLS: without that, a session over SPDY whose server has vanished is given up by TCP alone, after a quarter of an
//! hour.

use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::client::legacy::connect::{Connected, Connection};
use hyper_util::rt::TokioIo;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::net::TcpStream;
use wsstream::tcp::TcpSocket;

/// What the connector makes of each TCP stream. Every response that comes over it has its probe among the extensions, where
/// `wsstream::client` looks for it.
pub(crate) struct Socket(TokioIo<TcpSocket>);

impl Socket {
    /// Wraps what hyper-util's own connector has made.
    pub(crate) fn new(stream: TokioIo<TcpStream>) -> Self {
        Self(TokioIo::new(TcpSocket::new(stream.into_inner())))
    }
}

impl Connection for Socket {
    fn connected(&self) -> Connected {
        self.0.inner().stream().connected().extra(self.0.inner().unsent_probe())
    }
}

impl Read for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl Write for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.0.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write_vectored(cx, data)
    }
}
