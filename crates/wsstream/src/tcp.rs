//! A TCP stream that can be asked how much of what was written is still unsent.

use std::io;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::transport::UnsentProbe;

/// A [`TcpStream`] behind a reference count, so that an [`UnsentProbe`] can look at it while it is in use.
#[derive(Debug, Clone)]
pub struct TcpSocket(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    stream: TcpStream,
    /// See [`NextWrite`].
    more_follows: AtomicBool,
}

/// Has the next write of a [`TcpSocket`] go out together with the one after it. It does not keep the socket open.
#[derive(Debug, Clone)]
pub struct NextWrite(Weak<Inner>);

impl NextWrite {
    /// The kernel holds the next write back until another one follows, for 200 ms at most (`MSG_MORE` of send(2); nothing
    /// where there is no such thing). For who knows that one does at once: each segment costs the sender as much as several
    /// KiB of data, and wakes the peer.
    pub fn hold(&self) {
        if let Some(socket) = self.0.upgrade() {
            socket.more_follows.store(cfg!(target_os = "linux"), Ordering::Relaxed);
        }
    }
}

impl TcpSocket {
    /// Wraps a stream.
    #[must_use]
    pub fn new(stream: TcpStream) -> Self {
        Self(Arc::new(Inner { stream, more_follows: AtomicBool::new(false) }))
    }

    /// The stream, to read or set its options.
    #[must_use]
    pub fn stream(&self) -> &TcpStream {
        &self.0.stream
    }

    /// To join a write with the one after it.
    #[must_use]
    pub fn next_write(&self) -> NextWrite {
        NextWrite(Arc::downgrade(&self.0))
    }

    /// Tells how many bytes wait in the kernel or are on their way unacknowledged, and whether the peer's kernel answers.
    #[must_use]
    pub fn unsent_probe(&self) -> UnsentProbe {
        // Weak: the probe outlives the connection in places, and must not keep the socket open.
        let stream = Arc::downgrade(&self.0);
        let same = stream.clone();
        UnsentProbe::new(move || unsent(&stream.upgrade()?.stream))
            .with_silence(move || silence(&same.upgrade()?.stream))
    }

    fn poll_write_with(
        &self,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        let stream = self.stream();
        loop {
            ready!(stream.poll_write_ready(cx))?;
            let written = if self.0.more_follows.load(Ordering::Relaxed) {
                stream.try_io(Interest::WRITABLE, || write_more_follows(stream, data))
            } else {
                write(stream)
            };
            match written {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => {
                    self.0.more_follows.store(false, Ordering::Relaxed);
                    return Poll::Ready(done);
                }
            }
        }
    }
}

#[cfg(target_os = "linux")]
fn write_more_follows(stream: &TcpStream, data: &[io::IoSlice<'_>]) -> io::Result<usize> {
    let flags = libc::MSG_MORE | libc::MSG_NOSIGNAL;
    socket2::SockRef::from(stream).send_vectored_with_flags(data, flags)
}

#[cfg(not(target_os = "linux"))]
fn write_more_follows(_: &TcpStream, _: &[io::IoSlice<'_>]) -> io::Result<usize> {
    Err(io::ErrorKind::Unsupported.into())
}

/// `SIOCOUTQ`: bytes in the send queue, sent or not, that the peer has not acknowledged (tcp(7)).
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn unsent(stream: &TcpStream) -> Option<usize> {
    use std::os::fd::AsRawFd;
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed, and TIOCOUTQ (the same number as SIOCOUTQ)
    // writes one int to the pointer, which is valid for that. The kernel tells this in no other way; without it a slow
    // reader would be cut off (the test `a_slow_reader_gets_every_byte_after_close`).
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if result == 0 { usize::try_from(bytes).ok() } else { None }
}

/// `TCP_INFO`: the last acknowledgement, once two retransmissions or two window probes in a row went without one (tcp(7)).
/// A live peer can be asked at the very moment that one of them is on its way, but not while two are.
#[cfg(target_os = "linux")]
#[allow(unsafe_code)]
fn silence(stream: &TcpStream) -> Option<Duration> {
    use std::os::fd::AsRawFd;
    let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
    let mut length = libc::socklen_t::try_from(size_of::<libc::tcp_info>()).ok()?;
    // SAFETY: the descriptor is open for as long as `stream` is borrowed. The kernel writes at most `length` bytes to the
    // pointer, which has room for them, and a `tcp_info` is integers only, valid when zeroed and however much is filled in.
    // No safe interface to it is known; without it a client that vanished while it was being sent to is given up by TCP
    // after a quarter of an hour (the test `a_client_that_vanishes_while_it_is_sent_to_is_given_up`).
    let info = unsafe {
        let pointer = info.as_mut_ptr().cast();
        let descriptor = stream.as_raw_fd();
        if libc::getsockopt(descriptor, libc::IPPROTO_TCP, libc::TCP_INFO, pointer, &raw mut length) != 0 {
            return None;
        }
        info.assume_init()
    };
    let asked = info.tcpi_retransmits.max(info.tcpi_probes);
    (asked >= 2).then(|| Duration::from_millis(info.tcpi_last_ack_recv.into()))
}

#[cfg(not(target_os = "linux"))]
fn silence(_: &TcpStream) -> Option<Duration> {
    None
}

#[cfg(not(target_os = "linux"))]
fn unsent(_: &TcpStream) -> Option<usize> {
    None
}

impl AsyncRead for TcpSocket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.stream().poll_read_ready(cx))?;
            let (room, mut read) = (buf.remaining(), None);
            let result = self.stream().try_io(Interest::READABLE, || {
                let n = *read.insert(self.stream().try_read_buf(buf)?);
                // As tokio's own reading has it: a short read has emptied the socket, and asking it again would cost a call
                // that fails. Said here, this cannot hide what arrives from now on.
                if (1..room).contains(&n) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
            });
            match result {
                _ if read.is_some() => return Poll::Ready(Ok(())),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Poll::Ready(Err(error)),
                _ => {}
            }
        }
    }
}

impl AsyncWrite for TcpSocket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, &[io::IoSlice::new(data)], |stream| stream.try_write(data))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        data: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_write_with(cx, data, |stream| stream.try_write_vectored(data))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // tokio has no shutdown by reference; the socket layer's own is the same call.
        Poll::Ready(match socket2::SockRef::from(self.stream()).shutdown(std::net::Shutdown::Write) {
            Err(error) if error.kind() == io::ErrorKind::NotConnected => Ok(()),
            done => done,
        })
    }
}
