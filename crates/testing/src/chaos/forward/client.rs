//! The client of a session: connects as often as the script says, with a program or a relay at each connection.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use wsstream::portforward::client::{self, Attempt, Connected, Driver, Forward, Wire};
use wsstream::portforward::{PortStream, RelayOptions, relay};
use wsstream::transport::{Io, UnsentProbe};

use super::party::{End, Party, View};
use super::script::{Conversation, Departure, FIRST_PORT, Forwarding, Mishap, Reach};
use super::session::{Views, leaves, unless_still};
use crate::chaos::link::link;
use crate::chaos::session::{CLIENT_ENDS, HANDSHAKE, Setting};
use crate::chaos::tls;

/// How long a client that has its bytes listens for what the server has to say about the connection.
const LAST_WORD: Duration = Duration::from_secs(1);

/// How long a session lives when all its connections are over for the client and nobody hears anything any more.
const OUTLIVES: Duration = Duration::from_secs(600);

/// The client of a session in memory; what else was wrong.
pub(super) async fn consume(
    script: Arc<Forwarding>,
    io: impl Io + 'static,
    setting: Setting,
    unsent: UnsentProbe,
    views: Views,
) -> Vec<String> {
    if setting.tls {
        match timeout(HANDSHAKE, tls::pair().0.connect(tls::name(), io)).await {
            Ok(Ok(io)) => consume_http(script, io, unsent, views).await,
            _ => Vec::new(),
        }
    } else {
        consume_http(script, io, unsent, views).await
    }
}

/// What asks for a session over the script's wire with these ports.
#[must_use]
pub fn attempt(script: &Forwarding, ports: &[u16]) -> Attempt {
    match script.wire {
        Wire::Spdy => client::spdy(),
        Wire::Channels(encoding) => client::channels(ports.iter().copied(), encoding),
        _ => client::tunnel(),
    }
}

async fn consume_http(
    script: Arc<Forwarding>,
    io: impl Io + 'static,
    unsent: UnsentProbe,
    views: Views,
) -> Vec<String> {
    let ports: Vec<u16> = (FIRST_PORT..).take(script.connections.len()).collect();
    let attempt = attempt(&script, &ports).unsent_probe(Some(unsent));
    let endpoint = ::http::Uri::from_static("http://localhost/api/v1/namespaces/default/pods/p/portforward");
    let request = attempt.request(&endpoint).expect("a URL");
    match timeout(HANDSHAKE, attempt.connect(io, request)).await {
        Ok(Ok((session, driver))) => converse(script, views, &ports, session, driver).await,
        // Refused, lost or silent: no connection, and nobody was told that there is one.
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// Has all conversations of the script, each through the port of its place, and ends the session; what was wrong besides.
pub async fn converse(
    script: Arc<Forwarding>,
    views: Views,
    ports: &[u16],
    session: Forward,
    driver: Driver,
) -> Vec<String> {
    let mut driver = Owned(tokio::spawn(driver));
    let at = if let Departure::Client(at) = script.departure { Some(at) } else { None };
    let mut over = false;
    let conversation = async {
        let mut tasks: Vec<_> = ports
            .iter()
            .enumerate()
            .map(|(index, port)| {
                let (script, views, session) = (Arc::clone(&script), Arc::clone(&views), session.clone());
                let port = *port;
                Owned(tokio::spawn(async move {
                    near(&script.connections[index], port, &session, &views[index][0]).await;
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
            match unless_still(&mut task.0, CLIENT_ENDS / 2, &views).await {
                Some(Ok(())) => {}
                Some(Err(error)) => wrongs.push(format!("connection {index} panicked: {error}")),
                None => wrongs.push(format!("connection {index} never ended at the client")),
            }
        }
        if script.lives_on() {
            // The client is done with its connections, and cannot know when the programs behind the ports are. Of those
            // that are broken nothing more is expected.
            let whole = views.iter().filter(|[near, _]| near.borrow().end == Some(End::Clean));
            let mut ends = std::pin::pin!(join_all(whole.map(|[_, view]| async {
                let _ = view.subscribe().wait_for(|view| view.end.is_some()).await;
            })));
            tokio::select! {
                _ = unless_still(&mut ends, OUTLIVES, &views) => {}
                ended = &mut driver.0 => {
                    over = true;
                    wrongs.extend(ended.err().map(|error| format!("the client's driver panicked: {error}")));
                }
            }
        }
        session.shutdown();
        wrongs
    };
    let left = tokio::select! {
        wrongs = conversation => Ok(wrongs),
        () = leaves(at, views[0][0].subscribe()) => Err(()),
    };
    let Ok(mut wrongs) = left else {
        driver.0.abort();
        let _ = (&mut driver.0).await;
        return Vec::new();
    };
    drop(session);
    if !over {
        match timeout(CLIENT_ENDS / 4, &mut driver.0).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => wrongs.push(format!("the client's driver panicked: {error}")),
            Err(_) => wrongs.push("the client's driver never ended".to_owned()),
        }
    }
    wrongs
}

/// A task that ends with its owner.
struct Owned<T>(JoinHandle<T>);

impl<T> Drop for Owned<T> {
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
async fn near(one: &Conversation, port: u16, session: &Forward, view: &watch::Sender<View>) {
    sleep(one.later).await;
    let Connected { stream, mut report, .. } = match session.connect(port).await {
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
        let mut talking = std::pin::pin!(talk(one, stream, view));
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

async fn talk(one: &Conversation, stream: PortStream, view: &watch::Sender<View>) {
    let party = Party::client(one);
    match &one.near {
        // Dropped, it is reset.
        Reach::Direct => drop(party.talk_through(stream, view).await),
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
