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
mod tests {
    use super::*;
    use crate::api::admission::Limit;
    use crate::{Limits, Pod, pod::PodSnapshot, rate::Rate};

    fn entry(number: u64) -> Arc<Entry> {
        of("ann", "web", number)
    }

    fn of(user: &str, pod: &str, number: u64) -> Arc<Entry> {
        Arc::new(Entry {
            number,
            kind: SessionKind::Exec,
            who: Some(Identity::new(user).groups(["ops"])),
            peer: "192.0.2.1:5".to_owned(),
            snapshot: Arc::new(PodSnapshot::take(&Pod::new(pod), 1)),
            container: "main".to_owned(),
            protocol: Protocol { carrier: "websocket", name: "v5.channel.k8s.io".to_owned() },
            since: Timestamp::now(),
            began: Instant::now(),
            meter: Arc::default(),
            order: Arc::default(),
        })
    }

    fn by_operator() -> Given {
        Given { grace: Duration::ZERO, cause: Cause::Operator("done".into()) }
    }

    fn registry(change: impl FnOnce(&mut Limits)) -> Registry {
        let mut limits = Limits::default();
        change(&mut limits);
        Registry::new(Rules::new(&limits))
    }

    fn over(registry: &Registry, entry: &Arc<Entry>) -> (Limit, String) {
        let over = registry.add(entry).unwrap_err();
        (over.limit, over.to_string())
    }

    #[tokio::test]
    async fn each_limit_counts_what_it_says_and_gives_back() {
        let all = registry(|limits| limits.sessions = Some(2));
        let (one, two) = (entry(1), entry(2));
        all.add(&one).unwrap();
        all.add(&two).unwrap();
        let text = "too many sessions: the server's limit max-sessions is 2";
        assert_eq!(over(&all, &entry(3)), (Limit::Sessions, text.to_owned()));
        all.remove(&one);
        all.add(&entry(4)).unwrap();

        let users = registry(|limits| limits.sessions_per_user = Some(1));
        let ann = of("ann", "a", 1);
        users.add(&ann).unwrap();
        users.add(&of("bob", "a", 2)).unwrap();
        let text = "too many sessions of user \"ann\": the server's limit max-sessions-per-user is 1";
        assert_eq!(over(&users, &of("ann", "b", 3)), (Limit::PerUser, text.to_owned()));
        // Twice is once.
        users.remove(&ann);
        users.remove(&ann);
        users.add(&of("ann", "b", 4)).unwrap();
        assert_eq!(over(&users, &of("ann", "b", 5)).0, Limit::PerUser);

        let targets = registry(|limits| limits.sessions_per_target = Some(1));
        targets.add(&of("ann", "a", 1)).unwrap();
        targets.add(&of("ann", "b", 2)).unwrap();
        let text = "too many sessions in default/a/main: the server's limit max-sessions-per-target is 1";
        assert_eq!(over(&targets, &of("bob", "a", 3)), (Limit::PerTarget, text.to_owned()));
    }

    #[tokio::test(start_paused = true)]
    async fn new_sessions_have_a_rate_and_the_refusal_says_when_to_come_back() {
        let rate: Rate = "6/m:2".parse().unwrap();
        let registry = registry(|limits| limits.session_rate_per_user = Some(rate));
        for number in 0..2 {
            registry.add(&of("ann", "a", number)).unwrap();
        }
        registry.add(&of("bob", "a", 2)).unwrap();
        let over = registry.add(&entry(3)).unwrap_err();
        let text = "too many new sessions of user \"ann\": the server's limit session-rate-per-user is 6/m:2";
        assert_eq!(over.to_string(), text);
        let status = super::super::answer::Refusal::from(&over).0;
        let seconds = status.details.as_ref().map(|details| details.retry_after_seconds);
        assert_eq!((status.code, status.reason.as_str(), seconds), (429, "TooManyRequests", Some(10)));
        tokio::time::advance(Duration::from_secs(10)).await;
        registry.add(&entry(4)).unwrap();
        registry.add(&entry(5)).unwrap_err();
    }

    #[tokio::test]
    async fn sessions_are_listed_in_order_and_ended_by_number() {
        let registry = registry(|_| {});
        let (one, two) = (entry(1), entry(2));
        registry.add(&two).unwrap();
        registry.add(&one).unwrap();
        one.meter.add_output(7);
        assert!(!registry.end(3, by_operator()));
        assert!(registry.end(2, by_operator()));
        let list = registry.list();
        let shown: Vec<_> = list.iter().map(|info| (info.number, info.bytes.output, info.ending)).collect();
        assert_eq!(shown, [(1, 7, false), (2, 0, true)]);
        assert_eq!((list[0].user.as_str(), &list[0].groups[..]), ("ann", &["ops".to_owned()][..]));
        assert_eq!(list[0].protocol, "websocket v5.channel.k8s.io");
        assert!(matches!(two.detached(Duration::MAX).await, Cause::Operator(why) if why == "done"));
        registry.remove(&one);
        assert_eq!(registry.entries().len(), 1);
    }

    #[tokio::test]
    async fn a_session_that_begins_while_the_server_ends_is_ended_too() {
        let registry = registry(|_| {});
        let early = entry(1);
        registry.add(&early).unwrap();
        let shutdown = Given { grace: Duration::ZERO, cause: Cause::Shutdown };
        registry.end_all(&shutdown);
        let late = entry(2);
        registry.add(&late).unwrap();
        for entry in [early, late] {
            assert_eq!(entry.order.given(), Some(&shutdown));
        }
    }
}
