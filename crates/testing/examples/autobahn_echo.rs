//! An echo on our WebSocket engine for the Autobahn cases, as a server and as a client.
//!
//! ```text
//! cargo run -p wsstream-testing --example autobahn_echo -- server 127.0.0.1:9002
//! kosoku -m fuzzingclient -x '12.*' -x '13.*' ws://127.0.0.1:9002
//!
//! kosoku -m fuzzingserver -x '12.*' -x '13.*' 127.0.0.1:9001
//! cargo run -p wsstream-testing --example autobahn_echo -- client 127.0.0.1:9001
//! ```
//!
//! The engine takes text as bytes, because Kubernetes clients send bytes as text; Autobahn wants UTF-8 checked, so the
//! echo does that itself. There is no compression, which cases 12 and 13 are about.

use std::convert::Infallible;
use std::error::Error;

use bytes::{Bytes, BytesMut};
use http::{Request, Response};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wsstream::server::Upgrade;
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::ws::{CloseCode, CloseReason, Decoder, Frame, Opcode, Outbox};
use wsstream_testing::http as raw;

/// The longest case sends 16 MiB.
const MAX_MESSAGE: u64 = 64 << 20;

type Failure = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut args = std::env::args().skip(1);
    match (args.next().as_deref(), args.next()) {
        (Some("server"), Some(address)) => serve(&address).await,
        (Some("client"), Some(address)) => visit(&address).await,
        _ => Err("usage: autobahn_echo server|client ADDRESS:PORT".into()),
    }
}

// ---- the server ----

async fn serve(address: &str) -> Result<(), Failure> {
    let listener = TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            let io = TokioIo::new(socket);
            let connection =
                hyper::server::conn::http1::Builder::new().serve_connection(io, service_fn(upgrade));
            if let Err(error) = connection.with_upgrades().await {
                eprintln!("http: {error}");
            }
        });
    }
}

async fn upgrade(mut request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let upgrade = match Upgrade::accept(&mut request, &[Subprotocol::NONE]) {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response().map(|_| Empty::new())),
    };
    let response = upgrade.response().map(|()| Empty::new());
    tokio::spawn(async move {
        match upgrade.into_stream().await {
            Ok(stream) => report(Echo::new(TokioIo::new(stream), false).run().await),
            Err(error) => eprintln!("upgrade: {error}"),
        }
    });
    Ok(response)
}

fn report(result: std::io::Result<()>) {
    if let Err(error) = result {
        eprintln!("echo: {error}");
    }
}

// ---- the client ----

const AGENT: &str = "wsstream";

async fn visit(address: &str) -> Result<(), Failure> {
    let count: u32 = ask(address, "/getCaseCount").await?.parse()?;
    for case in 1..=count {
        println!("case {case} of {count}");
        let answer = open(address, &format!("/runCase?case={case}&agent={AGENT}")).await?;
        let mut echo = Echo::new(answer.io, true);
        echo.input.extend_from_slice(&answer.leftover);
        report(echo.run().await);
    }
    let answer = open(address, &format!("/updateReports?agent={AGENT}")).await?;
    Echo::new(answer.io, true).run().await?;
    Ok(())
}

async fn open(address: &str, target: &str) -> Result<raw::Answer<TcpStream>, Failure> {
    let socket = TcpStream::connect(address).await?;
    socket.set_nodelay(true)?;
    let answer = raw::Upgrade::get(target).send(socket).await;
    if answer.status != 101 { Err(format!("{target}: {}", answer.head).into()) } else { Ok(answer) }
}

/// The one message that the server sends.
async fn ask(address: &str, target: &str) -> Result<String, Failure> {
    let mut peer = open(address, target).await?.into_peer().await;
    match peer.next_message().await {
        wsstream_testing::Message::Text(text) => Ok(String::from_utf8(text)?),
        other => Err(format!("{target}: {other:?}").into()),
    }
}

// ---- the echo ----

/// One connection over which everything comes back.
struct Echo<T> {
    io: T,
    is_client: bool,
    decoder: Decoder,
    input: BytesMut,
    outbox: Outbox,
    message: BytesMut,
    /// How much of a text message is known to be UTF-8.
    checked: usize,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Echo<T> {
    fn new(io: T, is_client: bool) -> Self {
        Self {
            io,
            is_client,
            decoder: Decoder::new(!is_client, MAX_MESSAGE),
            input: BytesMut::new(),
            outbox: Outbox::default(),
            message: BytesMut::new(),
            checked: 0,
        }
    }

    async fn run(mut self) -> std::io::Result<()> {
        loop {
            let frame = match self.decoder.decode(&mut self.input) {
                Ok(Some(frame)) => frame,
                Ok(None) => {
                    self.input.reserve(64 << 10);
                    if self.io.read_buf(&mut self.input).await? == 0 {
                        return Ok(());
                    }
                    continue;
                }
                Err(error) => {
                    return self.close(&CloseReason::new(error.close_code(), error.to_string())).await;
                }
            };
            match frame {
                Frame::Ping(payload) => self.outbox.control(Opcode::Pong, &payload, self.mask()),
                Frame::Pong(_) => {}
                Frame::Close(reason) => return self.close(&reason).await,
                Frame::Data { opcode, last, payload, .. } => {
                    self.message.unsplit(payload);
                    if opcode == Opcode::Text && !self.is_utf8(last) {
                        return self.close(&CloseReason::code(CloseCode::INVALID_DATA)).await;
                    }
                    if last {
                        self.checked = 0;
                        let message = std::mem::take(&mut self.message).freeze();
                        self.outbox.message(opcode, &[], message, self.mask());
                    }
                }
            }
            // Each answer leaves at once: a pong that waits would be replaced by the next one.
            self.io.write_all_buf(&mut self.outbox).await?;
        }
    }

    /// Whether the text so far may still become UTF-8, or is it where it ends.
    fn is_utf8(&mut self, last: bool) -> bool {
        match std::str::from_utf8(self.message.get(self.checked..).unwrap_or_default()) {
            Ok(_) => {
                self.checked = self.message.len();
                true
            }
            Err(error) => {
                self.checked += error.valid_up_to();
                error.error_len().is_none() && !last
            }
        }
    }

    async fn close(mut self, reason: &CloseReason) -> std::io::Result<()> {
        self.outbox.control(Opcode::Close, &reason.encode(), self.mask());
        self.io.write_all_buf(&mut self.outbox).await?;
        if !self.is_client {
            self.io.shutdown().await?;
        }
        // What is still on its way is read, so that the socket is not reset under our Close.
        let mut rest = BytesMut::new();
        while self.io.read_buf(&mut rest).await? > 0 {
            rest.clear();
        }
        Ok(())
    }

    fn mask(&self) -> Option<[u8; 4]> {
        self.is_client.then(rand::random)
    }
}
