//! A server with users of every kind, and what shows whether anything ran.

use crate::support::{LIMIT, eventually, read_banner, run, stdout, wsstream};
use crate::wire::{Answer, send};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicU32, Ordering};
use tempfile::TempDir;
use tokio::io::BufReader;
use tokio::process::{Child, ChildStdout};

/// May everything, may look at everything, may nothing; and one whose time is over.
pub(crate) struct Tokens {
    pub(crate) admin: String,
    pub(crate) reader: String,
    pub(crate) nobody: String,
    pub(crate) expired: String,
}

const POLICY: &str = "\
[[rule]]\nusers = [\"admin\", \"expired\"]\nverbs = [\"*\"]\nresources = [\"*\"]\n
[[rule]]\nusers = [\"reader\"]\nread_only = true\n";

pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) tokens: Tokens,
    pub(crate) directory: TempDir,
    pub(crate) child: Child,
    pub(crate) banner: String,
    markers: AtomicU32,
    _output: BufReader<ChildStdout>,
}

/// Makes a user, and yields its token.
async fn user(file: &mut String, name: &str, more: &str) -> String {
    let output = run(wsstream().args(["token", "--user", name])).await;
    let text = stdout(&output);
    let (token, lines) = text.split_once("\n\n").unwrap();
    file.push_str(&format!("{lines}{more}\n"));
    token.to_owned()
}

impl Target {
    /// In plain HTTP, so that what is sent is what arrives.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        Self::start_with(&[&["--insecure-http"], arguments].concat(), "info").await
    }

    pub(crate) async fn start_with(arguments: &[&str], log: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut users = String::new();
        let tokens = Tokens {
            admin: user(&mut users, "admin", "").await,
            reader: user(&mut users, "reader", "").await,
            nobody: user(&mut users, "nobody", "").await,
            expired: user(&mut users, "expired", "expires = 2020-01-01T00:00:00Z").await,
        };
        write_private(&file("users.toml"), &users);
        write_private(&file("policy.toml"), POLICY);
        let mut child = wsstream()
            .args(["serve", "--listen", ":0", "--admin-socket", "off", "--kubeconfig"])
            .arg(file("kubeconfig"))
            .arg("--users")
            .arg(file("users.toml"))
            .arg("--policy")
            .arg(file("policy.toml"))
            .args(["--log", log])
            .args(arguments)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(file("log")).unwrap())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let banner = read_banner(&mut output).await;
        let url = banner.lines().next().unwrap().rsplit("://").next().unwrap();
        let address = url.parse().unwrap();
        Self { address, tokens, directory, child, banner, markers: AtomicU32::new(0), _output: output }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// A file that is not there; a command that ran would have made it.
    pub(crate) fn marker(&self) -> PathBuf {
        let number = self.markers.fetch_add(1, Ordering::Relaxed);
        self.directory.path().join(format!("ran-{number}"))
    }

    /// The request that an attacker would like to have answered, as `token`'s bearer.
    pub(crate) fn exec(&self, token: &str, marker: &Path) -> String {
        let path = format!("{EXEC}?command=touch&command={}&stdout=true", marker.display());
        self.websocket(&path, &format!("Authorization: Bearer {token}\r\n"))
    }

    /// A WebSocket upgrade with further header lines.
    pub(crate) fn websocket(&self, path: &str, more: &str) -> String {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Protocol: v4.channel.k8s.io\r\n{more}\r\n",
            self.address
        )
    }

    pub(crate) async fn send(&self, request: &str) -> Option<Answer> {
        send(self.address, request.as_bytes()).await
    }

    /// The server answers, and runs commands for who may run them.
    pub(crate) async fn goes_on(&mut self) {
        assert!(self.child.try_wait().unwrap().is_none(), "the server has ended: {}", self.log());
        let marker = self.marker();
        let answer = self.send(&self.exec(&self.tokens.admin, &marker)).await.unwrap();
        assert_eq!(answer.code, 101, "{answer:?}");
        eventually("the command of the one who may does not run", || marker.exists()).await;
    }

    /// Nothing that an attacker asked for has run. Commands that were started by now would have had the time that one needs
    /// which is started behind them.
    pub(crate) async fn nothing_ran(&mut self, marker: &Path, what: &str) {
        self.goes_on().await;
        assert!(!marker.exists(), "{what}: it ran");
    }
}

pub(crate) const EXEC: &str = "/api/v1/namespaces/default/pods/host/exec";

pub(crate) fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
}

/// Long enough for what takes the server's own time-outs.
pub(crate) const PATIENCE: std::time::Duration = LIMIT;
