//! Who gets through to the admin socket.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod server_support;

use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustix::thread::set_thread_res_uid;
use server_support::{Running, host_pod, soon};
use std::os::unix::fs::PermissionsExt;
use wsstream_server::Pods;
use wsstream_server::admin::{Admin, AdminSocket};

async fn ask(stream: std::os::unix::net::UnixStream) -> (u16, String) {
    stream.set_nonblocking(true).unwrap();
    let stream = tokio::net::UnixStream::from_std(stream).unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get("/v1/sessions").header("host", "x").body(Empty::<Bytes>::new()).unwrap();
    let answer = soon("an answer", sender.send_request(request)).await.unwrap();
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    (code, String::from_utf8(body.to_vec()).unwrap())
}

/// The mode of the file keeps others out; this is for the day on which somebody has changed it.
#[tokio::test]
async fn another_user_is_refused_also_when_the_file_lets_them_in() {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let server = Running::new(pods).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin");
    let socket = AdminSocket::bind(&path).unwrap();
    let _admin = Admin::start(socket, &server.api, &server.url).unwrap();
    let (code, text) = ask(std::os::unix::net::UnixStream::connect(&path).unwrap()).await;
    assert_eq!(code, 200, "{text}");

    for place in [directory.path(), &path] {
        std::fs::set_permissions(place, PermissionsExt::from_mode(0o777)).unwrap();
    }
    // A thread may have another user than its process; only root's may.
    let connect = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(65534);
        set_thread_res_uid(nobody, nobody, nobody).ok()?;
        Some(std::os::unix::net::UnixStream::connect(&path).unwrap())
    });
    match connect.join().unwrap() {
        Some(stream) => {
            let (code, text) = ask(stream).await;
            assert_eq!(code, 403, "{text}");
            assert!(text.contains("\"kind\":\"Status\"") && text.contains("own user and root"), "{text}");
        }
        None => eprintln!("SKIPPED: only root can try to be somebody else"),
    }
}

/// Its commands hold connections and ask nothing: the operator found no place.
#[tokio::test]
async fn refused_peers_could_lock_the_operator_out() {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let server = Running::new(pods).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin");
    let _admin = Admin::start(AdminSocket::bind(&path).unwrap(), &server.api, &server.url).unwrap();
    for place in [directory.path(), &path] {
        std::fs::set_permissions(place, PermissionsExt::from_mode(0o777)).unwrap();
    }
    let (ready, done) = (std::sync::Arc::new(std::sync::Barrier::new(2)), path.clone());
    let hold = std::thread::spawn({
        let (ready, path) = (ready.clone(), path.clone());
        move || {
            let nobody = rustix::process::Uid::from_raw(65534);
            let held = match set_thread_res_uid(nobody, nobody, nobody) {
                Ok(()) => (0..100).map(|_| std::os::unix::net::UnixStream::connect(&path).unwrap()).collect(),
                Err(_) => Vec::new(),
            };
            ready.wait();
            held
        }
    });
    // Not on this thread: it has to accept meanwhile.
    tokio::task::spawn_blocking(move || ready.wait()).await.unwrap();
    let held = hold.join().unwrap();
    if held.is_empty() {
        eprintln!("SKIPPED: only root can try to be somebody else");
        return;
    }
    let started = std::time::Instant::now();
    let (code, text) = ask(std::os::unix::net::UnixStream::connect(&done).unwrap()).await;
    assert_eq!(code, 200, "{text}");
    // They would have had five seconds each.
    assert!(started.elapsed() < std::time::Duration::from_secs(4), "{:?}", started.elapsed());
    drop(held);
}
