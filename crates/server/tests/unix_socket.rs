//! Serving on unix sockets: who is at the other end is who they are, and nobody else gets in.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::Request;
use rustix::{
    process::{Uid, geteuid},
    thread::set_thread_res_uid,
};
use server_support::{Answer, Running, host_pod, send_over, soon};
use std::{
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};
use tempfile::TempDir;
use tokio::net::UnixStream;
use wsstream::remotecommand::Request as Command;
use wsstream_server::{Pods, ServerOptions, TlsSource, TokenSource};

struct Place {
    directory: TempDir,
    path: PathBuf,
}

/// A directory that everybody may look into, and nobody else write to.
fn place() -> Place {
    let directory = tempfile::tempdir().unwrap();
    std::fs::set_permissions(directory.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let path = directory.path().join("api.sock");
    Place { directory, path }
}

async fn server(path: &Path, change: impl FnOnce(&mut ServerOptions)) -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        options.access.listen_unix = vec![path.to_owned()];
        change(options);
    })
    .await
}

async fn ask(stream: UnixStream, token: Option<&str>) -> Answer {
    let mut request = Request::get("/api/v1/pods").header("host", "localhost");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    Answer::of(send_over(stream, request).await).await
}

/// The name that `id -un` prints, with its prefix.
fn user() -> String {
    let output = std::process::Command::new("id").arg("-un").output().unwrap();
    format!("unix:{}", String::from_utf8(output.stdout).unwrap().trim())
}

#[tokio::test]
async fn the_server_s_own_user_needs_no_token_and_is_known_by_name() {
    let place = place();
    let policy = place.directory.path().join("policy.toml");
    std::fs::write(&policy, format!("[[rule]]\nusers = [{:?}]\nread_only = true\n", user())).unwrap();
    let mut server = server(&place.path, |options| {
        options.listen.clear();
        options.tokens = TokenSource::None;
        options.access.policy = Some(policy.clone());
    })
    .await;
    assert_eq!(server.url, format!("unix:{}", place.path.display()));
    assert_eq!(std::fs::metadata(&place.path).unwrap().permissions().mode() & 0o777, 0o600);
    let connect = async || UnixStream::connect(&place.path).await.unwrap();
    assert_eq!(ask(connect().await, None).await.status, 200);
    // A token that is wrong is wrong here, too.
    ask(connect().await, Some("wrong")).await.failure(401, "Unauthorized");
    let post =
        Request::post("/api/v1/namespaces/default/pods/host/exec?command=id").header("host", "localhost");
    let message = Answer::of(send_over(connect().await, post).await).await.failure(403, "Forbidden");
    assert!(message.contains(&format!("User {:?} cannot create", user())), "{message}");
    server.stop();
    server.ended().await;
    assert!(!place.path.exists(), "its name goes with the server");
}

/// On a thread of its own, whose user is another's.
fn connect_as(uid: u32, path: &Path) -> std::io::Result<std::os::unix::net::UnixStream> {
    let path = path.to_owned();
    let thread = std::thread::spawn(move || {
        let other = Uid::from_raw(uid);
        set_thread_res_uid(other, other, other).unwrap();
        std::os::unix::net::UnixStream::connect(path)
    });
    thread.join().unwrap()
}

#[tokio::test]
async fn another_user_is_let_in_by_number_only() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can be somebody else");
        return;
    }
    let closed = place();
    let _server = server(&closed.path, |_| {}).await;
    let error = connect_as(4_000_000, &closed.path).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::PermissionDenied, "by the mode");
    // Whatever the mode has become.
    std::fs::set_permissions(&closed.path, PermissionsExt::from_mode(0o666)).unwrap();
    let as_user = |uid, path: &Path| {
        let stream = connect_as(uid, path).unwrap();
        stream.set_nonblocking(true).unwrap();
        UnixStream::from_std(stream).unwrap()
    };
    let message = ask(as_user(4_000_000, &closed.path), None).await.failure(403, "Forbidden");
    assert!(message.contains("--allow-uid"), "{message}");

    let open = place();
    let _server = server(&open.path, |options| options.access.allow_uids = vec![4_000_000]).await;
    assert_eq!(ask(as_user(4_000_000, &open.path), None).await.status, 200);
    ask(as_user(4_000_001, &open.path), None).await.failure(403, "Forbidden");
    assert_eq!(ask(UnixStream::connect(&open.path).await.unwrap(), None).await.status, 200, "root is");
}

/// Each held one of the server's connections until it had hung up, or for ten seconds.
#[tokio::test]
async fn refused_peers_held_the_places_of_others() {
    if !geteuid().is_root() {
        eprintln!("SKIPPED: only root can be somebody else");
        return;
    }
    let place = place();
    let _server = server(&place.path, |options| {
        options.access.allow_uids = vec![4_000_000];
        options.limits.connections = 2;
        options.limits.header_read = std::time::Duration::from_secs(3600);
    })
    .await;
    let held: Vec<_> = (0..100).map(|_| connect_as(4_000_001, &place.path).unwrap()).collect();
    assert_eq!(ask(UnixStream::connect(&place.path).await.unwrap(), None).await.status, 200);
    drop(held);
}

#[tokio::test]
async fn a_session_runs_over_it_and_its_command_is_not_the_servers_user_there() {
    let place = place();
    let _server = server(&place.path, |_| {}).await;
    let script = "import socket, sys\ns = socket.socket(socket.AF_UNIX)\ns.connect(sys.argv[1])\n\
                  s.sendall(b'GET /api HTTP/1.0\\r\\nHost: localhost\\r\\n\\r\\n')\n\
                  sys.stdout.write(s.recv(12).decode())";
    let words = ["python3", "-c", script, place.path.to_str().unwrap()];
    let command = Command::command(words).stdout(true).stderr(true);
    let start = wsstream::remotecommand::client::exec(command);
    let endpoint = "http://localhost/api/v1/namespaces/default/pods/host/exec".parse().unwrap();
    let request = start.request(&endpoint).unwrap();
    let stream = UnixStream::connect(&place.path).await.unwrap();
    let process = soon("an upgrade", start.connect(stream, request)).await.unwrap();
    let done = soon("the end", process.output()).await;
    assert_eq!(
        String::from_utf8_lossy(&done.stdout),
        "HTTP/1.1 403",
        "{:?}",
        String::from_utf8_lossy(&done.stderr)
    );
}

#[tokio::test]
async fn a_name_that_is_taken_keeps_the_server_from_starting() {
    let place = place();
    std::fs::write(&place.path, "kept").unwrap();
    let mut options = ServerOptions::new(Pods::new());
    options.listen.clear();
    options.access.listen_unix = vec![place.path.clone()];
    let error = wsstream_server::Server::bind(options).await.unwrap_err().to_string();
    assert!(error.contains("api.sock: something that is not a socket"), "{error}");
    assert_eq!(std::fs::read_to_string(&place.path).unwrap(), "kept");
    assert_eq!(std::fs::metadata(&place.path).unwrap().uid(), geteuid().as_raw());
}
