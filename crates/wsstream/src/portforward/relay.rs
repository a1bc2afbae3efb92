//! Bytes both ways between a forwarded stream and a socket, each direction with an end of its own.
//!
//! The rules are those of two TCP connections joined: an end on one side becomes an end on the other, and what is on its
//! way in the other direction still arrives. An abort on one side becomes an abort on the other.

use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::future::{Either, select};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _, ReadHalf, WriteHalf};
#[cfg(feature = "net")]
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_util::io::poll_read_buf;

use super::stream::Fate;
use super::{ForwardError, PortReader, PortStream, PortWriter};
use crate::connection::MAX_WRITE;
use crate::gather::Pieces;

/// A read of less is copied out of its buffer, which is 32 KiB and would wait in the queue as a whole.
const COPY_BELOW: usize = 8 << 10;

/// How long the port gets to close when the client has left and cannot take anything any more.
const FAREWELL: Duration = Duration::from_secs(5);

/// How a connection is relayed.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct RelayOptions {
    /// When one side has ended its direction and the other is silent for this long, the connection is given up. A side
    /// that has something to send and is not read never counts as silent. `None`: never. Default 10 minutes: a local
    /// client that is killed looks to kubectl like one that has ended its direction, and such connections must not pile
    /// up; a request that is thought about for minutes must still be answered.
    pub half_closed: Option<Duration>,
}

impl Default for RelayOptions {
    fn default() -> Self {
        Self { half_closed: Some(Duration::from_secs(10 * 60)) }
    }
}

/// What went over a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Relayed {
    /// Bytes from the stream to the socket.
    pub to_socket: u64,
    /// Bytes from the socket to the stream.
    pub from_socket: u64,
}

/// One direction: what it moved, and whether it waits for its reader to take more.
#[derive(Debug, Default)]
struct Way {
    moved: AtomicU64,
    handing_on: AtomicBool,
    /// Its target was reset.
    reset: AtomicBool,
    /// All of it was handed on, and its end.
    whole: AtomicBool,
}

impl Way {
    fn moved(&self) -> u64 {
        self.moved.load(Ordering::Relaxed)
    }

    /// The target broke. A broken pipe is that of a port that had said its last word before; anything else cuts it off.
    fn failed(&self, error: io::Error) -> ForwardError {
        self.reset.store(error.kind() != io::ErrorKind::BrokenPipe, Ordering::Relaxed);
        ForwardError::Target(error)
    }

    /// Hands on `bytes` bytes with `write`.
    async fn hand_on<T>(&self, bytes: usize, write: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        self.handing_on.store(true, Ordering::Relaxed);
        let written = write.await?;
        self.handing_on.store(false, Ordering::Relaxed);
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(written)
    }
}

/// Moves bytes between `stream` and `socket` until both directions have ended or the connection broke.
///
/// In the errors the socket is the *port* and the stream is the *client*; a client that relays to a local socket has
/// them the other way round. Dropped, it drops both. What `socket` sees of an error is its owner's to say: dropped, a TCP
/// socket ends in good order, as if it had been given the whole; `relay_tcp` (feature `net`) resets it.
///
/// # Errors
///
/// One side broke before all was delivered, or was silent for too long.
pub async fn relay<S>(stream: PortStream, socket: S, options: &RelayOptions) -> Result<Relayed, ForwardError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    relay_counting(stream, socket, options, &Way::default()).await
}

async fn relay_counting<S>(
    stream: PortStream,
    socket: S,
    options: &RelayOptions,
    up: &Way,
) -> Result<Relayed, ForwardError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (half_closes, ends_with_input) = (stream.half_closes(), stream.ends_with_input());
    let (reader, writer) = stream.split();
    let fate = reader.fate();
    let (from, to) = tokio::io::split(socket);
    let down = Way::default();
    {
        // It owns the reader: what comes when it has failed goes nowhere, and must not hold other streams up.
        let upload = pin!(upload(reader, &fate, to, up));
        let download = pin!(download(from, writer, &fate, &down, up));
        match select(upload, download).await {
            Either::Left((Err(error), _)) if error.is_clients() => return Err(error),
            // A server that ends a channel has closed the session: nothing can be sent there any more.
            Either::Left((Ok(()), _)) if !half_closes && !ends_with_input => {}
            // The port does not read any more, or has been told that nothing follows; what it has to say still counts.
            Either::Left((uploaded, download)) => {
                let patience = if ends_with_input { Some(FAREWELL) } else { options.half_closed };
                match patiently(download, &down, patience).await {
                    Ok(done) => done?,
                    // The client left with its last byte, and it has arrived.
                    Err(_) if ends_with_input && uploaded.is_ok() => {}
                    Err(silence) => return Err(ForwardError::Stalled(silence)),
                }
            }
            Either::Right((Err(error), upload)) => {
                // The client wants no answer any more. What it has sent, with its end, was accepted.
                if error.is_clients() && fate.is_whole() {
                    let _ = patiently(upload, up, options.half_closed).await;
                }
                return Err(error);
            }
            Either::Right((Ok(()), upload)) => match patiently(upload, up, options.half_closed).await {
                // The port has given its whole answer, and may have closed. That the other side broke off is still so.
                Ok(Err(error)) if error.is_clients() => return Err(error),
                Ok(_) => {}
                Err(silence) => return Err(ForwardError::Stalled(silence)),
            },
        }
    }
    Ok(Relayed { to_socket: up.moved(), from_socket: down.moved() })
}

/// As [`relay`], and an abort on one side is an abort on the other: unless all that came from the stream has been handed
/// on with its end, the socket is reset (RST) when it is dropped. So it is when this future is dropped, and when the
/// process ends meanwhile, also by a signal: its linger time is zero until then, and none behind it.
///
/// # Errors
///
/// As [`relay`].
#[cfg(feature = "net")]
pub fn relay_tcp<'a>(
    stream: PortStream,
    socket: &'a mut TcpStream,
    options: &'a RelayOptions,
) -> impl Future<Output = Result<Relayed, ForwardError>> + Send + 'a {
    // Before the first poll: a caller that drops the future unpolled has relayed nothing.
    let mut socket = ResetUnlessWhole::new(socket);
    async move {
        let ResetUnlessWhole { socket, up } = &mut socket;
        relay_counting(stream, &mut **socket, options, up).await
    }
}

#[cfg(feature = "net")]
struct ResetUnlessWhole<'a> {
    socket: &'a mut TcpStream,
    up: Way,
}

#[cfg(feature = "net")]
impl<'a> ResetUnlessWhole<'a> {
    fn new(socket: &'a mut TcpStream) -> Self {
        // From the beginning: a process that ends, in whatever way, leaves its sockets to the kernel to close.
        let _ = socket.set_zero_linger();
        Self { socket, up: Way::default() }
    }
}

#[cfg(feature = "net")]
impl Drop for ResetUnlessWhole<'_> {
    fn drop(&mut self) {
        if self.up.whole.load(Ordering::Relaxed) {
            // Fails on a socket that is closed already.
            let _ = socket2::SockRef::from(&*self.socket).set_linger(None);
        }
    }
}

/// Stream to socket, and the end of it.
async fn upload<S>(
    mut reader: PortReader,
    fate: &Fate,
    mut socket: WriteHalf<S>,
    way: &Way,
) -> Result<(), ForwardError>
where
    S: AsyncRead + AsyncWrite,
{
    while let Some(first) = reader.chunk().await.map_err(ForwardError::Client)? {
        let pieces = Pieces::gather(first, || reader.try_chunk());
        let write = pin!(way.hand_on(pieces.len(), pieces.write_to(&mut socket)));
        // A port that does not read must not hide that the client has gone.
        match select(write, pin!(fate.cut())).await {
            Either::Left((written, _)) => written.map_err(|error| way.failed(error))?,
            Either::Right(((), _)) => return Err(broken_off()),
        }
    }
    if reader.is_cut() {
        return Err(ForwardError::Client(io::ErrorKind::BrokenPipe.into()));
    }
    match socket.shutdown().await {
        // It has closed already.
        Err(error) if error.kind() != io::ErrorKind::NotConnected => Err(way.failed(error)),
        _ => {
            way.whole.store(true, Ordering::Relaxed);
            Ok(())
        }
    }
}

/// Socket to stream, and the end of it.
async fn download<S>(
    mut socket: ReadHalf<S>,
    mut writer: PortWriter,
    fate: &Fate,
    way: &Way,
    other: &Way,
) -> Result<(), ForwardError>
where
    S: AsyncRead + AsyncWrite,
{
    loop {
        let chunk = match select(pin!(read_chunk(&mut socket)), pin!(fate.reset())).await {
            Either::Left((read, _)) => read.map_err(ForwardError::Target)?,
            // A port that says nothing must not hide it either.
            Either::Right(((), _)) => return Err(broken_off()),
        };
        if chunk.is_empty() {
            break;
        }
        way.hand_on(chunk.len(), writer.send(chunk)).await.map_err(ForwardError::Client)?;
    }
    if other.reset.load(Ordering::Relaxed) {
        // The kernel tells of a reset once. Whoever was writing has heard it, and here it looks like an end.
        return Err(ForwardError::Target(io::ErrorKind::ConnectionReset.into()));
    }
    match writer.close() {
        // It cannot be told before the connection as a whole ends; the other direction goes on.
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(()),
        done => done.map_err(ForwardError::Client),
    }
}

fn broken_off() -> ForwardError {
    ForwardError::Client(io::ErrorKind::ConnectionReset.into())
}

/// The next bytes, empty at the end. No buffer is held while there is nothing to read.
async fn read_chunk<S: AsyncRead + Unpin>(socket: &mut S) -> io::Result<Bytes> {
    std::future::poll_fn(|cx| {
        let mut buffer = BytesMut::with_capacity(MAX_WRITE);
        let n = ready!(poll_read_buf(Pin::new(&mut *socket), cx, &mut buffer))?;
        Poll::Ready(Ok(if n < COPY_BELOW { Bytes::copy_from_slice(&buffer) } else { buffer.freeze() }))
    })
    .await
}

/// Polls `work` until it is done, or its source was silent for `patience`.
async fn patiently<T>(
    mut work: impl Future<Output = T> + Unpin,
    way: &Way,
    patience: Option<Duration>,
) -> Result<T, Duration> {
    let Some(patience) = patience else { return Ok(work.await) };
    loop {
        let before = way.moved();
        match select(work, pin!(sleep(patience))).await {
            Either::Left((done, _)) => return Ok(done),
            Either::Right(((), same)) => work = same,
        }
        if way.moved() == before && !way.handing_on.load(Ordering::Relaxed) {
            return Err(patience);
        }
    }
}

#[cfg(all(test, feature = "client"))]
#[allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]
mod tests {
    use std::task::{Context, Waker};

    use tokio::io::{AsyncReadExt as _, DuplexStream, ReadBuf, duplex};
    use tokio::task::JoinHandle;
    use tokio::time::Instant;

    use super::super::pair;
    use super::*;
    use crate::spdy::{Builder, Headers};

    const HALF_CLOSED: Duration = Duration::from_secs(60);

    type Ended = JoinHandle<Result<Relayed, ForwardError>>;

    /// A relay in memory: the client's stream, the far end of the socket, and how it ends.
    async fn relaying() -> (PortStream, DuplexStream, Ended) {
        let (socket, target) = duplex(4096);
        let (stream, ended) = relaying_to(socket).await;
        (stream, target, ended)
    }

    async fn relaying_to<S>(socket: S) -> (PortStream, Ended)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (ours, theirs) = duplex(64 << 10);
        let (client, driver) = Builder::client().start(ours);
        tokio::spawn(driver);
        let (server, driver) = Builder::server().start(theirs);
        tokio::spawn(driver);
        let headers = Headers::from_iter([("streamtype", "data")]);
        let (mut near, far) = (client.open(&headers, false).await.unwrap(), server.accept().await.unwrap());
        let stream = pair::of_client(far.accept());
        near.replied().await.unwrap();
        let options = RelayOptions { half_closed: Some(HALF_CLOSED) };
        let ended = tokio::spawn(async move { relay(stream, socket, &options).await });
        (pair::of_client(near), ended)
    }

    async fn waited(ended: Ended) -> (Duration, Result<Relayed, ForwardError>) {
        let since = Instant::now();
        let result = ended.await.unwrap();
        (since.elapsed(), result)
    }

    #[tokio::test(start_paused = true)]
    async fn silence_ends_half_of_a_connection_and_no_whole_one() {
        let (mut stream, mut target, ended) = relaying().await;
        // Nobody has ended anything: silence means nothing.
        tokio::time::sleep(10 * HALF_CLOSED).await;
        assert!(!ended.is_finished());
        stream.close().unwrap();
        assert_eq!(target.read(&mut [0]).await.unwrap(), 0);
        // Each byte that moves begins the wait anew.
        for _ in 0..5 {
            tokio::time::sleep(HALF_CLOSED / 2).await;
            target.write_all(b"x").await.unwrap();
            assert_eq!(stream.chunk().await.unwrap().unwrap(), "x");
        }
        let (took, result) = waited(ended).await;
        assert!(matches!(result, Err(ForwardError::Stalled(HALF_CLOSED))), "{result:?}");
        assert!(took <= 2 * HALF_CLOSED, "{took:?}");
        // For the client that is no end in good order.
        stream.chunk().await.unwrap_err();
    }

    #[tokio::test(start_paused = true)]
    async fn silence_after_the_answer_ends_the_upload_too() {
        let (mut stream, mut target, ended) = relaying().await;
        target.write_all(b"answer").await.unwrap();
        target.shutdown().await.unwrap();
        assert_eq!(stream.chunk().await.unwrap().unwrap(), "answer");
        assert_eq!(stream.chunk().await.unwrap(), None);
        tokio::time::sleep(HALF_CLOSED / 2).await;
        stream.send("late".into()).await.unwrap();
        let mut late = [0; 4];
        target.read_exact(&mut late).await.unwrap();
        let (took, result) = waited(ended).await;
        assert!(matches!(result, Err(ForwardError::Stalled(_))), "{result:?}");
        assert!(took >= HALF_CLOSED / 2, "{took:?}");
    }

    /// What waits for a client that reads nothing is not silence of the port's.
    #[tokio::test(start_paused = true)]
    async fn a_client_that_is_slow_to_read_is_waited_for() {
        let (mut stream, mut target, ended) = relaying().await;
        stream.close().unwrap();
        let sending = tokio::spawn(async move {
            target.write_all(&vec![7; 8 << 20]).await.unwrap();
        });
        tokio::time::sleep(100 * HALF_CLOSED).await;
        assert!(!ended.is_finished() && !sending.is_finished());
        let mut got = 0;
        while let Some(chunk) = stream.chunk().await.unwrap() {
            got += chunk.len();
        }
        assert_eq!(got, 8 << 20);
        sending.await.unwrap();
        let moved = ended.await.unwrap().unwrap();
        assert_eq!(moved, Relayed { to_socket: 0, from_socket: 8 << 20 });
    }

    /// A port that closes while the client still sends has given its whole answer.
    #[tokio::test(start_paused = true)]
    async fn a_port_that_closes_ends_the_upload_without_fault() {
        let (mut stream, mut target, ended) = relaying().await;
        target.write_all(b"no more").await.unwrap();
        drop(target);
        let mut got = Vec::new();
        while let Some(chunk) = stream.chunk().await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        assert_eq!(got, b"no more");
        // It goes nowhere, and soon nobody takes it.
        while stream.send("more".into()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        assert!(ended.await.unwrap().is_ok());
    }

    /// The port reads nothing and says nothing: that must not hide that the client has gone.
    #[tokio::test(start_paused = true)]
    async fn a_reset_is_noticed_while_the_upload_is_blocked() {
        let (mut stream, mut target, ended) = relaying().await;
        for _ in 0..4 {
            stream.send(vec![7; 32 << 10].into()).await.unwrap();
        }
        // In the middle of it.
        target.read_exact(&mut [0; 100]).await.unwrap();
        drop(stream);
        let (took, result) = waited(ended).await;
        assert!(result.is_err_and(|error| error.is_clients()));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    /// One that has ended its direction before has sent all of it, and only the answer is not wanted.
    #[tokio::test(start_paused = true)]
    async fn a_reset_behind_the_end_of_the_upload_does_not_cut_it() {
        let (mut stream, mut target, ended) = relaying().await;
        for _ in 0..4 {
            stream.send(vec![7; 32 << 10].into()).await.unwrap();
        }
        stream.close().unwrap();
        drop(stream);
        let mut got = Vec::new();
        target.read_to_end(&mut got).await.unwrap();
        assert_eq!(got.len(), 128 << 10);
        // And an answer that nobody waits for keeps nothing up, though the port never ends.
        let (took, result) = waited(ended).await;
        assert!(result.is_err_and(|error| error.is_clients()));
        assert!(took < Duration::from_secs(1), "{took:?}");
    }

    /// A socket that takes nothing any more.
    struct Refusing {
        why: io::ErrorKind,
        /// Whether whoever reads finds an end once the refusal was heard.
        ends: bool,
        heard: bool,
        reader: Option<Waker>,
    }

    impl Refusing {
        /// As the kernel shows a socket that was reset: whoever comes first hears of it, the other finds an end.
        fn reset() -> Self {
            Self { why: io::ErrorKind::ConnectionReset, ends: true, heard: false, reader: None }
        }

        /// One that has not said all of its own.
        fn deaf() -> Self {
            Self { why: io::ErrorKind::BrokenPipe, ends: false, heard: false, reader: None }
        }
    }

    impl AsyncRead for Refusing {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            _: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.heard && self.ends {
                return Poll::Ready(Ok(()));
            }
            self.reader = Some(cx.waker().clone());
            Poll::Pending
        }
    }

    impl AsyncWrite for Refusing {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
            self.heard = true;
            if let Some(reader) = self.reader.take() {
                reader.wake();
            }
            Poll::Ready(Err(self.why.into()))
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_reset_that_the_upload_hears_of_is_no_end_of_the_download() {
        let (mut stream, ended) = relaying_to(Refusing::reset()).await;
        stream.send("upload".into()).await.unwrap();
        let result = ended.await.unwrap();
        assert!(matches!(result, Err(ForwardError::Target(_))), "{result:?}");
        stream.chunk().await.expect_err("an end in good order");
    }

    /// To whom relays to a local socket, the stream's end is the answer: broken off it is no whole one, although the local
    /// side had ended its own direction.
    #[tokio::test(start_paused = true)]
    async fn a_stream_that_breaks_off_behind_the_sockets_end_is_an_error() {
        let (mut stream, mut target, ended) = relaying().await;
        target.shutdown().await.unwrap();
        assert_eq!(stream.chunk().await.unwrap(), None);
        stream.send("half of".into()).await.unwrap();
        target.read_exact(&mut [0; 7]).await.unwrap();
        drop(stream);
        let result = ended.await.unwrap();
        assert!(result.as_ref().is_err_and(ForwardError::is_clients), "{result:?}");
    }

    /// The session's receive buffer is 4 MiB, and the other connections live behind it.
    #[tokio::test(start_paused = true)]
    async fn an_upload_that_has_failed_holds_nobody_up() {
        let (mut stream, ended) = relaying_to(Refusing::deaf()).await;
        let since = Instant::now();
        for _ in 0..256 {
            stream.send(vec![7; 32 << 10].into()).await.unwrap();
        }
        assert!(since.elapsed() < Duration::from_secs(1), "{:?}", since.elapsed());
        drop(stream);
        assert!(ended.await.unwrap().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_resets_ends_the_socket_at_once() {
        let (stream, mut target, ended) = relaying().await;
        drop(stream);
        let (took, result) = waited(ended).await;
        assert!(result.is_err_and(|error| error.is_clients()));
        assert!(took < Duration::from_secs(1), "{took:?}");
        assert_eq!(target.read(&mut [0]).await.unwrap(), 0);
    }
}
