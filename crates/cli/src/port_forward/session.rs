//! The session with the server: opened at first, opened again when it is lost, and shared by all connections.

use crate::connection::Connection;
use crate::failure::{Failure, chain};
use crate::notice::print_line;
use http::StatusCode;
use kube_client::client::Body;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use wsstream::portforward::client::{self, Attempt, Driver, ErrorReport, Forward};
use wsstream::portforward::{PortStream, SessionEnd};
use wsstream::proto::subprotocol::Encoding;
use wsstream::spdy::OpenError;

/// Between two attempts: at first, and at most. A server that restarts is back within a second or two; one that is gone
/// is not helped by asking more often.
const BACKOFF: [Duration; 2] = [Duration::from_millis(500), Duration::from_secs(10)];

/// How long a server may refuse a new session before that is believed: a pod that is replaced under the same name is
/// away for a while, one that was deleted stays away.
const REFUSALS: Duration = Duration::from_secs(30);

/// How long a new local connection waits for a session.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long the server gets to close its side when we go.
const FAREWELL: Duration = Duration::from_millis(500);

/// What carries a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// The tunnel, then SPDY.
    Auto,
    /// SPDY in a WebSocket.
    Tunnel,
    /// Plain SPDY.
    Spdy,
    /// A session for each connection.
    Channels,
}

/// Gives connections to whoever wants one.
pub(super) struct Sessions {
    server: Server,
    /// Whether a session that has ended is followed by another.
    reconnect: bool,
    /// The one that takes connections. `None` while there is none.
    current: watch::Sender<Option<Forward>>,
}

/// A connection, and what has to live as long as it.
pub(super) struct Connected {
    pub(super) stream: PortStream,
    pub(super) report: ErrorReport,
    pub(super) session: Option<Task>,
}

/// A driver in a task of its own, which ends with this.
#[derive(Debug)]
pub(super) struct Task(JoinHandle<SessionEnd>);

impl Task {
    fn new(driver: Driver) -> Self {
        Self(tokio::spawn(driver))
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a session open.
#[derive(Debug)]
pub(super) struct Keeper {
    /// Of the session that takes connections.
    task: Option<Task>,
    /// When that was opened.
    opened: Instant,
    /// Of sessions that take no more, and carry the connections that they have to their ends.
    leaving: Vec<Task>,
}

impl Sessions {
    /// Opens the first session, which must succeed.
    pub(super) async fn open(
        connection: Connection,
        pod: String,
        transport: Transport,
        reconnect: bool,
    ) -> Result<(Self, Keeper), Failure> {
        let server = Server { connection, pod, transport };
        let mut sessions = Self { server, reconnect, current: watch::Sender::new(None) };
        let mut keeper = Keeper { task: None, opened: Instant::now(), leaving: Vec::new() };
        // Over channels there is one for each connection.
        if transport != Transport::Channels {
            let (forward, driver) = sessions.server.open().await?;
            sessions.current = watch::Sender::new(Some(forward));
            keeper.task = Some(Task::new(driver));
        }
        Ok((sessions, keeper))
    }

    /// A connection to `port` of the pod, in the session that is open or will be.
    pub(super) async fn connect(&self, port: u16) -> Result<Connected, String> {
        let text = |error: client::OpenError| error.to_string();
        if self.server.transport == Transport::Channels {
            let attempt = client::channels([port], Encoding::Binary);
            let (forward, driver) =
                self.server.attempt(&attempt).await.map_err(|refused| refused.failure.to_string())?;
            let session = Some(Task::new(driver));
            let connected = forward.connect(port).await.map_err(text)?;
            return Ok(Connected { stream: connected.stream, report: connected.report, session });
        }
        let mut current = self.current.subscribe();
        loop {
            let there = timeout(PATIENCE, current.wait_for(Option::is_some)).await;
            let forward = there.ok().and_then(Result::ok).and_then(|forward| forward.clone());
            let forward = forward.ok_or("there is no session with the server")?;
            match forward.connect(port).await {
                Ok(client::Connected { stream, report, .. }) => {
                    return Ok(Connected { stream, report, session: None });
                }
                // The server has said so just now, and the keeper is about to open another.
                Err(client::OpenError::Session(OpenError::GoingAway)) if self.reconnect => {
                    drop(forward);
                    let next = timeout(PATIENCE, current.changed()).await;
                    next.ok().and_then(Result::ok).ok_or("there is no session with the server")?;
                }
                Err(error) => return Err(text(error)),
            }
        }
    }

    /// Resolves when the session takes no more connections although it goes on.
    async fn retired(&self) -> SessionEnd {
        let forward = self.current.borrow().clone();
        match forward {
            // Without another to follow it ends when it ends.
            Some(forward) if self.reconnect => forward.disconnected().await,
            _ => std::future::pending().await,
        }
    }
}

impl Keeper {
    /// Opens a session again whenever it is lost, or the server has said GOAWAY. Resolves when that is not wanted or of no
    /// use.
    pub(super) async fn run(&mut self, sessions: &Sessions) -> Failure {
        loop {
            let Some(task) = &mut self.task else {
                // Nothing to keep.
                return std::future::pending().await;
            };
            let end = tokio::select! {
                biased;
                end = &mut task.0 => end,
                end = sessions.retired() => Ok(end),
            };
            self.leaving.retain(|task| !task.0.is_finished());
            self.leaving.extend(self.task.take());
            // With the last handle of it a session that was told to go away ends behind its last connection.
            sessions.current.send_replace(None);
            let pod = &sessions.server.pod;
            let lost = match end {
                Ok(end) if end.is_orderly() => format!("the server has ended the session with pod {pod}"),
                Ok(end) => format!("lost connection to pod {pod}: {end}"),
                Err(error) => format!("lost connection to pod {pod}: {error}"),
            };
            if !sessions.reconnect {
                return Failure::lost(lost);
            }
            print_line(&format!("wsstream: {lost}; connecting again"));
            // One that ends every session at once is not to be asked in a circle.
            sleep_until(self.opened + BACKOFF[0]).await;
            match again(&sessions.server).await {
                Ok((forward, driver)) => {
                    self.task = Some(Task::new(driver));
                    self.opened = Instant::now();
                    sessions.current.send_replace(Some(forward));
                    print_line(&format!("wsstream: connected to pod {} again", sessions.server.pod));
                }
                Err(failure) => return failure,
            }
        }
    }

    /// Ends the session in good order, as far as the server takes part in it.
    pub(super) async fn close(self, sessions: &Sessions) {
        if let (Some(forward), Some(mut task)) = (sessions.current.send_replace(None), self.task) {
            forward.shutdown();
            let _ = timeout(FAREWELL, &mut task.0).await;
        }
    }
}

/// Until there is a session, or the server has refused one for too long.
async fn again(server: &Server) -> Result<(Forward, Driver), Failure> {
    let [mut pause, longest] = BACKOFF;
    let mut refused_since = None;
    loop {
        match server.open_once().await {
            Ok(opened) => return Ok(opened),
            Err(Refused { failure, by_server: false }) => {
                tracing::info!(%failure, "not connected yet");
                refused_since = None;
            }
            Err(Refused { failure, by_server: true }) => {
                let since = *refused_since.get_or_insert_with(Instant::now);
                if since.elapsed() > REFUSALS {
                    return Err(failure);
                }
                tracing::info!(%failure, "refused for now");
            }
        }
        sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}

/// Why there is no session.
struct Refused {
    failure: Failure,
    /// It answered; else it was not reached.
    by_server: bool,
}

struct Server {
    connection: Connection,
    pod: String,
    transport: Transport,
}

impl Server {
    async fn open(&self) -> Result<(Forward, Driver), Failure> {
        self.open_once().await.map_err(|refused| refused.failure)
    }

    /// The tunnel and, where the server does not upgrade to it whatever the reason, SPDY: what it says to that counts.
    async fn open_once(&self) -> Result<(Forward, Driver), Refused> {
        match self.transport {
            Transport::Auto => match self.attempt(&client::tunnel()).await {
                Err(Refused { by_server: true, .. }) => self.attempt(&client::spdy()).await,
                opened => opened,
            },
            Transport::Spdy => self.attempt(&client::spdy()).await,
            Transport::Tunnel | Transport::Channels => self.attempt(&client::tunnel()).await,
        }
    }

    async fn attempt(&self, attempt: &Attempt) -> Result<(Forward, Driver), Refused> {
        let local = |failure| Refused { failure, by_server: false };
        let path = format!("{}/portforward", self.connection.pod_path(&self.pod));
        let not_a_path =
            |error: &dyn std::fmt::Display| local(Failure::usage(format!("{path} is not a path: {error}")));
        let endpoint = path.parse().map_err(|error: http::uri::InvalidUri| not_a_path(&error))?;
        let request = attempt.request(&endpoint).map_err(|error| not_a_path(&error))?;
        let response = self.connection.send(request.map(|()| Body::empty())).await.map_err(local)?;
        if response.status() != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refused { failure: self.connection.refused(response).await, by_server: true });
        }
        attempt.accept(response).await.map_err(|error| Refused {
            by_server: error.is_upgrade_failure(),
            failure: Failure::refused(format!(
                "wsstream: the server does not upgrade as it should: {}",
                chain(&error)
            )),
        })
    }
}
