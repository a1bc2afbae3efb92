//! Running commands on a server.
//!
//! ```no_run
//! use wsstream::remotecommand::{Request, client};
//!
//! # async fn example(stream: tokio::net::TcpStream) -> Result<(), Box<dyn std::error::Error>> {
//! let command = client::exec(Request::command(["uname", "-a"]).stdout(true).stderr(true));
//! let endpoint = "http://localhost/api/v1/namespaces/default/pods/web/exec".parse()?;
//! let process = command.connect(stream, command.request(&endpoint)?).await?;
//! let output = process.output().await;
//! println!("{:?}: {}", output.stdout, output.outcome);
//! # Ok(())
//! # }
//! ```

use std::fmt;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt as _;
use futures_util::future::{Either, join, join3, select};
use http::{Request as HttpRequest, Response, Uri};
use tokio::io::AsyncWrite;
use tokio::time::sleep;
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::remotecommand::{Request, Spelling};
use wsstream_proto::status::is_complete_json;
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::terminal_size::TerminalSize;
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::Outcome;
pub use crate::client::ConnectError;
use crate::client::{Accepted, Offer};
pub use crate::connection::ChannelReader;
use crate::connection::{ChannelWriter, Connection, Driver, End, Loss, Stats};
use crate::limits::{Limits, Timeouts};
use crate::transport::Io;

/// What is offered unless told otherwise: v5, which can end stdin, and v4, which at least has a status. Versions
/// without a status are not offered, because they cannot tell success from loss.
pub const DEFAULT_PROTOCOLS: [Subprotocol; 2] = [Subprotocol::V5, Subprotocol::V4];

/// The longest status that is read, in bytes; an etcd object, the largest thing a real one could quote, is 1.5 MiB.
const MAX_STATUS: usize = 2 << 20;

/// How long to wait for the server's Close once the status is there and nothing moves any more. By then everything should
/// have arrived, but some servers send the last of the output behind the status.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// Begins an exec: runs `request.command`.
#[must_use]
pub fn exec(request: Request) -> Start {
    Start::new(request)
}

/// Begins an attach: `request` names streams and no command.
#[must_use]
pub fn attach(request: Request) -> Start {
    Start::new(request)
}

/// A remote command that is not connected yet.
#[derive(Debug, Clone)]
pub struct Start {
    request: Request,
    offer: Offer,
    limits: Limits,
    timeouts: Timeouts,
}

impl Start {
    fn new(request: Request) -> Self {
        Self {
            request,
            offer: Offer::new(DEFAULT_PROTOCOLS),
            limits: Limits::default(),
            // How long a quiet session may last is the server's to say: a person's shell may rest overnight.
            timeouts: Timeouts { idle: None, ..Timeouts::default() },
        }
    }

    /// Offers these versions, the best first. The row without a name stands for offering nothing.
    #[must_use]
    pub fn protocols(mut self, protocols: impl IntoIterator<Item = Subprotocol>) -> Self {
        self.offer = Offer::new(protocols);
        self
    }

    /// How much may be held and taken.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The clocks. Unlike elsewhere, the idle timeout is off unless it is set here.
    #[must_use]
    pub fn timeouts(mut self, timeouts: Timeouts) -> Self {
        self.timeouts = timeouts;
        self
    }

    /// The HTTP request for `endpoint` (`…/pods/NAME/exec` or `…/attach`, without a query), complete with the upgrade
    /// headers. Add authentication, then send it with any HTTP client built on hyper and give the answer to
    /// [`accept`](Self::accept), or use [`connect`](Self::connect).
    ///
    /// # Errors
    ///
    /// The command does not fit into a URL, which the `http` crate limits to 64 KiB, or the endpoint is no URL that a
    /// query can be added to.
    pub fn request(&self, endpoint: &Uri) -> Result<HttpRequest<()>, http::Error> {
        let query = self.request.to_query(Spelling::ApiServer);
        let mut parts = endpoint.clone().into_parts();
        parts.path_and_query = Some(format!("{}?{query}", endpoint.path()).parse()?);
        let mut request = HttpRequest::new(());
        *request.uri_mut() = Uri::from_parts(parts)?;
        self.offer.apply(request.headers_mut());
        Ok(request)
    }

    /// Checks the answer to [`request`](Self::request) and starts the session.
    ///
    /// # Errors
    ///
    /// The server refused, or its answer does not fit.
    pub async fn accept<B>(&self, response: Response<B>) -> Result<Process, ConnectError>
    where
        B: http_body::Body,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        Ok(self.open(self.offer.accept(response).await?))
    }

    /// Sends `request` over `io` and starts the session. Cancel-safe: dropped, the stream is closed.
    ///
    /// # Errors
    ///
    /// The stream failed, the server refused, or its answer does not fit.
    pub async fn connect(
        &self,
        io: impl Io + 'static,
        request: HttpRequest<()>,
    ) -> Result<Process, ConnectError> {
        Ok(self.open(self.offer.connect(io, request).await?))
    }

    fn open(&self, accepted: Accepted) -> Process {
        let Request { stdin, stdout, stderr, tty, .. } = self.request;
        let when = |on, mode| if on { mode } else { ChannelMode::Ignore };
        let channels = [
            when(stdin, ChannelMode::Write),
            when(stdout, ChannelMode::Read),
            when(stderr && !tty, ChannelMode::Read),
            ChannelMode::Read,
            when(tty, ChannelMode::Write),
        ];
        let (connection, driver) = accepted.open(|builder| {
            builder.channels(channels).limits(self.limits.clone()).timeouts(self.timeouts.clone())
        });
        Process::new(connection, driver, &self.request)
    }
}

/// A running remote command.
///
/// Take the streams, then poll [`wait`](Self::wait) beside whatever moves them: it drives the connection, and nothing
/// arrives while nobody polls it. Streams that are not taken when it is called are thrown away.
#[derive(Debug)]
#[must_use = "a process makes no progress unless it is waited for"]
pub struct Process {
    /// The command's standard input, when it was asked for. Dropped, it does **not** end the command's input: say
    /// [`close`](Stdin::close), so that a copy that failed half-way is not taken for a whole one.
    pub stdin: Option<Stdin>,
    /// What the command prints.
    pub stdout: Option<ChannelReader>,
    /// What the command complains about; never with a terminal.
    pub stderr: Option<ChannelReader>,
    /// The terminal's size, when a terminal was asked for.
    pub resize: Option<ResizeSender>,
    status: Option<ChannelReader>,
    connection: Connection,
    driver: Driver,
}

impl Process {
    fn new(connection: Connection, driver: Driver, request: &Request) -> Self {
        let reader = |on: bool, channel| on.then(|| connection.reader(channel)).flatten();
        Self {
            stdin: request.stdin.then(|| connection.writer(ChannelId::STDIN)).flatten().map(Stdin),
            stdout: reader(request.stdout, ChannelId::STDOUT),
            stderr: reader(request.stderr && !request.tty, ChannelId::STDERR),
            resize: request.tty.then(|| connection.writer(ChannelId::RESIZE)).flatten().map(ResizeSender),
            status: reader(true, ChannelId::ERROR),
            connection,
            driver,
        }
    }

    /// What the server chose.
    #[must_use]
    pub fn subprotocol(&self) -> &Subprotocol {
        self.connection.subprotocol()
    }

    /// What went over the connection so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.connection.stats()
    }

    /// Drives the session to its end and tells how it ended.
    ///
    /// When it resolves, all that arrived can still be read from the streams that were taken. Dropped, it cuts the
    /// connection; the server ends the command by its policy.
    pub async fn wait(mut self) -> Outcome {
        drop((self.stdin.take(), self.stdout.take(), self.stderr.take(), self.resize.take()));
        let Self { status, connection, driver, .. } = self;
        let json = connection.subprotocol().json_status();
        let mut raw = BytesMut::new();
        let end = match status {
            Some(mut status) => {
                let read = read_status(&mut status, &mut raw, json);
                match select(pin!(driver), pin!(read)).await {
                    // What arrived before the end is still to be read.
                    Either::Left((end, read)) => {
                        read.await;
                        end
                    }
                    Either::Right(((), driver)) => until_closed(&connection, driver).await,
                }
            }
            None => driver.await,
        };
        Outcome::judge(&raw, json, &end, &connection.stats())
    }

    /// Runs the command without input and collects what it prints, in memory.
    pub async fn output(mut self) -> Collected {
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        if let Some(mut stdin) = self.stdin.take() {
            // Before v5 there is no way to say it; such a command has to end by itself.
            let _ = stdin.close();
        }
        let (stdout, stderr, outcome) = join3(collect(stdout), collect(stderr), self.wait()).await;
        Collected { stdout, stderr, outcome }
    }

    /// Runs the command with `input` as its whole input and collects what it prints, in memory.
    ///
    /// Before v5 the end of input cannot be sent and the command sees none.
    pub async fn output_with(mut self, input: Bytes) -> Collected {
        let stdin = self.stdin.take();
        let feed = async move {
            let Some(mut stdin) = stdin else { return };
            let mut rest = input;
            while !rest.is_empty() {
                let message = rest.split_to(rest.len().min(crate::connection::MAX_WRITE));
                if stdin.send(message).await.is_err() {
                    // The outcome tells why; a command that ends early is no error.
                    return;
                }
            }
            let _ = stdin.close();
        };
        join(feed, self.output()).await.1
    }
}

/// What a command printed, and how it ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Collected {
    /// All of stdout that arrived.
    pub stdout: Bytes,
    /// All of stderr that arrived.
    pub stderr: Bytes,
    /// How the command ended.
    pub outcome: Outcome,
}

async fn collect(reader: Option<ChannelReader>) -> Bytes {
    let mut all = BytesMut::new();
    if let Some(mut reader) = reader {
        // An error ends the session, and its outcome tells of it.
        while let Ok(Some(chunk)) = reader.chunk().await {
            all.extend_from_slice(&chunk);
        }
    }
    all.freeze()
}

/// Reads the status channel until it ends or holds a whole status.
async fn read_status(reader: &mut ChannelReader, raw: &mut BytesMut, json: bool) {
    while let Ok(Some(chunk)) = reader.chunk().await {
        raw.extend_from_slice(&chunk);
        if raw.len() > MAX_STATUS || (json && is_complete_json(raw)) {
            return;
        }
    }
}

/// The status is there; a server that does not close must not hang the client, as it does kubectl.
async fn until_closed(connection: &Connection, driver: impl Future<Output = End> + Unpin) -> End {
    let driver = match patiently(connection, driver).await {
        Ok(end) => return end,
        Err(driver) => driver,
    };
    connection.shutdown(&CloseReason::code(CloseCode::NORMAL));
    match patiently(connection, driver).await {
        Ok(end) => end,
        // The server has closed, so nothing more can come; it is only our own input that does not drain, and that
        // nobody wants any more.
        Err(_) => match connection.disconnected().now_or_never() {
            Some(end @ End::Closed { .. }) => end,
            _ => End::Lost(Loss::DeadPeer(CLOSE_PATIENCE * 2)),
        },
    }
}

/// Polls the driver to its end, or gives it back when no output has come or was read for a while.
async fn patiently<D: Future<Output = End> + Unpin>(
    connection: &Connection,
    mut driver: D,
) -> Result<End, D> {
    loop {
        let before = connection.stats();
        match select(driver, pin!(sleep(CLOSE_PATIENCE))).await {
            Either::Left((end, _)) => return Ok(end),
            Either::Right(((), same)) => driver = same,
        }
        let now = connection.stats();
        if (&now.received, now.waiting) == (&before.received, before.waiting) {
            return Err(driver);
        }
    }
}

/// The command's standard input.
#[derive(Debug)]
pub struct Stdin(ChannelWriter);

impl Stdin {
    /// Sends `data` as one message; resolves when it is queued whole. Cancel-safe: sent whole or not at all.
    ///
    /// # Errors
    ///
    /// The connection is lost or closing, which happens also when the command ends early.
    pub async fn send(&mut self, data: Bytes) -> io::Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        Ok(self.0.send(data).await?)
    }

    /// Ends the command's input, behind everything that was sent.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] before v5, where no such signal exists. Otherwise the connection is lost or closing.
    pub fn close(&mut self) -> io::Result<()> {
        Ok(self.0.close()?)
    }
}

/// Each write is one message of at most 32 KiB; `shutdown` ends the command's input, and is an error before v5.
impl AsyncWrite for Stdin {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, data)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

/// Tells the server the size of the terminal.
pub struct ResizeSender(ChannelWriter);

impl ResizeSender {
    /// Sends a size. Cancel-safe: sent whole or not at all.
    ///
    /// # Errors
    ///
    /// The connection is lost or closing.
    pub async fn send(&mut self, size: TerminalSize) -> io::Result<()> {
        Ok(self.0.send(size.encode().into()).await?)
    }
}

impl fmt::Debug for ResizeSender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ResizeSender")
    }
}
