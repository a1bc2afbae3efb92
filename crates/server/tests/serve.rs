//! Listening, TLS, and clients that are slow, many or confused.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::Method;
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject};
use server_support::{Answer, Running, host_pod, send_over, soon};
use std::{os::unix::fs::PermissionsExt, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{
    TlsConnector,
    client::TlsStream,
    rustls::{ClientConfig, RootCertStore, crypto::ring, version},
};
use wsstream::remotecommand::{ExitCode, Outcome, Request as Command, client};
use wsstream_server::{Pods, ServeError, Server, ServerOptions, TlsSource, TokenSource};

async fn host(change: impl FnOnce(&mut ServerOptions)) -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, change).await
}

async fn tls(
    server: &Running,
    name: &str,
    alpn: &[&str],
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    let pem = server.certificate.as_deref().unwrap();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    let tcp = TcpStream::connect(server.address).await.unwrap();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    soon("a handshake", TlsConnector::from(Arc::new(config)).connect(name, tcp)).await
}

const BOTH: &[&rustls::SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

#[tokio::test]
async fn the_generated_certificate_is_trusted_under_each_name() {
    let server = host(|_| {}).await;
    assert_eq!(server.url, format!("https://{}", server.address));
    for name in ["127.0.0.1", "localhost", "::1"] {
        let stream = tls(&server, name, &["h2", "http/1.1"], BOTH).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]), "HTTP/2 is not offered");
        let answer = Answer::of(send_over(stream, server.request(Method::GET, "/api")).await).await;
        assert_eq!(answer.json()["kind"], "APIVersions");
    }
    tls(&server, "127.0.0.1", &[], &[&version::TLS12]).await.unwrap();
    assert!(tls(&server, "example.org", &[], BOTH).await.is_err());
    assert!(tls(&server, "127.0.0.1", &["h2"], BOTH).await.is_err());
}

#[tokio::test]
async fn a_command_runs_over_tls() {
    let server = host(|_| {}).await;
    let start =
        client::exec(Command::command(["sh", "-c", "head -c 3000000 /dev/zero; exit 9"]).stdout(true));
    let endpoint = format!("{}/api/v1/namespaces/default/pods/host/exec", server.url).parse().unwrap();
    let mut request = start.request(&endpoint).unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {}", server.token).parse().unwrap());
    let stream = tls(&server, "127.0.0.1", &[], BOTH).await.unwrap();
    let process = soon("an upgrade", start.connect(stream, request)).await.unwrap();
    let all = soon("the end", process.output()).await;
    assert_eq!((all.stdout.len(), all.outcome), (3_000_000, Outcome::Exited(ExitCode(9))));
}

#[tokio::test]
async fn a_stalled_handshake_delays_nobody_and_is_given_up() {
    let server = host(|options| options.limits.tls_handshake = Duration::from_millis(300)).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        silent.push(TcpStream::connect(server.address).await.unwrap());
    }
    let mut torn = TcpStream::connect(server.address).await.unwrap();
    torn.write_all(&[22, 3, 1]).await.unwrap();
    silent.push(torn);
    let stream = tls(&server, "localhost", &[], BOTH).await.unwrap();
    assert_eq!(send_over(stream, server.request(Method::GET, "/api")).await.status(), 200);
    for mut stream in silent {
        // Closed, with or without an alert.
        soon("the server to hang up", stream.read_to_end(&mut Vec::new())).await.ok();
    }
}

#[tokio::test]
async fn plain_http_on_a_tls_port_is_told_so() {
    let server = host(|_| {}).await;
    let answer = Answer::of(server.send(server.request(Method::GET, "/api")).await).await;
    assert!(answer.failure(400, "BadRequest").contains("use https://"));
}

#[tokio::test]
async fn a_request_head_has_a_time_and_a_size() {
    let server = host(|options| {
        options.tls = TlsSource::Insecure;
        options.limits.header_read = Duration::from_millis(300);
        options.limits.header_bytes = 8192;
    })
    .await;
    let mut slow = TcpStream::connect(server.address).await.unwrap();
    slow.write_all(b"GET /api HTTP/1.1\r\nHost: x\r\nX: ").await.unwrap();
    let mut silent = TcpStream::connect(server.address).await.unwrap();
    for stream in [&mut slow, &mut silent] {
        let mut answer = String::new();
        soon("the server to hang up", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(!answer.contains("200"), "{answer}");
    }
    let big = server.request(Method::GET, "/api").header("x", "y".repeat(9000));
    assert_eq!(server.send(big).await.status(), 431);
    assert_eq!(server.get("/api").await.status, 200);
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_for_their_turn() {
    let server = host(|options| {
        options.tls = TlsSource::Insecure;
        options.limits.connections = 2;
    })
    .await;
    let first = TcpStream::connect(server.address).await.unwrap();
    let _second = TcpStream::connect(server.address).await.unwrap();
    let third = server.get("/api");
    tokio::pin!(third);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut third).await.is_err());
    drop(first);
    assert_eq!(third.await.status, 200);
}

/// A request every nine seconds to a path that is open, or that is refused, was enough.
#[tokio::test]
async fn strangers_could_hold_every_connection_for_ever() {
    let server = host(|options| {
        options.tls = TlsSource::Insecure;
        options.limits.connections = 1;
        options.limits.header_read = Duration::from_secs(1);
    })
    .await;
    let host = server.address.to_string();
    let connect = async || TcpStream::connect(server.address).await.unwrap();
    for (path, host, code) in [
        ("/healthz", &*host, 200),
        ("/readyz", &host, 200),
        ("/api", &host, 401),
        ("/auth/exchange", &host, 405),
        ("/api", "elsewhere.example", 403),
    ] {
        let mut stream = connect().await;
        stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        soon("the server to hang up", stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
        assert!(answer.to_lowercase().contains("\r\nconnection: close\r\n"), "{answer}");
    }
    // A body that never ends.
    let mut stream = connect().await;
    let head = format!("POST /auth/exchange HTTP/1.1\r\nHost: {host}\r\nContent-Length: 90\r\n\r\nx");
    stream.write_all(head.as_bytes()).await.unwrap();
    soon("the server to hang up", stream.read_to_end(&mut Vec::new())).await.ok();

    // Who has been let in stays, for longer than a stranger may, and asks for anything on the same connection.
    let mut stream = connect().await;
    let credentials = format!("Authorization: Bearer {}\r\n", server.token);
    let started = std::time::Instant::now();
    let mut first = true;
    while first || started.elapsed() < Duration::from_millis(2500) {
        let (path, with) = if first { ("/api", &*credentials) } else { ("/livez", "") };
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{with}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 4096];
        let read = soon("an answer", stream.read(&mut answer)).await.unwrap();
        let answer = String::from_utf8_lossy(&answer[..read]).to_lowercase();
        assert!(answer.starts_with("http/1.1 200 ") && !answer.contains("connection: close"), "{answer}");
        first = false;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// A session has left HTTP behind and still counts.
#[tokio::test]
async fn an_upgraded_session_keeps_its_place() {
    let server = host(|options| {
        options.tls = TlsSource::Insecure;
        options.limits.connections = 1;
    })
    .await;
    let cat = Command::command(["cat"]).stdin(true).stdout(true);
    let process = server.start("/api/v1/namespaces/default/pods/host/exec", None, cat).await;
    let second = server.get("/api");
    tokio::pin!(second);
    assert!(tokio::time::timeout(Duration::from_millis(300), &mut second).await.is_err());
    drop(process);
    assert_eq!(second.await.status, 200);
}

#[tokio::test]
async fn the_kubeconfig_is_there_and_private_once_the_server_listens() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/kubeconfig");
    let pods = Pods::new();
    pods.add(host_pod("host").namespace("prod")).unwrap();
    let mut options = ServerOptions::new(pods);
    options.listen = vec!["127.0.0.1:0".parse().unwrap()];
    options.kubeconfig = Some(path.clone());
    let bound = Server::bind(options).await.unwrap();
    TcpStream::connect(bound.local_addr()).await.unwrap();
    assert_eq!(bound.kubeconfig(), Some(&*path));
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let text = std::fs::read_to_string(&path).unwrap();
    for part in [
        &format!("server: \"{}\"", bound.url()),
        &format!("token: \"{}\"", bound.token().unwrap()),
        "namespace: \"prod\"",
    ] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn what_keeps_a_server_from_starting_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let taken = taken.local_addr().unwrap();
    let _holder = tokio::net::TcpListener::bind(taken).await;
    let missing = dir.path().join("missing");
    let bind = |change: &dyn Fn(&mut ServerOptions)| {
        let mut options = ServerOptions::new(Pods::new());
        options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        change(&mut options);
        async { Server::bind(options).await.unwrap_err() }
    };
    let error = bind(&|options| options.listen = vec![taken]).await.to_string();
    assert!(
        error.starts_with(&format!("cannot listen on {taken}: ")) && error.contains("another port"),
        "{error}"
    );
    let error = bind(&|options| {
        options.tls = TlsSource::Insecure;
        options.listen = vec!["127.0.0.1:0".parse().unwrap(), "0.0.0.0:0".parse().unwrap()];
    })
    .await;
    assert!(
        matches!(error, ServeError::InsecureBeyondLoopback(address) if address.ip().is_unspecified()),
        "{error}"
    );
    assert!(matches!(bind(&|options| options.listen.clear()).await, ServeError::NoAddress));
    assert!(matches!(
        bind(&|options| options.tokens = TokenSource::Given(Vec::new())).await,
        ServeError::NoToken
    ));
    let error = bind(&|options| options.tokens = TokenSource::File(missing.clone())).await.to_string();
    assert!(error.contains("missing: No such file"), "{error}");
    let error = bind(&|options| {
        options.tls = TlsSource::Files { cert: missing.clone(), key: missing.clone() };
    })
    .await
    .to_string();
    assert!(error.contains("missing: No such file"), "{error}");
    let error = bind(&|options| options.kubeconfig = Some("/proc/none/kubeconfig".into())).await.to_string();
    assert!(error.starts_with("kubeconfig /proc/none/kubeconfig: cannot create its directory"), "{error}");
}

#[tokio::test]
async fn a_second_token_of_the_file_is_as_good_as_the_first() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokens");
    std::fs::write(&path, "first\nsecond\n").unwrap();
    let server = host(|options| {
        options.tls = TlsSource::Insecure;
        options.tokens = TokenSource::File(path.clone());
    })
    .await;
    assert_eq!(server.token, "first");
    for (token, status) in [("first", 200), ("second", 200), ("third", 401)] {
        let request = http::Request::get("/api")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"));
        assert_eq!(server.answer(request).await.status, status, "{token}");
    }
}

#[tokio::test]
async fn a_kept_alive_connection_does_not_hold_up_the_end() {
    let mut server = host(|options| options.tls = TlsSource::Insecure).await;
    let stream = TcpStream::connect(server.address).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(hyper_util::rt::TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request =
        server.request(Method::GET, "/api").body(http_body_util::Empty::<bytes::Bytes>::new()).unwrap();
    let answer = sender.send_request(request).await.unwrap();
    assert_eq!(Answer::of(answer).await.status, 200);
    server.stop();
    let started = std::time::Instant::now();
    server.ended().await;
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "idle connections are closed at once: {:?}",
        started.elapsed()
    );
}
