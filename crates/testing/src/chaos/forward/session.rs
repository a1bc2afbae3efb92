//! Runs a session of port-forward through the library's own server and client over a wire with a plan.
//!
//! Client, server, drivers and the programs at all ends are tasks of their own, so that a lost wake-up shows as a hang.
//! The clock is meant to be paused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use wsstream::cri;
use wsstream::portforward::client::{self, Attempt, Connected, Forward, Wire};
use wsstream::portforward::server::{Errors, Options, PortForward, Report};
use wsstream::portforward::{ForwardError, PortStream, RelayOptions, relay};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};
use wsstream::transport::{Io, UnsentProbe};

use super::judge::{Both, Seen, judge};
use super::party::{End, Party, Stay, View};
use super::script::{Conversation, Departure, FIRST_PORT, Forwarding, Mishap, Reach};
use crate::chaos::link::{Recorder, link};
use crate::chaos::plan::Plan;
use crate::chaos::script::PANIC;
use crate::chaos::session::{
    CLIENT_ENDS, HANDSHAKE, Run, SERVER_ENDS, Setting, finish, http, is_harmless, panics, settle,
    watch_panics,
};
use crate::chaos::tls;

/// How long a client that has its bytes listens for what the server has to say about the connection.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long a session lives at most when all its connections are over for the client.
const OUTLIVES: Duration = Duration::from_secs(600);

/// How often the server of a container runtime is asked whether its sessions have ended.
const ASK: Duration = Duration::from_secs(10);

/// Both ends of every connection, as they are seen.
type Views = Arc<Vec<[watch::Sender<View>; 2]>>;

/// What the programs behind the ports leave to be looked at.
#[derive(Debug, Default)]
struct Targets {
    tasks: Mutex<Vec<JoinHandle<()>>>,
    wires: Mutex<Vec<Recorder>>,
}

/// Runs `script` over a wire with `plan`. Wants a runtime of one thread, and nothing else running on it.
pub async fn run(script: &Forwarding, plan: &Plan, setting: Setting) -> Run<String> {
    watch_panics();
    let panicked = panics();
    let (client_io, server_io) = link(plan, setting.capacity);
    let recorder = client_io.recorder();
    let script = Arc::new(script.clone());
    let views: Views = Arc::new(
        script
            .connections
            .iter()
            .map(|one| [1, 0].map(|channel| watch::Sender::new(View::new(one.checker(channel)))))
            .collect(),
    );
    let targets = Arc::<Targets>::default();
    let server = tokio::spawn(serve(
        Arc::clone(&script),
        server_io,
        setting,
        recorder.unsent(),
        Arc::clone(&views),
        Arc::clone(&targets),
    ));
    let client = tokio::spawn(consume(Arc::clone(&script), client_io, setting, Arc::clone(&views)));

    let mut wrongs = Vec::new();
    let mut hung = false;
    let mut ended = |who: &str, result: Result<Vec<String>, Option<tokio::task::JoinError>>| match result {
        Ok(more) => {
            hung |= more.iter().any(|what| what.contains("never ended"));
            wrongs.extend(more);
        }
        Err(None) => {
            hung = true;
            wrongs.push(format!("{who} never ended"));
        }
        Err(Some(error)) => wrongs.push(format!("{who} panicked: {error}")),
    };
    ended("the client", finish(client, CLIENT_ENDS).await);
    ended("the server", finish(server, SERVER_ENDS).await);
    let tasks = std::mem::take(&mut *targets.tasks.lock().unwrap_or_else(PoisonError::into_inner));
    for task in tasks {
        ended("a target", finish(task, SERVER_ENDS).await.map(|()| Vec::new()));
    }
    let record = recorder.record();
    wrongs.extend(settle(&recorder, panicked).await);
    let wires = targets.wires.lock().unwrap_or_else(PoisonError::into_inner);
    let left: usize = wires.iter().map(Recorder::ends).sum();
    if left > 0 {
        wrongs.push(format!("left behind: {left} ends of sockets of targets"));
    }

    let stayed = script.departure == Departure::None;
    let connections: Vec<Both> = views
        .iter()
        .map(|[near, far]| Both { near: near.borrow().clone(), far: far.borrow().clone() })
        .collect();
    let bytes = connections.iter().map(|both| both.near.heard.seen() + both.far.heard.seen()).sum();
    let told = connections.iter().map(|both| {
        format!(
            "client {} {:?} {:?}, target {} {:?}",
            both.near.heard, both.near.end, both.near.text, both.far.heard, both.far.end
        )
    });
    let claim = told.collect::<Vec<_>>().join("; ");
    let seen = Seen {
        connections,
        calm: stayed && (record.fired == 0 || is_harmless(plan)),
        // As for commands: SPDY has no answer that a peer owes, so a TLS record that never becomes whole holds a session
        // until the server's idle timeout; a client of port-forward has none.
        blind: plan.flips() && (!setting.tls || (!script.channels() && hung)),
        wrongs,
    };
    Run { verdict: judge(&script, &seen), claim, record, bytes }
}

// ---- the server ----

/// Resolves when the server is to leave, which may be never.
async fn leaves(at: Option<u64>, view: watch::Receiver<View>) {
    let mut view = view;
    match at {
        Some(at) if view.wait_for(|view| view.heard.seen() >= at).await.is_ok() => {}
        _ => std::future::pending().await,
    }
}

async fn serve(
    script: Arc<Forwarding>,
    io: impl Io + 'static,
    setting: Setting,
    unsent: UnsentProbe,
    views: Views,
    targets: Arc<Targets>,
) -> Vec<String> {
    let at = if let Departure::Server(at) = script.departure { Some(at) } else { None };
    let left = leaves(at, views[0][1].subscribe());
    let far = Far { script, views, targets };
    let served = async {
        if setting.tls {
            if let Ok(Ok(io)) = timeout(HANDSHAKE, tls::pair().1.accept(io)).await {
                serve_http(far, io, unsent).await;
            }
        } else {
            serve_http(far, io, unsent).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = left => {}
    }
    Vec::new()
}

async fn serve_http(far: Far, io: impl Io + 'static, unsent: UnsentProbe) {
    if far.script.cri {
        return serve_cri(far, io, unsent).await;
    }
    let (hand_over, taken) = oneshot::channel();
    let mut hand_over = Some(hand_over);
    let http = http(io, move |request| match PortForward::accept(request) {
        Ok(session) => {
            let response = session.response().map(|()| String::new());
            if let Some(hand_over) = hand_over.take() {
                let _ = hand_over.send(session);
            }
            response
        }
        Err(rejection) => rejection.into_response(),
    });
    let session = async {
        let Ok(session) = taken.await else { return };
        let mut options = Options::default();
        far.set(&mut options, unsent);
        let forwarder = |port, stream| far.forward(port, stream);
        let _: Report = session.options(options).serve(forwarder).await;
    };
    tokio::join!(http, session);
}

/// The same through the server that a container runtime embeds.
async fn serve_cri(far: Far, io: impl Io + 'static, unsent: UnsentProbe) {
    let mut config = cri::Config::new("http://localhost/").expect("a URL");
    far.set(&mut config.forward, unsent);
    let ports = (FIRST_PORT..).take(far.script.connections.len()).map(i32::from).collect();
    let server = cri::Server::new(config, far);
    let asked = cri::PortForwardRequest { pod_sandbox_id: "sandbox".to_owned(), port: ports };
    let url = server.get_port_forward(asked).expect("a URL");
    let path = url.trim_start_matches("http://localhost").to_owned();
    http(io, |request| {
        // The client does not know the token beforehand.
        let mut parts = request.uri().clone().into_parts();
        parts.path_and_query = Some(path.parse().expect("a path"));
        *request.uri_mut() = ::http::Uri::from_parts(parts).expect("a URL");
        server.respond(request)
    })
    .await;
    while server.sessions() > 0 {
        sleep(ASK).await;
    }
}

/// The server's side of the connections.
#[derive(Debug)]
struct Far {
    script: Arc<Forwarding>,
    views: Views,
    targets: Arc<Targets>,
}

impl cri::Runtime for Far {
    async fn exec(&self, _: &str, _: Request, _: Streams) -> Result<ExitCode, Failure> {
        Err(Failure::internal("nobody asked for this"))
    }

    async fn attach(&self, _: &str, _: Request, _: Streams) -> Result<(), Failure> {
        Err(Failure::internal("nobody asked for this"))
    }

    async fn forward(&self, _: &str, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        Far::forward(self, port, stream).await
    }
}

impl Far {
    fn set(&self, options: &mut Options, unsent: UnsentProbe) {
        options.unsent_probe = Some(unsent);
        options.errors = if self.script.tells { Errors::Report } else { Errors::Reset };
    }

    /// As `Routes` does it, or a forwarder that works on the stream itself.
    async fn forward(&self, port: u16, mut stream: PortStream) -> Result<(), ForwardError> {
        let index = usize::from(port - FIRST_PORT);
        let one = &self.script.connections[index];
        let view = &self.views[index][1];
        match one.mishap {
            Mishap::Refused => {
                let error = std::io::ErrorKind::ConnectionRefused.into();
                return Err(ForwardError::Connect { target: "nothing".to_owned(), error });
            }
            Mishap::Panics => std::panic::panic_any(PANIC),
            _ => {}
        }
        let party = Party::target(one);
        match &one.far {
            Reach::Direct => {
                let stay = party.talk(&mut stream, view).await;
                let broken = |text: String| ForwardError::Client(std::io::Error::other(text));
                match (stay, view.borrow().end.clone()) {
                    (Stay::Left, _) => Err(ForwardError::Target(std::io::ErrorKind::ConnectionReset.into())),
                    (Stay::Whole, Some(End::Broken(text))) => Err(broken(text)),
                    (Stay::Whole, _) if !view.borrow().closing => Err(broken("it takes nothing".to_owned())),
                    (Stay::Whole, _) => Ok(()),
                }
            }
            Reach::Relay(plan, capacity) => {
                // As `relay_tcp`: unless all was handed on with its end, the socket is reset.
                let (socket, target) = link(plan, *capacity);
                let (socket, mut target) = (socket.aborting(), target.aborting());
                let wire = socket.recorder();
                self.targets.wires.lock().unwrap_or_else(PoisonError::into_inner).push(wire);
                let views = Arc::clone(&self.views);
                let task = tokio::spawn(async move {
                    party.talk(&mut target, &views[index][1]).await;
                });
                self.targets.tasks.lock().unwrap_or_else(PoisonError::into_inner).push(task);
                relay(stream, socket, &RelayOptions::default()).await.map(drop)
            }
        }
    }
}

// ---- the client ----

async fn consume(
    script: Arc<Forwarding>,
    io: impl Io + 'static,
    setting: Setting,
    views: Views,
) -> Vec<String> {
    if setting.tls {
        match timeout(HANDSHAKE, tls::pair().0.connect(tls::name(), io)).await {
            Ok(Ok(io)) => consume_http(script, io, views).await,
            _ => Vec::new(),
        }
    } else {
        consume_http(script, io, views).await
    }
}

fn attempt(script: &Forwarding) -> Attempt {
    let ports = (FIRST_PORT..).take(script.connections.len());
    match script.wire {
        Wire::Spdy => client::spdy(),
        Wire::Channels(encoding) => client::channels(ports, encoding),
        _ => client::tunnel(),
    }
}

async fn consume_http(script: Arc<Forwarding>, io: impl Io + 'static, views: Views) -> Vec<String> {
    let attempt = attempt(&script);
    let endpoint = ::http::Uri::from_static("http://localhost/api/v1/namespaces/default/pods/p/portforward");
    let request = attempt.request(&endpoint).expect("a URL");
    let (session, driver) = match timeout(HANDSHAKE, attempt.connect(io, request)).await {
        Ok(Ok(opened)) => opened,
        // Refused, lost or silent: no connection, and nobody was told that there is one.
        Ok(Err(_)) | Err(_) => return Vec::new(),
    };
    let mut driver = tokio::spawn(driver);
    let at = if let Departure::Client(at) = script.departure { Some(at) } else { None };
    let conversation = async {
        let mut tasks: Vec<_> = (0..script.connections.len())
            .map(|index| {
                let (script, views, session) = (Arc::clone(&script), Arc::clone(&views), session.clone());
                Owned(tokio::spawn(async move {
                    near(&script.connections[index], index, &session, &views[index][0]).await;
                }))
            })
            .collect();
        if script.client_counts() {
            join_all(script.connections.iter().zip(views.iter()).map(|(one, [view, _])| served(one, view)))
                .await;
            session.shutdown();
        }
        let mut wrongs = Vec::new();
        for (index, task) in tasks.iter_mut().enumerate() {
            match timeout(CLIENT_ENDS / 2, &mut task.0).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => wrongs.push(format!("connection {index} panicked: {error}")),
                Err(_) => wrongs.push(format!("connection {index} never ended at the client")),
            }
        }
        if script.lives_on() {
            // The client is done with its connections, and cannot know when the programs behind the ports are.
            let over = views.iter().map(|[_, view]| async {
                let _ = timeout(OUTLIVES, view.subscribe().wait_for(|view| view.end.is_some())).await;
            });
            join_all(over).await;
        }
        session.shutdown();
        wrongs
    };
    let mut wrongs = tokio::select! {
        wrongs = conversation => wrongs,
        () = leaves(at, views[0][0].subscribe()) => {
            driver.abort();
            let _ = driver.await;
            return Vec::new();
        }
    };
    drop(session);
    match timeout(CLIENT_ENDS / 4, &mut driver).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => wrongs.push(format!("the client's driver panicked: {error}")),
        Err(_) => {
            driver.abort();
            wrongs.push("the client's driver never ended".to_owned());
        }
    }
    wrongs
}

/// A task that ends with its owner.
struct Owned(JoinHandle<()>);

impl Drop for Owned {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Waits until the client has nothing more to expect of a connection over channels, by its own count.
async fn served(one: &Conversation, view: &watch::Sender<View>) {
    let done = |view: &View| {
        view.end.is_some() || view.text.is_some() || view.silent && view.heard.seen() >= one.down
    };
    let gone = |view: &View| matches!(one.mishap, Mishap::ClientResets(_)) && view.silent;
    let _ = view.subscribe().wait_for(|view| done(view) || gone(view)).await;
}

/// The client's side of one connection.
async fn near(one: &Conversation, index: usize, session: &Forward, view: &watch::Sender<View>) {
    sleep(one.later).await;
    let Connected { stream, mut report, .. } = match session.connect(FIRST_PORT + index as u16).await {
        Ok(connected) => connected,
        Err(error) => {
            view.send_modify(|view| {
                view.end = Some(End::Broken(error.to_string()));
                view.silent = true;
            });
            return;
        }
    };
    let mut told = false;
    {
        let mut talking = std::pin::pin!(converse(one, stream, view));
        loop {
            tokio::select! {
                () = &mut talking => break,
                text = report.wait(), if !told => {
                    told = true;
                    view.send_modify(|view| view.text = text);
                }
            }
        }
    }
    if !told && let Ok(text) = timeout(LAST_WORD, report.wait()).await {
        view.send_modify(|view| view.text = text);
    }
}

async fn converse(one: &Conversation, mut stream: PortStream, view: &watch::Sender<View>) {
    let party = Party::client(one);
    match &one.near {
        // Dropped, it is reset.
        Reach::Direct => drop(party.talk(&mut stream, view).await),
        Reach::Relay(plan, capacity) => {
            // As `wsstream port-forward` does it.
            let (socket, local) = link(plan, *capacity);
            let mut local = local.aborting();
            let program = async {
                party.talk(&mut local, view).await;
                drop(local);
            };
            let options = RelayOptions::default();
            let relaying = relay(stream, socket.aborting(), &options);
            let _ = tokio::join!(program, relaying);
        }
    }
}
