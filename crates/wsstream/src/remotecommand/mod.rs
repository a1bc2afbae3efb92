use bytes::Bytes;
use std::{future::Future, io, pin::Pin, task::{Context, Poll}};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// 1..=65535 each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize { pub width: u16, pub height: u16 }

/// 0..=255
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ExitCode(pub u8);

/// What the client asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Request {
    pub command: Vec<String>, // empty for attach
    pub container: Option<String>,
    pub stdin: bool,
    pub stdout: bool,
    pub stderr: bool,
    pub tty: bool,
}

/// stdin. EOF = the client half-closed (v5 CLOSE) or closed cleanly; an io::Error = the connection was lost.
pub struct Input(());
impl Input {
    /// Next chunk, None at EOF. Cancel-safe.
    pub async fn chunk(&mut self) -> io::Result<Option<Bytes>> { unimplemented!() }
}
impl AsyncRead for Input {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> { unimplemented!() }
}
/// stdout or stderr. `send` resolves once the message is queued whole (bounded; waits for room). Cancel-safe.
pub struct Output(());
impl Output {
    pub async fn send(&mut self, _data: Bytes) -> io::Result<()> { unimplemented!() }
}
impl AsyncWrite for Output {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> { unimplemented!() }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { unimplemented!() }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> { unimplemented!() }
}
/// Terminal sizes, newest wins. None: no more will come.
pub struct Resizes(());
impl Resizes {
    pub async fn next(&mut self) -> Option<TerminalSize> { unimplemented!() }
}
/// Resolves when the client has closed the connection or it was lost. Clone freely.
#[derive(Clone)]
pub struct Disconnect(());
impl Disconnect {
    pub async fn wait(&self) { unimplemented!() }
}
/// *Not requested* is None; *at end of input* is Some that yields EOF.
#[non_exhaustive]
pub struct Streams {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub resize: Option<Resizes>, // Some iff tty
    pub disconnect: Disconnect,
}

/// Why a command could not be run or attached to; becomes a Failure status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure(());
impl Failure {
    /// InternalError, code 500, `Internal error occurred: <message>`.
    pub fn internal(_message: impl std::fmt::Display) -> Self { unimplemented!() }
}

pub trait Executor: Send + Sync {
    fn exec(&self, request: Request, streams: Streams) -> impl Future<Output = Result<ExitCode, Failure>> + Send;
}
/// Also implemented for `Fn(Request, Streams) -> Fut`.
pub trait Attacher: Send + Sync {
    fn attach(&self, request: Request, streams: Streams) -> impl Future<Output = Result<(), Failure>> + Send;
}

pub mod server {
    use super::*;
    /// An exec request that asked for a WebSocket upgrade this library can serve.
    pub struct Exec(());
    impl Exec {
        /// Checks the upgrade headers, negotiates, parses the query. Takes hyper's OnUpgrade out of the request.
        pub fn accept<B>(_request: &mut http::Request<B>) -> Result<Self, Rejection> { unimplemented!() }
        pub fn request(&self) -> &Request { unimplemented!() }
        pub fn options(self, _options: Options) -> Self { unimplemented!() }
        /// The 101 to send.
        pub fn response(&self) -> http::Response<()> { unimplemented!() }
        /// Runs the session to its very end (close handshake included). Spawn it after returning `response`.
        pub async fn serve<E: Executor>(self, _executor: E) -> Report { unimplemented!() }
    }
    pub struct Attach(());
    impl Attach {
        pub fn accept<B>(_request: &mut http::Request<B>) -> Result<Self, Rejection> { unimplemented!() }
        pub fn request(&self) -> &Request { unimplemented!() }
        pub fn options(self, _options: Options) -> Self { unimplemented!() }
        pub fn response(&self) -> http::Response<()> { unimplemented!() }
        pub async fn serve<A: Attacher>(self, _attacher: A) -> Report { unimplemented!() }
    }
    /// Knows its HTTP answer: a Status JSON with the right code (400, 403, 405, 426 ...).
    #[derive(Debug)]
    pub struct Rejection(());
    impl Rejection {
        pub fn into_response(self) -> http::Response<String> { unimplemented!() }
    }
    /// idle timeout, keep-alive, limits, unsent-bytes probe ...
    #[derive(Default, Clone)]
    pub struct Options { }
    /// How the session went: outcome as told to the client, bytes per channel, how the connection ended. Debug + Display.
    #[derive(Debug)]
    pub struct Report { }
}
