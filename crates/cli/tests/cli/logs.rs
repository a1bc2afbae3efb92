//! `wsstream logs`: what is printed, and that a cut is not taken for the end.

use crate::support::{LIMIT, Server, client, run, stderr, stdout};
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::time::timeout;

#[tokio::test]
async fn the_log_can_be_cut_to_size() {
    let server = Server::start(&["--run", "web=sh -c 'seq 1 20; echo last; exec sleep 1000'"])
        .await
        .started(&["web"])
        .await;
    // The command has just been started: follow it to its last line.
    let mut follow = server.client(&["logs", "-f", "web"]);
    let mut follow = follow.stdout(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !text.ends_with("last\n") {
        let length =
            timeout(LIMIT, follow.stdout.as_mut().unwrap().read(&mut buffer)).await.unwrap().unwrap();
        assert_ne!(length, 0, "{text}");
        text.push_str(std::str::from_utf8(&buffer[..length]).unwrap());
    }
    assert!(text.starts_with("1\n2\n"), "{text}");

    let logs = |arguments: &'static [&str]| {
        let mut command = server.client(&[&["logs"], arguments].concat());
        async move {
            let output = run(&mut command).await;
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            stdout(&output)
        }
    };
    assert_eq!(logs(&["web"]).await, text);
    assert_eq!(logs(&["--tail", "2", "web"]).await, "20\nlast\n");
    assert_eq!(logs(&["--limit-bytes", "4", "web"]).await, "1\n2\n");
    assert_eq!(logs(&["--since", "1h", "pod/web"]).await, text);
    assert_eq!(logs(&["--since-time", "2999-01-01T00:00:00Z", "web"]).await, "");
    let stamped = logs(&["--timestamps", "--tail=1", "web"]).await;
    let (time, line) = stamped.split_once(' ').unwrap();
    assert!(time.starts_with("20") && time.contains('T') && line == "last\n", "{stamped}");
}

/// As `tail -f` does: without waiting for one more line to fail on.
#[tokio::test]
async fn following_ends_with_its_reader() {
    let server =
        Server::start(&["--run", "web=sh -c 'echo only; exec sleep 1000'"]).await.started(&["web"]).await;
    let mut follow = server.client(&["logs", "-f", "web"]);
    let mut follow = follow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = follow.stdout.take().unwrap();
    timeout(LIMIT, reader.read_exact(&mut [0; 5])).await.unwrap().unwrap();
    drop(reader);
    let output = timeout(LIMIT, follow.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(141), ""));
}

#[tokio::test]
async fn following_ends_with_the_process() {
    let server = Server::start(&["--run", "web=sh -c 'echo only; exit 3'"]).await.started(&["web"]).await;
    let output = run(&mut server.client(&["logs", "-f", "web"])).await;
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "only\n"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_refusal_names_the_pod() {
    let server = Server::start(&[]).await;
    let output = run(&mut server.client(&["logs", "nope"])).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        stderr(&output).starts_with("Error from server (NotFound): pods \"nope\" not found\n"),
        "{}",
        stderr(&output)
    );
}

#[tokio::test]
async fn a_log_that_is_cut_is_lost_not_ended() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("k");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"http://{address}\"}}}}]\n\
         users: [{{name: c, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let serve = async {
        let (mut peer, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\n") {
            assert_ne!(peer.read_buf(&mut request).await.unwrap(), 0);
        }
        peer.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n6\r\nline1\n\r\n")
            .await
            .unwrap();
        String::from_utf8(request).unwrap()
    };
    let mut command = client(&kubeconfig, &["logs", "-c", "main", "web"]);
    let (request, output) = tokio::join!(serve, run(&mut command));
    assert!(
        request.starts_with("GET /api/v1/namespaces/default/pods/web/log?container=main&follow=false "),
        "{request}"
    );
    assert_eq!(output.status.code(), Some(254));
    assert_eq!(stdout(&output), "line1\n");
    assert!(
        stderr(&output).starts_with("wsstream: lost: the log ended after 6 bytes: "),
        "{}",
        stderr(&output)
    );
}
