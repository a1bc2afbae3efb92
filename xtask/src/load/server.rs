//! The server under load: the real binary with small limits, and what the kernel knows of it.

use std::{
    fs::{self, File},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    time::timeout,
};

use super::limits;

/// How soon it must serve.
const STARTS: Duration = Duration::from_secs(20);

/// A running server with two users and two pods. Dropped, it is killed.
pub(super) struct Server {
    child: Child,
    folder: TempDir,
    pub(super) address: SocketAddr,
}

/// What it holds, in KiB and counts.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) resident: u64,
    /// Ever since it was started.
    pub(super) highest: u64,
    pub(super) descriptors: usize,
}

/// The users' tokens: `first` is who is there before, `second` who comes with all the load.
pub(super) const TOKENS: [&str; 2] = ["first-user-of-the-load", "second-user-of-the-load"];

/// And the pods.
pub(super) const PODS: [&str; 2] = ["steady", "loaded"];

impl Server {
    pub(super) async fn start(binary: &Path) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("wsstream-load-").tempdir()?;
        let tokens = folder.path().join("tokens");
        fs::write(&tokens, TOKENS.join("\n"))?;
        fs::set_permissions(&tokens, fs::Permissions::from_mode(0o600))?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        let mut command = Command::new(binary);
        command.args(["serve", "--listen", "127.0.0.1:0", "--insecure-http", "--admin-socket", "off"]);
        for (flag, value) in [
            ("--kubeconfig", path("kubeconfig")),
            ("--token-file", path("tokens")),
            ("--audit-log", path("audit.log")),
            ("--audit-max-size", "1MiB".to_owned()),
            ("--audit-keep", "2".to_owned()),
            ("--max-connections", limits::CONNECTIONS.to_string()),
            // All of the load comes from one address, and its idle connections are to take all places.
            ("--max-connections-per-address", "off".to_owned()),
            ("--max-sessions", limits::SESSIONS.to_string()),
            ("--max-sessions-per-user", limits::PER_USER.to_string()),
            ("--max-sessions-per-target", limits::PER_TARGET.to_string()),
            ("--session-rate", format!("{}/s:10", limits::RATE)),
            ("--session-rate-per-user", format!("{}/s:10", limits::RATE_PER_USER)),
            ("--session-bandwidth", limits::BANDWIDTH.to_string()),
            ("--max-message", limits::MESSAGE.to_string()),
            ("--max-request-head", limits::HEAD.to_string()),
            ("--request-head-timeout", "1s".to_owned()),
            ("--shared-buffer", "8MiB".to_owned()),
        ] {
            command.arg(flag).arg(value);
        }
        for pod in PODS {
            command.arg("--pod").arg(pod);
        }
        let log = File::create(folder.path().join("log"))?;
        command.env("RUST_LOG", "warn").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.kill_on_drop(true).spawn().context("cannot start the server")?;
        let stdout = child.stdout.take().context("no standard output")?;
        let mut lines = BufReader::new(stdout).lines();
        let line = timeout(STARTS, lines.next_line()).await??.unwrap_or_default();
        let address = line.rsplit("http://").next().unwrap_or_default();
        let address = address.parse().with_context(|| format!("no address in {line:?}"))?;
        // The rest of the banner fits the pipe, and nothing else is printed.
        tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
        Ok(Self { child, folder, address })
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(super) fn reading(&self) -> Result<Reading> {
        let pid = self.child.id().context("the server has ended")?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let field = |name: &str| {
            let line = status.lines().find(|line| line.starts_with(name));
            let number = line.and_then(|line| line.split_whitespace().nth(1));
            number.and_then(|number| number.parse().ok()).with_context(|| format!("no {name} in {status}"))
        };
        let descriptors = fs::read_dir(format!("/proc/{pid}/fd"))?.count();
        Ok(Reading { resident: field("VmRSS:")?, highest: field("VmHWM:")?, descriptors })
    }

    /// As Prometheus would read them.
    pub(super) async fn metrics(&self) -> Result<String> {
        let mut io = TcpStream::connect(self.address).await?;
        let request = format!(
            "GET /metrics HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.address, TOKENS[0]
        );
        io.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        io.read_to_string(&mut text).await?;
        Ok(text)
    }

    /// The head of an upgrade that would run `command`.
    pub(super) fn upgrade(&self, who: usize, pod: &str, command: &[&str], extra: &str, spdy: bool) -> String {
        let query: Vec<_> = command.iter().map(|word| format!("command={word}")).collect();
        let query = format!("{}&stdout=true{extra}", query.join("&"));
        let (method, upgrade) = if spdy {
            ("POST", "Upgrade: SPDY/3.1\r\nX-Stream-Protocol-Version: v4.channel.k8s.io".to_owned())
        } else {
            let websocket = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: \
                             dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: v5.channel.k8s.io";
            ("GET", websocket.to_owned())
        };
        let token = TOKENS.get(who).copied().unwrap_or_default();
        format!(
            "{method} /api/v1/namespaces/default/pods/{pod}/exec?{query} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer \
             {token}\r\nConnection: Upgrade\r\n{upgrade}\r\n\r\n",
            self.address
        )
    }
}

/// Reads the head of an answer.
pub(super) async fn head(io: &mut TcpStream) -> std::io::Result<String> {
    let mut head = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let n = io.read(&mut buffer).await?;
        if n == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        head.extend_from_slice(buffer.get(..n).unwrap_or_default());
        if head.windows(4).any(|end| end == b"\r\n\r\n") {
            return Ok(String::from_utf8_lossy(&head).into_owned());
        }
    }
}
