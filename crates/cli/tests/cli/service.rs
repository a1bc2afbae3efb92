//! As a service: what the service manager hears, and the sockets that it hands over.

use crate::support::{LIMIT, client, read_banner, run, signal_child, stderr, stdout, wsstream};
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Stdio;
use tokio::io::BufReader;
use tokio::net::UnixDatagram;
use tokio::process::Command;
use tokio::time::timeout;

async fn heard(manager: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = timeout(LIMIT, manager.recv(&mut buffer)).await.expect("the service is silent").unwrap();
    String::from_utf8(buffer[..length].to_vec()).unwrap()
}

/// The next of these words, whatever is said between.
async fn hears(manager: &UnixDatagram, word: &str) -> String {
    loop {
        let text = heard(manager).await;
        if text.contains(word) {
            return text;
        }
    }
}

#[tokio::test]
async fn the_manager_hears_of_ready_sessions_life_and_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let mut child = wsstream()
        .args(["serve", "--listen", ":0", "--kubeconfig"])
        .arg(&kubeconfig)
        .env("NOTIFY_SOCKET", &path)
        .env("WATCHDOG_USEC", "400000")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(heard(&manager).await, "READY=1\n");
    assert!(kubeconfig.exists(), "clients can connect when it says so");
    assert_eq!(heard(&manager).await, "STATUS=serving, 0 sessions\n");
    hears(&manager, "WATCHDOG=1").await;
    hears(&manager, "WATCHDOG=1").await;

    let mut session = client(&kubeconfig, &["exec", "-i", "host", "--", "sh", "-c", "env; cat"]);
    let mut session = session.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    assert_eq!(hears(&manager, "STATUS").await, "STATUS=serving, 1 session\n");
    signal_child(&child, Signal::TERM);
    let stopping = hears(&manager, "STOPPING=1").await;
    assert!(stopping.contains("EXTEND_TIMEOUT_USEC=21000000"), "{stopping}");
    assert_eq!(hears(&manager, "STATUS").await, "STATUS=stopping, 1 session\n");
    drop(session.stdin.take());
    let output = timeout(LIMIT, session.wait_with_output()).await.unwrap().unwrap();
    let environment = stdout(&output);
    assert!(environment.contains("HOME="), "{environment}");
    for name in ["NOTIFY_SOCKET", "WATCHDOG_USEC"] {
        assert!(!environment.contains(name), "a command could speak for the service: {environment}");
    }
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(0));
}

/// `wsstream serve` with `socket` as descriptor 3, as a service manager starts it.
fn with_socket(socket: impl Into<OwnedFd>, name: &str, kubeconfig: &Path, arguments: &str) -> Command {
    let bare = wsstream();
    let mut shell = Command::new("bash");
    shell
        .arg("-c")
        // The process id is that of the program only if the shell becomes it.
        .arg(format!(
            "exec 3<&0 0</dev/null; LISTEN_PID=$$ exec \"$0\" serve --kubeconfig \"$1\" {arguments}"
        ))
        .arg(bare.as_std().get_program())
        .arg(kubeconfig);
    for (key, value) in bare.as_std().get_envs() {
        match value {
            Some(value) => shell.env(key, value),
            None => shell.env_remove(key),
        };
    }
    shell
        .env("LISTEN_FDS", "1")
        .env("LISTEN_FDNAMES", name)
        .stdin(Stdio::from(socket.into()))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    shell
}

#[tokio::test]
async fn a_socket_of_the_manager_is_served_and_is_not_inherited_by_commands() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let mut child = with_socket(socket, "wsstream.socket", &kubeconfig, "").spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let banner = read_banner(&mut output).await;
    assert!(banner.starts_with(&format!("wsstream is serving https://{address}\n")), "{banner}");

    let look = "env; ls -l /proc/self/fd";
    let output = run(&mut client(&kubeconfig, &["exec", "host", "--", "sh", "-c", look])).await;
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(!text.contains("LISTEN_") && !text.contains("socket:"), "{text}");
    signal_child(&child, Signal::TERM);
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(0));
}

/// Beside a unix socket, ports that were handed over had no token that would have let anybody in.
#[tokio::test]
async fn a_handed_over_port_beside_a_unix_socket_was_forgotten() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap();
    let unix = format!("--listen unix:{}/api", directory.path().display());
    let mut child = with_socket(socket, "wsstream.socket", &kubeconfig, &unix).spawn().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let banner = read_banner(&mut output).await;
    assert!(banner.starts_with(&format!("wsstream is serving https://{address}\n")), "{banner}");
    assert!(directory.path().join("api").exists());
    let output = run(&mut client(&kubeconfig, &["exec", "host", "--", "echo", "in"])).await;
    assert_eq!(stdout(&output), "in\n", "{}", stderr(&output));
    signal_child(&child, Signal::TERM);
    assert_eq!(timeout(LIMIT, child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_socket_that_cannot_be_served_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("kubeconfig");
    let unix = UnixListener::bind(directory.path().join("socket")).unwrap();
    let output = run(&mut with_socket(unix, "web", &kubeconfig, "")).await;
    assert_eq!(output.status.code(), Some(252));
    let text = stderr(&output);
    assert!(
        text.contains("descriptor 0 (\"web\")") && text.contains("of another name than `admin`"),
        "{text}"
    );

    // Accept=yes: the connection itself.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let connected = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let output = run(&mut with_socket(connected, "x", &kubeconfig, "")).await;
    assert!(stderr(&output).contains("does not listen"), "{}", stderr(&output));

    // Somebody else opened it; the rules for addresses are the same.
    let open = TcpListener::bind("0.0.0.0:0").unwrap();
    let output = run(&mut with_socket(open, "x", &kubeconfig, "--insecure-http")).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("can be reached from elsewhere"), "{}", stderr(&output));
    assert!(!kubeconfig.exists());
}
