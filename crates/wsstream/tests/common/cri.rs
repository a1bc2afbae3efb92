//! A runtime that lives in the test, and a streaming server in front of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;
use wsstream::client::ConnectError;
use wsstream::cri::{Config, ExecRequest, Runtime, Server};
use wsstream::http::Uri;
use wsstream::portforward::{ForwardError, PortForwarder as _, PortStream, Routes};
use wsstream::remotecommand::client::{Process, Start};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

use crate::common::soon;
use crate::shell;

/// Every container runs the shell of the tests, every attach echoes, every sandbox is this machine.
#[derive(Clone, Default)]
pub(crate) struct Containers {
    ids: Arc<Mutex<Vec<String>>>,
    running: Arc<()>,
}

impl Containers {
    /// What was asked for, in order.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.ids.lock().unwrap().clone()
    }

    /// How many attachments there are.
    pub(crate) fn running(&self) -> usize {
        Arc::strong_count(&self.running) - 1
    }

    fn note(&self, id: &str) {
        self.ids.lock().unwrap().push(id.to_owned());
    }
}

impl Runtime for Containers {
    async fn exec(&self, id: &str, request: Request, mut streams: Streams) -> Result<ExitCode, Failure> {
        self.note(id);
        if request.command != ["streams"] {
            return shell::run(request, streams).await;
        }
        streams.stderr.as_mut().unwrap().send("err".into()).await.map_err(Failure::internal)?;
        let input = streams.stdin.as_mut().unwrap().chunk().await.map_err(Failure::internal)?.unwrap();
        streams.stdout.as_mut().unwrap().send(input).await.map_err(Failure::internal)?;
        Ok(ExitCode(0))
    }

    async fn attach(&self, id: &str, _: Request, mut streams: Streams) -> Result<(), Failure> {
        self.note(id);
        // Counted as long as the future lives.
        let _running = Attached(self.running.clone());
        let mut stdin = streams.stdin.take().unwrap();
        let mut stdout = streams.stdout.take().unwrap();
        tokio::io::copy(&mut stdin, &mut stdout).await.map_err(Failure::internal)?;
        stdout.flush().await.map_err(Failure::internal)
    }

    async fn forward(&self, id: &str, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        self.note(id);
        Routes::loopback().forward(port, stream).await
    }
}

struct Attached(#[allow(dead_code, reason = "it is counted")] Arc<()>);

/// A streaming server behind hyper; dropped, it is gone.
pub(crate) struct Running {
    pub(crate) server: Server<Containers>,
    address: SocketAddr,
    _accepting: AbortOnDropHandle<()>,
}

impl Running {
    pub(crate) async fn start(change: impl FnOnce(&mut Config)) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let mut config = Config::listening_on(address).unwrap();
        change(&mut config);
        let server = Server::new(config, Containers::default());
        let service = server.clone();
        let accepting = async move {
            let mut connections = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let connection =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
                connections.spawn(connection.with_upgrades());
            }
        };
        Self { server, address, _accepting: AbortOnDropHandle::new(tokio::spawn(accepting)) }
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// A request to run `words` in container `c1`, with its output.
pub(crate) fn exec_of(words: &[&str]) -> ExecRequest {
    ExecRequest {
        container_id: "c1".into(),
        cmd: words.iter().map(ToString::to_string).collect(),
        stdout: true,
        ..ExecRequest::default()
    }
}

/// The path of a URL.
pub(crate) fn path_of(url: &str) -> &str {
    let (_, rest) = url.split_once("://").unwrap();
    &rest[rest.find('/').unwrap()..]
}

/// Our client at a URL.
pub(crate) async fn start(url: &str, start: Start, spdy: bool) -> Result<Process, ConnectError> {
    let uri: Uri = url.parse().unwrap();
    let io = TcpStream::connect(uri.authority().unwrap().as_str()).await.unwrap();
    if spdy {
        soon(start.connect_spdy(io, start.spdy_request(&uri).unwrap())).await
    } else {
        soon(start.connect(io, start.request(&uri).unwrap())).await
    }
}
