//! What an operator asks a server on this machine, over its admin socket: no address, no token, only the right user.

pub(crate) mod drain;
pub(crate) mod kill;
pub(crate) mod link;
pub(crate) mod ps;

use crate::failure::Failure;
use crate::status;
use clap::Args;
use http::{Method, Request};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::rt::TokioIo;
use rustix::process::geteuid;
use serde_json::Value;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;

/// The end of the names of sockets that nobody named.
pub(crate) const SUFFIX: &str = ".admin";

/// How long a server may take to answer a question. What takes longer is stuck.
const ANSWER: Duration = Duration::from_secs(10);

/// Bytes of an answer: room for tens of thousands of sessions.
const LARGEST: usize = 64 << 20;

/// Which server.
#[derive(Debug, Args)]
pub(crate) struct Which {
    /// The admin socket of the server [default: the one below $XDG_RUNTIME_DIR/wsstream or /run/wsstream]
    #[arg(long, value_name = "PATH")]
    admin_socket: Option<PathBuf>,
}

/// Where sockets are that nobody named: of this user's servers, and of the service's.
pub(crate) fn directories() -> Vec<PathBuf> {
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = runtime.filter(|path| path.is_absolute() && path.is_dir()).map(|path| path.join("wsstream"));
    let service = Path::new("/run/wsstream");
    own.into_iter().chain(service.is_dir().then(|| service.to_owned())).collect()
}

/// A server that answered.
#[derive(Debug)]
pub(crate) struct Client {
    path: PathBuf,
}

impl Client {
    /// Finds the server.
    ///
    /// # Errors
    /// None runs, or several do and none was named.
    pub(crate) async fn find(which: &Which) -> Result<Self, Failure> {
        if let Some(path) = &which.admin_socket {
            return match connect(path).await {
                Ok(_) => Ok(Self { path: path.clone() }),
                Err(error) => Err(Failure::local(error)),
            };
        }
        let (mut live, mut refused) = (Vec::new(), Vec::new());
        let directories = directories();
        for directory in &directories {
            for path in sockets(directory, &mut refused) {
                match connect(&path).await {
                    Ok(_) => live.push(path),
                    Err(error) if error.gone() => {}
                    Err(error) => refused.push(error.to_string()),
                }
            }
        }
        let mut live = live.into_iter();
        match (live.next(), live.len()) {
            (Some(path), 0) => Ok(Self { path }),
            (Some(first), _) => {
                let paths: Vec<_> =
                    std::iter::once(first).chain(live).map(|path| path.display().to_string()).collect();
                Err(Failure::usage(format!("several servers run here: {}", paths.join(", ")))
                    .next("name one with --admin-socket PATH"))
            }
            (None, _) if !refused.is_empty() => Err(Failure::local(refused.join("; "))
                .next("the admin socket is for the user that runs the server, and root")),
            (None, _) => {
                let places: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
                let places = if places.is_empty() {
                    "there is neither $XDG_RUNTIME_DIR nor /run/wsstream".to_owned()
                } else {
                    format!("looked in {}", places.join(" and "))
                };
                Err(Failure::local(format!("no server runs here: {places}"))
                    .next("a server elsewhere was started with --admin-socket PATH: name it here as well"))
            }
        }
    }

    /// Asks, and waits for the answer: for at most ten seconds, unless it `may_take` longer.
    pub(crate) async fn ask(&self, method: Method, path: &str, may_take: bool) -> Result<Value, Failure> {
        let failed = |error: &dyn fmt::Display| Failure::local(format!("{}: {error}", self.path.display()));
        let stream = connect(&self.path).await.map_err(Failure::local)?;
        let exchange = async {
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
            let request = Request::builder().method(method).uri(path).header("host", "wsstream");
            let request = request.body(Empty::<Bytes>::new()).map_err(io::Error::other)?;
            let answer = async {
                let answer = sender.send_request(request).await?;
                let code = answer.status();
                Ok::<_, Error>((code, Limited::new(answer.into_body(), LARGEST).collect().await?.to_bytes()))
            };
            tokio::pin!(answer, connection);
            tokio::select! {
                biased;
                answer = &mut answer => answer,
                // With its last byte, which the answer has yet to read, or with an error, which is the answer's too.
                _ = &mut connection => answer.await,
            }
        };
        let (code, body) = if may_take {
            exchange.await
        } else {
            match tokio::time::timeout(ANSWER, exchange).await {
                Ok(answer) => answer,
                Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs()).into()),
            }
        }
        .map_err(|error: Error| failed(&error))?;
        let value: Value = serde_json::from_slice(&body).map_err(|error| failed(&error))?;
        if code.is_success() {
            return Ok(value);
        }
        let word = |key: &str| value.get(key).and_then(Value::as_str).unwrap_or_default();
        Err(Failure::refused(status::line(word("reason"), word("message"))))
    }
}

type Error = Box<dyn std::error::Error + Send + Sync>;

/// Why there is no connection.
#[derive(Debug)]
struct NoServer {
    path: PathBuf,
    error: io::Error,
}

impl NoServer {
    /// Its server has ended.
    fn gone(&self) -> bool {
        matches!(self.error.kind(), io::ErrorKind::ConnectionRefused | io::ErrorKind::NotFound)
    }
}

impl fmt::Display for NoServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.path.display();
        match self.error.kind() {
            io::ErrorKind::NotFound => write!(f, "no server runs here: there is no {path}"),
            io::ErrorKind::ConnectionRefused => {
                write!(f, "no server runs here: the one that made {path} was killed")
            }
            _ => write!(f, "{path}: {}", self.error),
        }
    }
}

/// Connects, if it is the right one that listens: what is said may be secret, and what is answered is believed.
async fn connect(path: &Path) -> Result<UnixStream, NoServer> {
    let connect = async {
        let stream = UnixStream::connect(path).await?;
        let (server, own) = (stream.peer_cred()?.uid(), geteuid().as_raw());
        if server != own && server != 0 && own != 0 {
            return Err(io::Error::other(format!(
                "user {server} listens there, who is neither you nor root"
            )));
        }
        Ok(stream)
    };
    connect.await.map_err(|error| NoServer { path: path.to_owned(), error })
}

fn sockets(directory: &Path, refused: &mut Vec<String>) -> Vec<PathBuf> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                refused.push(format!("{}: {error}", directory.display()));
            }
            return Vec::new();
        }
    };
    let named = |path: &PathBuf| path.to_string_lossy().ends_with(SUFFIX);
    let mut paths: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(named).collect();
    paths.sort();
    paths
}
