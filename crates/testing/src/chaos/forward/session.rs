//! Runs a session of port-forward through the library's own server and client over a wire with a plan.
//!
//! Client, server, drivers and the programs at all ends are tasks of their own, so that a lost wake-up shows as a hang.
//! The clock is meant to be paused.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use wsstream::cri;
use wsstream::portforward::server::{Errors, Options, PortForward, Report};
use wsstream::portforward::{ForwardError, PortStream, RelayOptions, relay};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};
use wsstream::transport::{Io, UnsentProbe};

use super::client::consume;
use super::judge::{Both, Seen, judge};
use super::party::{End, Party, Stay, View};
use super::script::{Conversation, Departure, FIRST_PORT, Forwarding, Mishap, Reach};
use crate::chaos::http::{answer, one_session};
use crate::chaos::link::{Recorder, link};
use crate::chaos::plan::Plan;
use crate::chaos::script::PANIC;
use crate::chaos::session::{
    CLIENT_ENDS, HANDSHAKE, Run, SERVER_ENDS, Setting, is_harmless, panics, settle, watch_panics,
};
use crate::chaos::tls;

/// How often the server of a container runtime is asked whether its sessions have ended.
const ASK: Duration = Duration::from_secs(10);

/// Both ends of every connection, as they are seen: the client's, the target's.
pub type Views = Arc<Vec<[watch::Sender<View>; 2]>>;

/// Nothing was seen of any of them yet.
#[must_use]
pub fn views(script: &Forwarding) -> Views {
    let of = |channel, one: &Conversation| watch::Sender::new(View::new(one.checker(channel)));
    Arc::new(script.connections.iter().map(|one| [of(1, one), of(0, one)]).collect())
}

/// Waits for `work` as long as any program hears something: those that take a few bytes at a time are busy for hours with
/// what has arrived. `None`: for so long nobody did.
pub(super) async fn unless_still<T>(
    mut work: impl Future<Output = T> + Unpin,
    within: Duration,
    views: &Views,
) -> Option<T> {
    let heard = || views.iter().flatten().map(|view| view.borrow().heard.seen()).sum::<u64>();
    loop {
        let before = heard();
        match timeout(within, &mut work).await {
            Ok(done) => return Some(done),
            Err(_) if heard() == before => return None,
            Err(_) => {}
        }
    }
}

/// `Err(None)`: it did not end and was aborted.
async fn finish<T>(
    mut task: JoinHandle<T>,
    within: Duration,
    views: &Views,
) -> Result<T, Option<tokio::task::JoinError>> {
    let Some(done) = unless_still(&mut task, within, views).await else {
        task.abort();
        return Err(None);
    };
    done.map_err(Some)
}

/// What was seen, and the same in words.
#[must_use]
pub fn seen(views: &Views) -> (Vec<Both>, String) {
    let connections: Vec<Both> = views
        .iter()
        .map(|[near, far]| Both { near: near.borrow().clone(), far: far.borrow().clone() })
        .collect();
    let told = connections.iter().map(|both| {
        format!(
            "client {} {:?} {:?}, target {} {:?}",
            both.near.heard, both.near.end, both.near.text, both.far.heard, both.far.end
        )
    });
    let claim = told.collect::<Vec<_>>().join("; ");
    (connections, claim)
}

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
    let views = views(&script);
    let targets = Arc::<Targets>::default();
    let server = tokio::spawn(serve(
        Arc::clone(&script),
        server_io,
        setting,
        recorder.unsent(),
        Arc::clone(&views),
        Arc::clone(&targets),
    ));
    let client = tokio::spawn(consume(
        Arc::clone(&script),
        client_io,
        setting,
        recorder.unsent_by_client(),
        Arc::clone(&views),
    ));

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
    ended("the client", finish(client, CLIENT_ENDS, &views).await);
    ended("the server", finish(server, SERVER_ENDS, &views).await);
    let tasks = std::mem::take(&mut *targets.tasks.lock().unwrap_or_else(PoisonError::into_inner));
    for task in tasks {
        ended("a target", finish(task, SERVER_ENDS, &views).await.map(|()| Vec::new()));
    }
    let record = recorder.record();
    wrongs.extend(settle(&recorder, panicked).await);
    let wires = targets.wires.lock().unwrap_or_else(PoisonError::into_inner);
    let left: usize = wires.iter().map(Recorder::ends).sum();
    if left > 0 {
        wrongs.push(format!("left behind: {left} ends of sockets of targets"));
    }

    let stayed = script.departure == Departure::None;
    let (connections, claim) = seen(&views);
    let bytes = connections.iter().map(|both| both.near.heard.seen() + both.far.heard.seen()).sum();
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

/// Resolves when so much has come there, which may be never.
pub(super) async fn leaves(at: Option<u64>, view: watch::Receiver<View>) {
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
    let session = async |session: PortForward| {
        let mut options = Options::default();
        far.set(&mut options, unsent);
        let forwarder = |port, stream| far.forward(port, stream);
        let _: Report = session.options(options).serve(forwarder).await;
    };
    let accept = |request: &mut _| PortForward::accept(request).map(|session| (session.response(), session));
    let _: Option<()> = one_session(io, accept, session).await;
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
    answer(io, |request| {
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
    async fn forward(&self, port: u16, stream: PortStream) -> Result<(), ForwardError> {
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
                let (stay, stream) = party.talk_through(stream, view).await;
                let (reader, _writer) = stream.split();
                if reader.is_cut() {
                    return Ok(());
                }
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
