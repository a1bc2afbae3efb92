//! A byte stream through a WebSocket: the tunnel of `SPDY/3.1+portforward.k8s.io`.
//!
//! Its binary messages carry the stream, and where one ends and the next begins has no meaning. What comes out of it is
//! an ordinary `AsyncRead + AsyncWrite`, so that a [SPDY connection](crate::spdy) runs over it unchanged.

use std::fmt;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker, ready};

use bytes::{Buf as _, Bytes, BytesMut};
use futures_util::task::AtomicWaker;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;
use tokio_util::io::poll_read_buf;
use tracing::{debug, warn};
use wsstream_proto::connection::Role;
use wsstream_proto::tunnel::{Event, Tunnel as Machine, is_end};
use wsstream_proto::ws::{CloseCode, CloseReason};

use crate::connection::READ_SIZE;
use crate::limits::{EMPTY_MESSAGES_WINDOW, MAX_EMPTY_MESSAGES, MAX_TUNNEL_MESSAGE};
use crate::transport::{Io, poll_write_some};

/// Who waits for the wire: a reader writes too, because it answers pings, and a stream remembers one task only.
#[derive(Debug, Default)]
struct Waiting {
    reader: AtomicWaker,
    writer: AtomicWaker,
}

impl Wake for Waiting {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.reader.wake();
        self.writer.wake();
    }
}

/// How many bytes a tunnel holds that the wire has not taken. It takes a whole message at once, so on a slow line this alone
/// tells that the wire gets on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Held(Arc<AtomicUsize>);

impl Held {
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// One end of a tunnel over a stream whose WebSocket upgrade is done.
///
/// - Reading: the peer's Close is the end of the stream when its code is 1000 or 1001 or there is none. Any other code
///   is [`io::ErrorKind::ConnectionAborted`], a broken rule [`io::ErrorKind::InvalidData`], and an end of the stream
///   below without Close [`io::ErrorKind::UnexpectedEof`]. Pings are answered while somebody reads.
/// - Writing: each write is one message, of at most [`MAX_TUNNEL_MESSAGE`] bytes; a vectored write is one message as well.
///   It is ready when the message is queued, which waits until the wire has taken the one before. Flush to know that
///   the wire has taken all of it.
/// - Shutdown says Close 1000, or answers the peer's. Reading goes on until the peer's Close.
///
/// Dropped without shutdown, it drops the stream below, and the peer sees an end without Close.
pub struct Tunnel {
    io: Box<dyn Io>,
    machine: Machine,
    input: BytesMut,
    /// Bytes of the stream that the last piece of input still holds.
    rest: BytesMut,
    waiting: Arc<Waiting>,
    write_waker: Waker,
    needs_flush: bool,
    held: Held,
    /// How reading ended.
    ended: Option<Result<(), (io::ErrorKind, String)>>,
    empty_since: Instant,
}

impl Tunnel {
    /// The server's end.
    pub fn server(io: impl Io + 'static) -> Self {
        Self::new(Box::new(io), Role::Server)
    }

    /// The client's end, which masks.
    pub fn client(io: impl Io + 'static) -> Self {
        Self::new(Box::new(io), Role::Client { mask: rand::random })
    }

    fn new(io: Box<dyn Io>, role: Role) -> Self {
        let waiting = Arc::<Waiting>::default();
        Self {
            io,
            machine: Machine::new(role, MAX_EMPTY_MESSAGES),
            input: BytesMut::new(),
            rest: BytesMut::new(),
            write_waker: Waker::from(Arc::clone(&waiting)),
            waiting,
            needs_flush: false,
            held: Held::default(),
            ended: None,
            empty_since: Instant::now(),
        }
    }

    /// Bytes that were read from the stream behind the HTTP head of the upgrade.
    #[must_use]
    pub fn already_read(mut self, bytes: Bytes) -> Self {
        self.input = BytesMut::from(bytes);
        self
    }

    /// Tells what waits in it, also while it is in use.
    pub(crate) fn held(&self) -> Held {
        self.held.clone()
    }

    /// Writes what waits; ready when the wire has taken and flushed all of it.
    fn poll_transmit(&mut self) -> Poll<io::Result<()>> {
        let done = self.poll_write_out();
        self.held.0.store(self.machine.outbox().remaining(), Ordering::Relaxed);
        done
    }

    fn poll_write_out(&mut self) -> Poll<io::Result<()>> {
        let cx = &mut Context::from_waker(&self.write_waker);
        while !self.machine.outbox().is_empty() {
            let n = ready!(poll_write_some(&mut self.io, cx, self.machine.outbox()))?;
            if n == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.needs_flush = true;
        }
        if self.needs_flush {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.needs_flush = false;
        }
        Poll::Ready(Ok(()))
    }

    /// The next bytes into `rest`, or the end into `ended`.
    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            if self.empty_since.elapsed() >= EMPTY_MESSAGES_WINDOW {
                self.empty_since = Instant::now();
                self.machine.reset_rates();
            }
            let event = self.machine.handle_input(&mut self.input);
            if !self.machine.outbox().is_empty() {
                // A pong, or the Close that names a broken rule. An error is the writer's to report.
                _ = self.poll_transmit();
            }
            match event {
                Ok(Some(Event::Data(data))) => {
                    self.rest = data;
                    return Poll::Ready(());
                }
                Ok(Some(Event::Closed(reason))) => {
                    debug!(%reason, "the peer closed the tunnel");
                    self.ended = Some(if is_end(&reason) {
                        Ok(())
                    } else {
                        Err((
                            io::ErrorKind::ConnectionAborted,
                            format!("the peer closed the tunnel: {reason}"),
                        ))
                    });
                    return Poll::Ready(());
                }
                Err(violation) => {
                    warn!(%violation, code = %violation.close_code(), "the peer broke the tunnel's protocol");
                    self.ended = Some(Err((io::ErrorKind::InvalidData, violation.to_string())));
                    return Poll::Ready(());
                }
                Ok(_) => {}
            }
            self.input.reserve(READ_SIZE);
            match poll_read_buf(Pin::new(&mut self.io), cx, &mut self.input) {
                Poll::Pending => {
                    if self.input.is_empty() {
                        // An idle tunnel holds no buffer.
                        self.input = BytesMut::new();
                    }
                    return Poll::Pending;
                }
                Poll::Ready(Ok(0)) => {
                    let text = "the tunnel ended without a close frame".to_owned();
                    self.ended = Some(Err((io::ErrorKind::UnexpectedEof, text)));
                    return Poll::Ready(());
                }
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => {
                    self.ended = Some(Err((error.kind(), error.to_string())));
                    return Poll::Ready(());
                }
            }
        }
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.waiting.reader.register(cx.waker());
        if !this.machine.outbox().is_empty() {
            // What the wire did not take when it was queued: it may be this task that was woken for it.
            _ = this.poll_transmit();
        }
        if this.rest.is_empty() && this.ended.is_none() {
            ready!(this.poll_fill(cx));
        }
        if this.rest.is_empty() {
            return Poll::Ready(match &this.ended {
                Some(Err((kind, text))) => Err(io::Error::new(*kind, text.clone())),
                _ => Ok(()),
            });
        }
        let n = this.rest.len().min(buf.remaining());
        buf.put_slice(this.rest.get(..n).unwrap_or_default());
        this.rest.advance(n);
        if this.rest.is_empty() {
            this.rest = BytesMut::new();
        }
        Poll::Ready(Ok(()))
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
        let this = &mut *self;
        this.waiting.writer.register(cx.waker());
        if this.machine.sent_close() {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // One message at a time is what this side holds.
        if !this.machine.outbox().is_empty() {
            ready!(this.poll_transmit())?;
        }
        let taken = this.machine.send(data, MAX_TUNNEL_MESSAGE);
        if let Poll::Ready(Err(error)) = this.poll_transmit() {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.waiting.writer.register(cx.waker());
        self.poll_transmit()
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        this.waiting.writer.register(cx.waker());
        this.machine.close(&CloseReason::code(CloseCode::NORMAL));
        ready!(this.poll_transmit())?;
        if this.ended.is_some() {
            // Both have said all; before the peer's Close it may take an end of the stream for a failure.
            let cx = &mut Context::from_waker(&this.write_waker);
            ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").field("machine", &self.machine).finish_non_exhaustive()
    }
}
