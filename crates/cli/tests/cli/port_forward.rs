//! `wsstream port-forward` against `wsstream serve`: real processes, real ports.

use crate::support::{LIMIT, Server, eventually, run, signal_child, stderr};
use rustix::process::Signal;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::process::{Child, ChildStderr, ChildStdout};
use tokio::sync::Notify;
use tokio::time::timeout;

/// A running `wsstream port-forward`.
struct Forwarding {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
    errors: Lines<BufReader<ChildStderr>>,
}

impl Forwarding {
    fn start(server: &Server, arguments: &[&str]) -> Self {
        let mut command = server.client(&[&["port-forward"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let errors = BufReader::new(child.stderr.take().unwrap()).lines();
        Self { child, lines, errors }
    }

    /// The next line on standard output.
    async fn line(&mut self) -> String {
        let line = timeout(LIMIT, self.lines.next_line()).await.expect("it says nothing").unwrap();
        match line {
            Some(line) => line,
            None => panic!("it ended: {:?}", self.errors.next_line().await),
        }
    }

    /// The next line on standard error that contains `part`.
    async fn error(&mut self, part: &str) -> String {
        loop {
            let line =
                timeout(LIMIT, self.errors.next_line()).await.expect("it says nothing").unwrap().unwrap();
            if line.contains(part) {
                return line;
            }
        }
    }

    /// The local port of `Forwarding from 127.0.0.1:PORT -> remote`.
    async fn port(&mut self, remote: u16) -> u16 {
        loop {
            let line = self.line().await;
            let port = line
                .strip_prefix("Forwarding from 127.0.0.1:")
                .and_then(|rest| rest.strip_suffix(&format!(" -> {remote}")));
            if let Some(port) = port {
                return port.parse().unwrap();
            }
        }
    }

    /// Asks it to end, and returns its exit code.
    async fn stop(mut self) -> Option<i32> {
        signal_child(&self.child, Signal::INT);
        timeout(LIMIT, self.child.wait()).await.expect("it does not end").unwrap().code()
    }
}

async fn target() -> (TcpListener, u16) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    (listener, port)
}

async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(LIMIT, listener.accept()).await.expect("nobody connects").unwrap().0
}

async fn read_all(socket: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut all = Vec::new();
    timeout(LIMIT, socket.read_to_end(&mut all)).await.expect("it does not end").map(|_| all)
}

/// A question and an answer, each with its end.
async fn exchange(local: u16, listener: &TcpListener) {
    let mut client = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
    client.write_all(b"question").await.unwrap();
    client.shutdown().await.unwrap();
    let mut socket = accept(listener).await;
    assert_eq!(read_all(&mut socket).await.unwrap(), b"question");
    socket.write_all(b"answer").await.unwrap();
    drop(socket);
    assert_eq!(read_all(&mut client).await.unwrap(), b"answer");
}

#[tokio::test]
async fn local_ports_lead_to_the_pod_over_every_transport() {
    let server = Server::start(&[]).await;
    let ((one, first), (two, second)) = (target().await, target().await);
    for transport in ["auto", "websocket", "spdy"] {
        let pairs = [format!(":{first}"), format!(":{second}")];
        let arguments = ["--transport", transport, "host", &pairs[0], &pairs[1]];
        let mut forwarding = Forwarding::start(&server, &arguments);
        let (local_one, local_two) = (forwarding.port(first).await, forwarding.port(second).await);
        exchange(local_one, &one).await;
        exchange(local_two, &two).await;
        let mut said = Vec::new();
        while said.len() < 2 {
            let line = forwarding.line().await;
            // The lines of ::1 come in between.
            if line.starts_with("Handling") {
                said.push(line);
            }
        }
        assert_eq!(said, [local_one, local_two].map(|port| format!("Handling connection for {port}")));
        assert_eq!(forwarding.stop().await, Some(0), "{transport}");
    }
}

/// Over channels the client cannot say that its question is complete; the answer comes all the same.
#[tokio::test]
async fn channels_carry_a_session_for_each_connection() {
    let server = Server::start(&[]).await;
    let (listener, port) = target().await;
    let mut forwarding =
        Forwarding::start(&server, &["--transport", "channels", "host", &format!(":{port}")]);
    let local = forwarding.port(port).await;
    for _ in 0..3 {
        let mut client = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let mut socket = accept(&listener).await;
        let mut question = [0; 8];
        timeout(LIMIT, socket.read_exact(&mut question)).await.unwrap().unwrap();
        assert_eq!(&question, b"question");
        socket.write_all(b"answer").await.unwrap();
        drop(socket);
        assert_eq!(read_all(&mut client).await.unwrap(), b"answer");
    }
    assert_eq!(forwarding.stop().await, Some(0));
}

/// A port that nothing listens on ends its connection with an abort, and no other.
#[tokio::test]
async fn a_refused_connection_is_told_and_ends_no_other() {
    let server = Server::start(&[]).await;
    let ((listener, port), (closed, refused)) = (target().await, target().await);
    drop(closed);
    let pairs = [format!(":{port}"), format!(":{refused}")];
    let mut forwarding = Forwarding::start(&server, &["host", &pairs[0], &pairs[1]]);
    let (good, bad) = (forwarding.port(port).await, forwarding.port(refused).await);
    let mut running = TcpStream::connect(("127.0.0.1", good)).await.unwrap();
    let mut socket = accept(&listener).await;
    socket.write_all(b"first").await.unwrap();
    let mut client = TcpStream::connect(("127.0.0.1", bad)).await.unwrap();
    let error = read_all(&mut client).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    let line = forwarding.error("an error occurred forwarding").await;
    assert!(line.contains(&format!("forwarding {bad} -> {refused}: ")), "{line}");
    socket.write_all(b" second").await.unwrap();
    drop(socket);
    assert_eq!(read_all(&mut running).await.unwrap(), b"first second");
    assert_eq!(forwarding.stop().await, Some(0));
}

/// `report` tells the cause, as Kubernetes does; our own client lives on all the same.
#[tokio::test]
async fn a_reported_cause_is_printed() {
    let server = Server::start(&["--port-forward-errors", "report", "--forward-ports", "1"]).await;
    let mut forwarding = Forwarding::start(&server, &["host", ":2"]);
    let local = forwarding.port(2).await;
    for _ in 0..2 {
        let mut client = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
        read_all(&mut client).await.unwrap_err();
        let line = forwarding.error("an error occurred").await;
        assert!(line.ends_with("port 2 is not forwarded by this server"), "{line}");
    }
    assert_eq!(forwarding.stop().await, Some(0));
}

#[tokio::test]
async fn a_unix_socket_is_reached_although_no_port_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("socket");
    let listener = UnixListener::bind(&path).unwrap();
    let route = format!("host:2375=unix:{}", path.display());
    let server = Server::start(&["--forward-ports", "none", "--forward", &route]).await;
    let mut forwarding = Forwarding::start(&server, &["host", ":2375"]);
    let local = forwarding.port(2375).await;
    let mut client = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
    let (mut socket, _) = timeout(LIMIT, listener.accept()).await.unwrap().unwrap();
    socket.write_all(b"from a unix socket").await.unwrap();
    drop(socket);
    assert_eq!(read_all(&mut client).await.unwrap(), b"from a unix socket");
    assert_eq!(forwarding.stop().await, Some(0));
}

/// The server restarts at the same address, with the same token: the local ports live on.
#[tokio::test]
async fn a_lost_session_is_opened_again() {
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, "secret-for-this-test\n").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).unwrap();
    let token = token.to_str().unwrap();
    let mut server = Server::start(&["--insecure-http", "--token-file", token]).await;
    let address =
        server.banner.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let (listener, port) = target().await;
    let mut forwarding = Forwarding::start(&server, &["host", &format!(":{port}")]);
    let mut strict = Forwarding::start(&server, &["--no-reconnect", "host", &format!(":{port}")]);
    let local = forwarding.port(port).await;
    strict.port(port).await;
    exchange(local, &listener).await;
    server.child.kill().await.unwrap();
    forwarding.error("lost connection to pod host").await;
    let line = strict.error("lost connection to pod host").await;
    assert!(line.starts_with("wsstream: lost: "), "{line}");
    let ended = timeout(LIMIT, strict.child.wait()).await.unwrap().unwrap();
    assert_eq!(ended.code(), Some(254));
    let _again = Server::start(&["--listen", &address, "--insecure-http", "--token-file", token]).await;
    forwarding.error("connected to pod host again").await;
    exchange(local, &listener).await;
    assert_eq!(forwarding.stop().await, Some(0));
}

/// In front of the server at `address`: on a connection that it has upgraded, `farewell` becomes a GOAWAY in its name, as
/// from a server that is about to stop. Nothing else may be on its way then.
async fn with_farewell(address: String, farewell: Arc<Notify>) -> SocketAddr {
    const GOAWAY: [u8; 16] = [0x80, 3, 0, 7, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0];
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let here = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut client, _) = listener.accept().await.unwrap();
            let (address, farewell) = (address.clone(), Arc::clone(&farewell));
            tokio::spawn(async move {
                let mut server = TcpStream::connect(address).await.unwrap();
                let (mut from_client, mut to_client) = client.split();
                let (mut from_server, mut to_server) = server.split();
                let up = async {
                    let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
                    let _ = to_server.shutdown().await;
                };
                let down = async {
                    let (mut buffer, mut upgraded) = (vec![0; 32 << 10], false);
                    loop {
                        let n = tokio::select! {
                            read = from_server.read(&mut buffer) => read.unwrap_or(0),
                            () = farewell.notified(), if upgraded => {
                                buffer[..GOAWAY.len()].copy_from_slice(&GOAWAY);
                                GOAWAY.len()
                            }
                        };
                        upgraded |= buffer[..n].starts_with(b"HTTP/1.1 101 ");
                        if n == 0 || to_client.write_all(&buffer[..n]).await.is_err() {
                            break;
                        }
                    }
                    let _ = to_client.shutdown().await;
                };
                tokio::join!(up, down);
            });
        }
    });
    here
}

/// A server that says GOAWAY takes no more connections and carries those that it has: they go on, and a new session takes
/// the next.
#[tokio::test]
async fn a_farewell_ends_no_connection_and_the_next_has_a_new_session() {
    let server = Server::start(&["--insecure-http"]).await;
    let address =
        server.banner.split("http://").nth(1).unwrap().split_whitespace().next().unwrap().to_owned();
    let farewell = Arc::new(Notify::new());
    let proxy = with_farewell(address.clone(), Arc::clone(&farewell)).await;
    let kubeconfig = std::fs::read_to_string(&server.kubeconfig).unwrap();
    std::fs::write(&server.kubeconfig, kubeconfig.replace(&address, &proxy.to_string())).unwrap();
    let (listener, port) = target().await;
    let arguments = ["--transport", "spdy", "host", &format!(":{port}")];
    let mut forwarding = Forwarding::start(&server, &arguments);
    let local = forwarding.port(port).await;
    let mut old = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
    let mut socket = accept(&listener).await;
    socket.write_all(b"early").await.unwrap();
    let mut early = [0; 5];
    timeout(LIMIT, old.read_exact(&mut early)).await.unwrap().unwrap();
    farewell.notify_one();
    forwarding.error("the server has ended the session with pod host; connecting again").await;
    // It waits for the session that is on its way.
    exchange(local, &listener).await;
    forwarding.error("connected to pod host again").await;
    old.write_all(b"question").await.unwrap();
    old.shutdown().await.unwrap();
    assert_eq!(read_all(&mut socket).await.unwrap(), b"question");
    socket.write_all(b" and late").await.unwrap();
    drop(socket);
    assert_eq!(read_all(&mut old).await.unwrap(), b" and late");
    exchange(local, &listener).await;
    assert_eq!(forwarding.stop().await, Some(0));
}

/// Over channels an abort at the far end has no sign but the text on the error channel and the code of the session's end.
#[tokio::test]
async fn an_abort_of_the_target_is_one_for_the_local_client_over_every_transport() {
    let server = Server::start(&[]).await;
    let (listener, port) = target().await;
    for transport in ["channels", "websocket", "spdy"] {
        let arguments = ["--transport", transport, "host", &format!(":{port}")];
        let mut forwarding = Forwarding::start(&server, &arguments);
        let local = forwarding.port(port).await;
        for _ in 0..10 {
            let mut client = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
            let mut socket = accept(&listener).await;
            socket.write_all(b"half of").await.unwrap();
            let mut half = [0; 7];
            timeout(LIMIT, client.read_exact(&mut half)).await.unwrap().unwrap();
            socket.set_zero_linger().unwrap();
            drop(socket);
            let error = read_all(&mut client).await.expect_err(transport);
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{transport}");
            let line = forwarding.error("an error occurred forwarding").await;
            assert!(line.starts_with("wsstream: an error occurred"), "{line}");
        }
        assert_eq!(forwarding.stop().await, Some(0));
    }
}

/// The kernel closes the sockets of a program that has ended: to the programs at both ends that must not be an end in good
/// order, whatever ended it.
#[tokio::test]
async fn connections_of_a_program_that_ends_are_reset() {
    for (transport, signal) in [("websocket", Signal::KILL), ("spdy", Signal::KILL), ("spdy", Signal::INT)] {
        let server = Server::start(&[]).await;
        let (listener, port) = target().await;
        let pair = format!(":{port}");
        let mut forwarding = Forwarding::start(&server, &["--transport", transport, "host", &pair]);
        let local = forwarding.port(port).await;
        let mut client = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
        client.write_all(b"question").await.unwrap();
        let mut socket = accept(&listener).await;
        socket.write_all(b"half of").await.unwrap();
        let mut half = [0; 7];
        timeout(LIMIT, client.read_exact(&mut half)).await.expect("it does not come").unwrap();
        signal_child(&forwarding.child, signal);
        timeout(LIMIT, forwarding.child.wait()).await.expect("it does not end").unwrap();
        read_all(&mut client).await.expect_err("an end in good order");
        read_all(&mut socket).await.expect_err("an end in good order");
    }
}

#[tokio::test]
async fn what_cannot_be_is_told_at_once() {
    let server = Server::start(&[]).await;
    let (_listener, taken) = target().await;
    let client = |arguments: &[&str]| server.client(&[&["port-forward"], arguments].concat());
    let output = run(&mut client(&["host", &format!("{taken}:80")])).await;
    assert_eq!(output.status.code(), Some(252));
    let text = stderr(&output);
    assert!(text.contains(&format!("cannot listen on 127.0.0.1:{taken}")), "{text}");
    assert!(text.contains("choose another local port"), "{text}");
    let output = run(&mut client(&["nope", ":80"])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr(&output).contains("pods \"nope\" not found"), "{}", stderr(&output));
    for (arguments, part) in [
        (&["host"][..], "[LOCAL:]REMOTE"),
        (&["host", "http"][..], "`http` is not a port"),
        (&["--address", "example.com", "host", "80"][..], "not an IP address"),
        (&["svc/web", "80"][..], "svc/… is not understood"),
    ] {
        let output = run(&mut client(arguments)).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(stderr(&output).contains(part), "{}", stderr(&output));
    }
    // An address of one's own is the only one listened on.
    let mut forwarding = Forwarding::start(&server, &["--address", "127.0.0.1", "host", ":80"]);
    let local = forwarding.port(80).await;
    assert!(TcpStream::connect(("::1", local)).await.is_err());
    let taken = run(&mut client(&["--address", "127.0.0.1", "host", &format!("{local}:80")])).await;
    assert_eq!(taken.status.code(), Some(252));
    assert_eq!(forwarding.stop().await, Some(0));
    eventually("the local port is free again", || std::net::TcpListener::bind(("127.0.0.1", local)).is_ok())
        .await;
}
