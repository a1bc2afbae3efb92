//! The admin socket: who does what, ending it, and draining.

use crate::support::{LIMIT, Server, client, eventually, run, signal_child, stderr, stdout, wsstream};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// `wsstream VERB --admin-socket PATH …`
fn admin(socket: &Path, words: &[&str]) -> Command {
    let mut command = wsstream();
    command.args(words).arg("--admin-socket").arg(socket);
    command
}

async fn list(socket: &Path) -> serde_json::Value {
    let output = run(&mut admin(socket, &["ps", "-o", "json"])).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A session that echoes, and has echoed.
async fn echoing(kubeconfig: &Path) -> Child {
    let mut session = client(kubeconfig, &["exec", "-i", "host", "--", "cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    session.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut echo = [0; 6];
    timeout(LIMIT, session.stdout.as_mut().unwrap().read_exact(&mut echo)).await.unwrap().unwrap();
    assert_eq!(&echo, b"hello\n");
    session
}

#[tokio::test]
async fn a_session_is_listed_and_ended_with_a_reason() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin");
    let server = Server::start(&["--admin-socket", socket.to_str().unwrap()]).await;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let output = run(&mut admin(&socket, &["ps"])).await;
    assert_eq!(stdout(&output), "NUMBER   KIND   USER   FROM   TARGET   AGE   IN   OUT\n");

    let session = echoing(&server.kubeconfig).await;
    let listed = list(&socket).await;
    let [entry] = &listed["sessions"].as_array().unwrap()[..] else { panic!("{listed}") };
    assert_eq!((entry["kind"].as_str(), entry["pod"].as_str()), (Some("exec"), Some("host")));
    assert_eq!((entry["bytes"]["in"].as_u64(), entry["bytes"]["out"].as_u64()), (Some(6), Some(6)));
    assert_eq!(listed["server"]["pid"].as_u64(), server.child.id().map(u64::from));
    let table = stdout(&run(&mut admin(&socket, &["ps"])).await);
    assert!(table.contains("default/host/host") && table.contains("6B"), "{table}");

    let number = entry["number"].to_string();
    let output = run(&mut admin(&socket, &["kill", "99", &number, "--reason", "noon & \u{1f55b}"])).await;
    assert_eq!(output.status.code(), Some(1), "one of them is not there");
    assert_eq!(stdout(&output), format!("session {number} is ending\n"));
    assert_eq!(stderr(&output), "Error from server (NotFound): there is no session 99\n");
    let ended = timeout(LIMIT, session.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(1));
    assert!(stderr(&ended).contains("noon & \u{1f55b}"), "{}", stderr(&ended));
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !list(&socket).await["sessions"].as_array().unwrap().is_empty() {
        assert!(tokio::time::Instant::now() < deadline);
    }

    server.signal(Signal::TERM);
    eventually("the socket goes with its server", || !socket.exists()).await;
}

async fn get(address: &str, path: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
    answer
}

#[tokio::test]
async fn a_drained_server_says_so_finishes_and_ends() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin");
    let mut server = Server::start(&["--insecure-http", "--admin-socket", socket.to_str().unwrap()]).await;
    let address = server.banner.lines().next().unwrap().rsplit('/').next().unwrap().to_owned();
    assert!(get(&address, "/readyz").await.starts_with("HTTP/1.1 200"));
    let mut session = echoing(&server.kubeconfig).await;

    let drain = admin(&socket, &["drain"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let deadline = tokio::time::Instant::now() + LIMIT;
    let ready = loop {
        let answer = get(&address, "/readyz").await;
        if answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        assert!(tokio::time::Instant::now() < deadline, "{answer}");
    };
    assert!(ready.contains("readyz check failed: shutdown"), "{ready}");
    assert!(get(&address, "/livez").await.starts_with("HTTP/1.1 200"));
    let refused = server.exec(&["host", "--", "true"]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("shutting down"), "{}", stderr(&refused));
    assert_eq!(list(&socket).await["server"]["draining"], true);
    assert!(stdout(&run(&mut admin(&socket, &["ps"])).await).contains("The server drains"));

    // What was running goes on, to its own end.
    session.stdin.as_mut().unwrap().write_all(b"still\n").await.unwrap();
    let output = timeout(LIMIT, session.wait_with_output()).await.unwrap().unwrap();
    assert_eq!((output.status.code(), stdout(&output)), (Some(0), "still\n".to_owned()));
    let output = timeout(LIMIT, drain.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(stdout(&output), "the server has ended; all sessions ended by themselves\n");
    assert_eq!(timeout(LIMIT, server.child.wait()).await.unwrap().unwrap().code(), Some(0));
    assert!(!socket.exists());
}

#[tokio::test]
async fn draining_has_an_end_if_one_is_asked_for() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin");
    let mut server =
        Server::start(&["--shutdown-grace", "0s", "--admin-socket", socket.to_str().unwrap()]).await;
    let session = echoing(&server.kubeconfig).await;
    let output = run(&mut admin(&socket, &["drain", "--timeout", "100ms"])).await;
    assert_eq!(stdout(&output), "the server has ended; 1 sessions were ended, and their clients told\n");
    let ended = timeout(LIMIT, session.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    assert_eq!(timeout(LIMIT, server.child.wait()).await.unwrap().unwrap().code(), Some(0));
}

/// It was ignored, and the first order, which has no end, stood.
#[tokio::test]
async fn a_second_order_to_drain_shortens_the_first() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin");
    let mut server =
        Server::start(&["--shutdown-grace", "0s", "--admin-socket", socket.to_str().unwrap()]).await;
    let session = echoing(&server.kubeconfig).await;
    let first = admin(&socket, &["drain"]).stdout(Stdio::piped()).spawn().unwrap();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while list(&socket).await["server"]["draining"] != true {
        assert!(tokio::time::Instant::now() < deadline);
    }
    // A later one that asks for more takes nothing back.
    let [mut second, mut third] = ["2s", "1h"].map(|limit| admin(&socket, &["drain", "--timeout", limit]));
    let (second, third) = tokio::join!(run(&mut second), run(&mut third));
    let first = timeout(LIMIT, first.wait_with_output()).await.unwrap().unwrap();
    for output in [first, second, third] {
        assert_eq!(stdout(&output), "the server has ended; 1 sessions were ended, and their clients told\n");
    }
    let ended = timeout(LIMIT, session.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(ended.status.code(), Some(1), "{}", stderr(&ended));
    assert_eq!(timeout(LIMIT, server.child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn who_asks_where_nobody_is_learns_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let runtime = directory.path();
    let ps = || {
        let mut command = wsstream();
        command.arg("ps").env("XDG_RUNTIME_DIR", runtime);
        command
    };
    let output = run(&mut ps()).await;
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(252));
    assert!(text.contains("no server runs here") && text.contains("--admin-socket PATH"), "{text}");
    let output = run(&mut admin(Path::new("/nonexistent/s"), &["kill", "1"])).await;
    assert!(stderr(&output).contains("there is no /nonexistent/s"), "{}", stderr(&output));

    // The default place is found again, one of two has to be named, and a killed server counts for nothing.
    let start = async || {
        let mut command = wsstream();
        command.args(["serve", "--listen", ":0"]).env("XDG_RUNTIME_DIR", runtime).stdout(Stdio::piped());
        let mut child = command.stderr(Stdio::null()).spawn().unwrap();
        let mut output = tokio::io::BufReader::new(child.stdout.take().unwrap());
        crate::support::read_banner(&mut output).await;
        (child, output)
    };
    let first = start().await;
    assert_eq!(run(&mut ps()).await.status.code(), Some(0));
    let mut second = start().await;
    let output = run(&mut ps()).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("several servers run here"), "{}", stderr(&output));
    second.0.kill().await.unwrap();
    let output = run(&mut ps()).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    signal_child(&first.0, Signal::KILL);
}

#[tokio::test]
async fn a_place_that_was_named_and_cannot_be_had_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let taken = directory.path().join("file");
    std::fs::write(&taken, "kept").unwrap();
    let kubeconfig = directory.path().join("k");
    let output = run(wsstream()
        .args(["serve", "--listen", ":0", "--kubeconfig"])
        .arg(&kubeconfig)
        .arg("--admin-socket")
        .arg(&taken))
    .await;
    assert_eq!(output.status.code(), Some(252));
    assert!(stderr(&output).contains("something that is not a socket"), "{}", stderr(&output));
    assert_eq!(std::fs::read_to_string(&taken).unwrap(), "kept");

    let server = Server::start(&["--admin-socket", "off"]).await;
    assert_eq!(server.exec(&["host", "--", "true"]).await.status.code(), Some(0));
}

#[tokio::test]
async fn a_link_is_traded_once_for_a_token_of_its_user() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin");
    let server = Server::start(&["--insecure-http", "--admin-socket", socket.to_str().unwrap()]).await;
    let output = run(&mut admin(&socket, &["link", "--user", "ann \u{e9}"])).await;
    let link = stdout(&output);
    let (url, code) = link.trim_end().split_once("/#").unwrap();
    assert!(server.banner.contains(url), "{link}");
    let address = url.strip_prefix("http://").unwrap();

    let trade = async || {
        let body = serde_json::json!({"code": code}).to_string();
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /auth/exchange HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all((head + &body).as_bytes()).await.unwrap();
        let mut answer = String::new();
        timeout(LIMIT, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answer
    };
    let answer = trade().await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let body: serde_json::Value = serde_json::from_str(answer.split_once("\r\n\r\n").unwrap().1).unwrap();
    crate::access::with_token(&server.kubeconfig, body["token"].as_str().unwrap());
    let mut session = echoing(&server.kubeconfig).await;
    assert_eq!(list(&socket).await["sessions"][0]["user"], "ann \u{e9}");
    session.stdin.take();
    assert!(timeout(LIMIT, session.wait()).await.unwrap().unwrap().success());
    assert!(trade().await.starts_with("HTTP/1.1 401"), "good once");
    let output = run(&mut admin(&socket, &["link", "--user", ""])).await;
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
}

/// Who may run a command in one pod could otherwise end everybody's sessions, and be anybody by a link.
#[tokio::test]
async fn a_command_of_a_session_is_no_operator() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("admin");
    let server = Server::start(&["--admin-socket", socket.to_str().unwrap()]).await;
    let program = env!("CARGO_BIN_EXE_wsstream");
    let socket = socket.to_str().unwrap();
    let link = format!("{program} link --user root --admin-socket {socket}");
    // Also by one that is out of its session and whose parents have gone.
    for script in [
        link.clone(),
        format!(
            "(setsid sh -c '{link} > {socket}.out 2>&1; echo done >> {socket}.out' &) ; \
         until grep -qs done {socket}.out; do sleep 0.05; done; cat {socket}.out; exit 1"
        ),
    ] {
        let output = server.exec(&["host", "--", "sh", "-c", &script]).await;
        assert_eq!(output.status.code(), Some(1), "{}", stdout(&output));
        let text = stdout(&output) + &stderr(&output);
        assert!(text.contains("(Forbidden): the admin socket is not for commands of sessions"), "{text}");
        assert!(!text.contains("https://"), "{text}");
    }
    let output = run(&mut admin(Path::new(socket), &["link"])).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}
