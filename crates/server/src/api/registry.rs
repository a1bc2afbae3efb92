//! What is known of each running session: for the list that an operator looks at, and for whoever counts.

use super::admission::{Counts, Over, Rules};
use crate::{
    auth::Identity,
    metrics::KINDS,
    pod::PodSnapshot,
    target::{Cause, Given, Order},
};
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};
use wsstream::{Meter, Metered};

/// What a session does. `Display` is the word of the log and of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum SessionKind {
    /// Runs a command.
    Exec,
    /// Joins the streams of the main process.
    Attach,
    /// Forwards to ports.
    PortForward,
    /// Reads a log: any over a WebSocket, over plain HTTP those that are followed.
    Log,
}

impl SessionKind {
    /// As `Display`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Exec => "exec",
            Self::Attach => "attach",
            Self::PortForward => "portforward",
            Self::Log => "log",
        }
    }
}

impl SessionKind {
    /// The verb and the subresource of a pod that it takes.
    pub(super) const fn right(self) -> (&'static str, &'static str) {
        match self {
            Self::Exec => ("create", "exec"),
            Self::Attach => ("create", "attach"),
            Self::PortForward => ("create", "portforward"),
            Self::Log => ("get", "log"),
        }
    }
}

impl fmt::Display for SessionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A running session, as [`Sessions::list`](super::Sessions::list) found it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionInfo {
    /// Counts from 1 since the server was started; the same as in the log.
    pub number: u64,
    /// What it does.
    pub kind: SessionKind,
    /// Who asked for it; empty where nobody was authenticated.
    pub user: String,
    /// The groups of that user.
    pub groups: Vec<String>,
    /// The address it came from, `-` when the router was not told.
    pub peer: String,
    /// Of the pod.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// The container's name; `-` for port-forward, which reaches the pod as a whole.
    pub container: String,
    /// What carries it and what is spoken, such as `websocket v5.channel.k8s.io`.
    pub protocol: String,
    /// When it began.
    pub since: Timestamp,
    /// How long ago that was, by a clock that does not jump.
    pub duration: Duration,
    /// What went over it so far.
    pub bytes: Metered,
    /// It was asked to end and has not yet.
    pub ending: bool,
}

/// One running session.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) number: u64,
    pub(crate) kind: SessionKind,
    /// `None` where nobody was authenticated: a router behind another one.
    pub(crate) who: Option<Identity>,
    pub(crate) peer: String,
    pub(crate) snapshot: Arc<PodSnapshot>,
    pub(crate) container: String,
    pub(crate) protocol: Protocol,
    pub(crate) since: Timestamp,
    pub(crate) began: Instant,
    pub(crate) meter: Arc<Meter>,
    pub(crate) order: Arc<Order>,
}

/// How many sessions of each kind run, and what went over all there were: a sum that only grows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Totals {
    running: [u64; 4],
    bytes: [Metered; 4],
}

impl Totals {
    /// The kind, how many of it run, and its bytes.
    pub(crate) fn by_kind(&self) -> impl Iterator<Item = (&'static str, u64, Metered)> {
        let kinds = KINDS.iter().map(|kind| kind.as_str());
        kinds.zip(self.running).zip(self.bytes).map(|((kind, running), bytes)| (kind, running, bytes))
    }
}

fn add(to: &mut Metered, meter: &Meter) {
    let more = meter.read();
    to.input += more.input;
    to.output += more.output;
    to.errors += more.errors;
}

/// What carries a session, and what is spoken over it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Protocol {
    pub(crate) carrier: &'static str,
    /// Empty where the client named none.
    pub(crate) name: String,
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let space = if self.name.is_empty() { "" } else { " " };
        write!(f, "{}{space}{}", self.carrier, self.name)
    }
}

impl Entry {
    pub(crate) fn user(&self) -> &str {
        self.who.as_ref().map_or("", |who| &who.user)
    }

    /// What the limit on sessions of a target counts by.
    pub(super) fn target(&self) -> (String, String, String) {
        (self.snapshot.namespace.clone(), self.snapshot.name.clone(), self.container.clone())
    }

    /// Resolves when a session that was asked to end, with a grace for its command, has not.
    pub(crate) async fn overdue(&self, farewell: Duration) -> &Cause {
        let Given { grace, cause } = self.order.wait().await;
        sleep(grace.saturating_add(farewell)).await;
        cause
    }

    /// The same for a session without a command of its own: there is nothing to wait for, unless the server ends, which
    /// ends what it is joined to.
    pub(crate) async fn detached(&self, farewell: Duration) -> &Cause {
        match &self.order.wait().await.cause {
            Cause::Shutdown => self.overdue(farewell).await,
            cause => cause,
        }
    }

    fn info(&self) -> SessionInfo {
        SessionInfo {
            number: self.number,
            kind: self.kind,
            user: self.user().to_owned(),
            groups: self.who.as_ref().map(|who| who.groups.clone()).unwrap_or_default(),
            peer: self.peer.clone(),
            namespace: self.snapshot.namespace.clone(),
            pod: self.snapshot.name.clone(),
            container: self.container.clone(),
            protocol: self.protocol.to_string(),
            since: self.since,
            duration: self.began.elapsed(),
            bytes: self.meter.read(),
            ending: self.order.given().is_some(),
        }
    }
}

/// All running sessions. Its lock is taken when one begins and when one ends, and by who looks; never for a byte.
#[derive(Debug)]
pub(crate) struct Registry {
    rules: Rules,
    running: Mutex<Running>,
}

#[derive(Debug, Default)]
struct Running {
    entries: BTreeMap<u64, Arc<Entry>>,
    counts: Counts,
    /// What went over the sessions that have ended, by kind.
    finished: [Metered; 4],
    /// For all there are and all that come.
    order: Option<Given>,
}

impl Registry {
    pub(crate) fn new(rules: Rules) -> Self {
        Self { rules, running: Mutex::default() }
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A session begins, unless a limit is against it; when all have been ordered to end it is, too.
    pub(crate) fn add(&self, entry: &Arc<Entry>) -> Result<(), Over> {
        let mut running = self.running();
        let count = running.entries.len();
        running.counts.admit(&self.rules, count, entry)?;
        if let Some(order) = &running.order {
            entry.order.give(order.clone());
        }
        running.entries.insert(entry.number, Arc::clone(entry));
        Ok(())
    }

    /// A watch or a log of this user begins, unless a limit is against it.
    pub(crate) fn add_stream(&self, user: &str) -> Result<(), Over> {
        let mut running = self.running();
        let count = running.entries.len();
        running.counts.admit_stream(&self.rules, count, user)
    }

    /// It has ended.
    pub(crate) fn remove_stream(&self, user: &str) {
        self.running().counts.leave_stream(&self.rules, user);
    }

    /// A session has ended.
    pub(crate) fn remove(&self, entry: &Entry) {
        let mut running = self.running();
        if running.entries.remove(&entry.number).is_some() {
            if let Some(finished) = running.finished.get_mut(entry.kind as usize) {
                add(finished, &entry.meter);
            }
            running.counts.leave(&self.rules, entry);
        }
    }

    /// How many run, and what went over all there were.
    pub(crate) fn totals(&self) -> Totals {
        let running = self.running();
        let mut totals = Totals { running: [0; 4], bytes: running.finished };
        for entry in running.entries.values() {
            if let (Some(count), Some(bytes)) =
                (totals.running.get_mut(entry.kind as usize), totals.bytes.get_mut(entry.kind as usize))
            {
                *count += 1;
                add(bytes, &entry.meter);
            }
        }
        totals
    }

    /// Those that run now, by number.
    pub(crate) fn entries(&self) -> Vec<Arc<Entry>> {
        self.running().entries.values().cloned().collect()
    }

    /// The same, to be shown.
    pub(crate) fn list(&self) -> Vec<SessionInfo> {
        self.entries().iter().map(|entry| entry.info()).collect()
    }

    /// Orders one to end; false: there is none of this number.
    pub(crate) fn end(&self, number: u64, order: Given) -> bool {
        let entry = self.running().entries.get(&number).cloned();
        entry.is_some_and(|entry| {
            entry.order.give(order);
            true
        })
    }

    /// Orders all to end, and those that come.
    pub(crate) fn end_all(&self, order: &Given) {
        let entries: Vec<_> = {
            let mut running = self.running();
            running.order = Some(order.clone());
            running.entries.values().cloned().collect()
        };
        for entry in entries {
            entry.order.give(order.clone());
        }
    }
}

#[cfg(test)]
mod tests;
