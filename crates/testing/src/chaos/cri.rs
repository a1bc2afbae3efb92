//! The streaming server that container runtimes embed, on a real socket of this process: for the sweeps over its routes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;
use wsstream::cri::{self, AttachRequest, ExecRequest, PortForwardRequest};
use wsstream::portforward::{ForwardError, PortStream, RelayOptions, relay_tcp};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

use super::http::answer;
use super::script::{PANIC, Script};
use super::session::{Served, command};

static PANICS: AtomicU64 = AtomicU64::new(0);

/// A running server; dropped, its sessions are cut.
#[derive(Debug)]
pub struct Server {
    address: SocketAddr,
    server: cri::Server<Runtime>,
    task: JoinHandle<()>,
}

/// The containers: each plays the script of the session that its name was made for.
#[derive(Debug, Default)]
struct Runtime {
    plays: Mutex<HashMap<String, Play>>,
}

/// What is played for a session, and how far that is.
#[derive(Debug, Clone)]
pub struct Play {
    script: Script,
    served: Arc<Mutex<Served>>,
    state: Arc<watch::Sender<State>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    New,
    Runs,
    Over,
}

impl Server {
    /// Listens on a free port of loopback.
    ///
    /// # Errors
    ///
    /// No port, or no descriptors.
    pub async fn start() -> std::io::Result<Self> {
        watch_panics();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let config = cri::Config::listening_on(address).map_err(std::io::Error::other)?;
        let server = cri::Server::new(config, Runtime::default());
        let answers = server.clone();
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let answers = answers.clone();
                connections.spawn(async move { answer(socket, |request| answers.respond(request)).await });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, server, task })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A path that runs, or attaches to, a command with this script, and the look at it.
    ///
    /// # Errors
    ///
    /// The server gives none out.
    pub fn command(&self, script: &Script, attach: bool) -> Result<(String, Play), cri::Error> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let id = format!("container-{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        let play = Play::new(script);
        self.server.runtime().lock().insert(id.clone(), play.clone());
        let (container_id, stdin) = (id, script.has_stdin());
        let (stdout, stderr, tty) = (true, true, false);
        let url = if attach {
            self.server.get_attach(AttachRequest { container_id, stdin, tty, stdout, stderr })
        } else {
            let cmd = vec!["run".to_owned()];
            self.server.get_exec(ExecRequest { container_id, cmd, tty, stdin, stdout, stderr })
        };
        Ok((self.path(&url?), play))
    }

    /// A path to ports of loopback.
    ///
    /// # Errors
    ///
    /// The server gives none out.
    pub fn forward(&self, ports: &[u16]) -> Result<String, cri::Error> {
        let port = ports.iter().copied().map(i32::from).collect();
        let pod_sandbox_id = "sandbox".to_owned();
        Ok(self.path(&self.server.get_port_forward(PortForwardRequest { pod_sandbox_id, port })?))
    }

    fn path(&self, url: &str) -> String {
        url.split_once(&self.address.to_string()).map_or(url, |(_, path)| path).to_owned()
    }

    /// How many sessions run now.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.server.sessions()
    }

    /// Panics of this process since the first server was started, but those of scripts.
    #[must_use]
    pub fn panics(&self) -> u64 {
        PANICS.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            // Sweeps in memory may run beside, with panics of their own.
            if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
                PANICS.fetch_add(1, Ordering::Relaxed);
            }
            before(info);
        }));
    });
}

impl Runtime {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Play>> {
        self.plays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn play(&self, id: &str, streams: Streams) -> Result<ExitCode, Failure> {
        let play = self.lock().remove(id).ok_or_else(|| Failure::internal("nobody asked for this"))?;
        let _over = Over(Arc::clone(&play.state));
        play.state.send_replace(State::Runs);
        command(play.script.clone(), streams, Arc::clone(&play.served), None).await
    }
}

impl cri::Runtime for Runtime {
    async fn exec(&self, id: &str, _: Request, streams: Streams) -> Result<ExitCode, Failure> {
        self.play(id, streams).await
    }

    async fn attach(&self, id: &str, _: Request, streams: Streams) -> Result<(), Failure> {
        self.play(id, streams).await.map(drop)
    }

    async fn forward(&self, _: &str, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        let mut socket = TcpStream::connect(("127.0.0.1", port))
            .await
            .map_err(|error| ForwardError::Connect { target: format!("port {port}"), error })?;
        relay_tcp(stream, &mut socket, &RelayOptions::default()).await.map(drop)
    }
}

impl Play {
    fn new(script: &Script) -> Self {
        let served = Arc::new(Mutex::new(Served::new(script)));
        Self { script: script.clone(), served, state: Arc::new(watch::Sender::new(State::New)) }
    }

    /// Waits for the end of a command that has begun; what was wrong with it.
    pub async fn wrongs(&self, within: Duration) -> Vec<String> {
        let mut state = self.state.subscribe();
        let over = state.wait_for(|state| *state != State::Runs);
        if !matches!(timeout(within, over).await, Ok(Ok(_))) {
            return vec!["the command never ended".to_owned()];
        }
        self.served.lock().unwrap_or_else(PoisonError::into_inner).wrongs()
    }
}

/// Also where the future of a command is dropped.
struct Over(Arc<watch::Sender<State>>);

impl Drop for Over {
    fn drop(&mut self) {
        self.0.send_replace(State::Over);
    }
}
