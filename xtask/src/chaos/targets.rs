//! The programs behind forwarded ports, in this process: each knows what it must hear, and remembers how it ended.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpSocket, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::{Instant, timeout_at},
};
use wsstream_testing::chaos::forward::{
    Conversation, Forwarding,
    party::{Party, Stay, View},
    script::Mishap,
    session::Views,
};

/// A socket of a program. The kernel tells of a reset once: where the writer has heard it, the reader finds an end in
/// good order, which this one is not taken in by.
#[derive(Debug)]
pub(super) struct Socket {
    stream: TcpStream,
    reset: bool,
}

impl Socket {
    /// Has the conversation of `party` on it; one that is left is reset.
    pub(super) async fn talk(stream: TcpStream, party: Party, view: &watch::Sender<View>) {
        let _ = stream.set_nodelay(true);
        let mut socket = Self { stream, reset: false };
        if party.talk(&mut socket, view).await == Stay::Left {
            let _ = socket.stream.set_zero_linger();
        }
    }

    fn written<T>(&mut self, result: io::Result<T>) -> io::Result<T> {
        self.reset |= result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset);
        result
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buf))?;
        match self.reset && buf.filled().len() == before {
            true => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
            false => Poll::Ready(Ok(())),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.stream).poll_write(cx, data));
        Poll::Ready(self.written(result))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let result = ready!(Pin::new(&mut self.stream).poll_shutdown(cx));
        Poll::Ready(self.written(result))
    }
}

/// The targets of a session, one for each of its connections, on ports of loopback that are theirs as long as this is.
pub(super) struct Targets {
    targets: Vec<Target>,
}

struct Target {
    port: u16,
    reached: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Targets {
    /// Opens them.
    pub(super) fn open(script: &Forwarding, views: &Views) -> Result<Self> {
        let targets = (0..script.connections.len()).map(|index| Target::open(script, index, views));
        Ok(Self { targets: targets.collect::<Result<_>>()? })
    }

    pub(super) fn ports(&self) -> Vec<u16> {
        self.targets.iter().map(|target| target.port).collect()
    }

    /// Waits for those that were reached; what is wrong with those that do not end within `limit`.
    pub(super) async fn ended(&mut self, limit: Duration) -> Vec<String> {
        let until = Instant::now() + limit;
        let mut wrongs = Vec::new();
        for (index, target) in self.targets.iter_mut().enumerate() {
            if target.task.is_finished() || !target.reached.load(Ordering::Acquire) {
                continue;
            }
            match timeout_at(until, &mut target.task).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => wrongs.push(format!("target {index} panicked: {error}")),
                Err(_) => wrongs.push(format!("the target of connection {index} never saw its end")),
            }
        }
        wrongs
    }
}

impl Target {
    fn open(script: &Forwarding, index: usize, views: &Views) -> Result<Self> {
        // Bound and, where it is to refuse, not listening: nobody else gets the port meanwhile.
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let port = socket.local_addr()?.port();
        let reached = Arc::<AtomicBool>::default();
        let one: Option<Conversation> = script.connections.get(index).cloned();
        let (views, flag) = (Arc::clone(views), Arc::clone(&reached));
        let refuses = one.as_ref().is_none_or(|one| one.mishap == Mishap::Refused);
        let listener = if refuses { Err(socket) } else { Ok(socket.listen(16)?) };
        let task = tokio::spawn(async move {
            let (Ok(listener), Some(one), Some([_, view])) = (&listener, &one, views.get(index)) else {
                return std::future::pending().await;
            };
            if let Ok((stream, _)) = listener.accept().await {
                flag.store(true, Ordering::Release);
                Socket::talk(stream, Party::target(one), view).await;
            }
        });
        Ok(Self { port, reached, task })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.task.abort();
    }
}
