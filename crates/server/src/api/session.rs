//! One session from its beginning to its end: its place in the registry, its span, one line in the log when it begins and
//! one when it ends, however it ends.

use super::{
    Api,
    answer::Refusal,
    outcome::{NOT_BEGUN, Outcome, Report},
    peer_of,
    registry::{Entry, Protocol, SessionKind},
    sessions::Sessions,
};
use crate::{
    audit::{Asked, Ended, Started},
    auth,
    net::{Cut, Pace},
    pod::PodSnapshot,
    target::{Cause, Given},
};
use axum::extract::Request;
use jiff::Timestamp;
use std::{pin::Pin, sync::Arc, time::Duration};
use tokio::time::{Instant, sleep};
use tokio_util::task::task_tracker::TaskTrackerToken;
use tracing::{Instrument as _, Span};
use wsstream::proto::{status::Status, text::printable};

/// What a session is about to do.
pub(super) struct Facts<'a> {
    pub(super) kind: SessionKind,
    pub(super) snapshot: &'a Arc<PodSnapshot>,
    /// `-` for port-forward: containers of a pod share its network.
    pub(super) container: &'a str,
    pub(super) protocol: Protocol,
}

/// A session that is let in. Dropped, it is over.
pub(super) struct Session {
    pub(super) entry: Arc<Entry>,
    sessions: Sessions,
    span: Span,
    /// From here on the log has a line of its beginning, and gets one of its end.
    begun: bool,
    /// The same for the record.
    recorded: bool,
    /// That of the connection, for as long as HTTP has it.
    connection: Option<Cut>,
    /// Waited for at shutdown.
    _entered: TaskTrackerToken,
}

impl Session {
    /// Lets a session in, or says why not.
    pub(super) fn begin(api: &Api, facts: Facts<'_>, request: &Request) -> Result<Self, Refusal> {
        let sessions = api.sessions().clone();
        let entered = sessions.enter()?;
        let Facts { kind, snapshot, container, protocol } = facts;
        let entry = Arc::new(Entry {
            number: sessions.number(),
            kind,
            who: request.extensions().get::<auth::Identity>().cloned(),
            peer: peer_of(request),
            snapshot: Arc::clone(snapshot),
            container: container.to_owned(),
            protocol,
            since: Timestamp::now(),
            began: Instant::now(),
            meter: Arc::default(),
            order: Arc::default(),
        });
        if let Err(over) = sessions.registry().add(&entry) {
            sessions.metrics().over(over.limit.flag());
            tracing::info!(
                kind = kind.as_str(),
                user = entry.user(),
                peer = entry.peer,
                limit = over.limit.flag(),
                "session refused"
            );
            return Err(Refusal::from(&over));
        }
        if let (Some(bandwidth), Some(pace)) = (sessions.bandwidth(), request.extensions().get::<Pace>()) {
            pace.set(bandwidth);
        }
        // Of the highest level, so that a line of any level that is asked for says which session it is about. The command is
        // not among the fields: an argv may hold secrets.
        let span = tracing::error_span!(
            "session",
            session = entry.number,
            kind = kind.as_str(),
            namespace = entry.snapshot.namespace,
            pod = entry.snapshot.name,
            container = entry.container,
            user = entry.user(),
            peer = entry.peer,
            protocol = %entry.protocol,
        );
        let connection = request.extensions().get::<Cut>().cloned();
        Ok(Self { entry, sessions, span, begun: false, recorded: false, connection, _entered: entered })
    }

    /// Records that the session starts, where there is a record. Before anything runs.
    pub(super) async fn record(&mut self, asked: Asked<'_>) -> Result<(), Refusal> {
        let Some(audit) = self.sessions.audit() else { return Ok(()) };
        // Also when this is dropped half-way: the line may be written all the same, and one of the end belongs to it.
        self.recorded = true;
        if audit.started(Started { entry: &self.entry, asked }).await {
            return Ok(());
        }
        self.recorded = false;
        Err(Status::service_unavailable(NO_RECORD).into())
    }

    /// Runs the session in a task of its own, until it ends or is cut, which drops it.
    ///
    /// Boxed: a future that is awaited by value lies twice in the one that awaits it, and that one again.
    pub(super) fn spawn<R: Report>(mut self, session: Pin<Box<dyn Future<Output = R> + Send>>) {
        self.start();
        let cut = self.sessions.cut();
        let span = self.span.clone();
        let task = async move {
            let ended = tokio::select! {
                biased;
                () = cut.cancelled() => None,
                report = session => Some(report.outcome(self.entry.kind)),
                () = overdue(&self.entry, &self.sessions) => {
                    // A client that does not read holds what HTTP writes to it, too.
                    if let Some(connection) = &self.connection {
                        connection.cut();
                    }
                    None
                }
            };
            self.finish(ended);
        };
        tokio::spawn(task.instrument(span));
    }

    /// The line of the beginning.
    fn start(&mut self) {
        self.begun = true;
        self.span.in_scope(|| tracing::info!("session started"));
    }

    /// The record's line of the end, once.
    fn recorded(&mut self, outcome: &Outcome) {
        if let (true, Some(audit)) = (std::mem::take(&mut self.recorded), self.sessions.audit()) {
            audit.ended(Ended { entry: &self.entry, outcome });
        }
    }

    /// The line of the end; `None`: it was cut.
    fn finish(mut self, outcome: Option<Outcome>) {
        if let Some(outcome) = outcome {
            self.begun = false;
            self.sessions.metrics().ended(&self.entry, &outcome);
            self.recorded(&outcome);
            let by = self.entry.order.given().map_or("", |given| given.cause.word());
            self.span.in_scope(|| {
                if by.is_empty() {
                    tracing::info!(outcome = outcome.how.as_str(), report = outcome.text, "session ended");
                } else {
                    tracing::info!(
                        outcome = outcome.how.as_str(),
                        by,
                        report = outcome.text,
                        "session ended"
                    );
                }
            });
        }
    }
}

/// What a client is told that may not start a session for want of a record.
const NO_RECORD: &str = "the server cannot write its audit log and starts no session without it";

/// Asks a session to end when it has lasted too long. Resolves when one that was asked to end, by whomever, has had more than
/// enough time for it. A server that ends has its own clock for all of them but logs, which end as soon as it takes no more
/// sessions: otherwise one whose client does not read would keep it from its end.
async fn overdue(entry: &Entry, sessions: &Sessions) {
    let is_log = entry.kind == SessionKind::Log;
    let duration = async {
        match sessions.duration() {
            Some(limit) => {
                sleep(limit).await;
                Given { grace: sessions.end_grace(), cause: Cause::Duration(limit) }
            }
            None => std::future::pending().await,
        }
    };
    let closing = async {
        if !is_log {
            std::future::pending::<()>().await;
        }
        sessions.closing().cancelled().await;
    };
    tokio::select! {
        given = duration => {
            entry.order.give(given);
        }
        () = closing => {
            entry.order.give(Given { grace: Duration::ZERO, cause: Cause::Shutdown });
        }
        _ = entry.order.wait() => {}
    }
    let Given { grace, cause } = entry.order.wait().await;
    match cause {
        Cause::Shutdown if !is_log => std::future::pending().await,
        // The last output, then the status.
        _ => sleep(grace.saturating_add(sessions.farewell().saturating_mul(2))).await,
    }
}

/// Dropped before the end: the server is shutting down, or the session panicked, or its client was gone before it began.
impl Drop for Session {
    fn drop(&mut self) {
        self.sessions.registry().remove(&self.entry);
        if self.begun {
            let reason = self.entry.order.given().map(|given| printable(&given.cause.to_string()));
            self.span.in_scope(|| tracing::warn!(reason, "session cut"));
        }
        let outcome = if self.begun {
            Outcome::lost("cut", "the session was cut")
        } else {
            Outcome::lost(NOT_BEGUN, "the client left before the session began")
        };
        if self.begun {
            self.sessions.metrics().ended(&self.entry, &outcome);
        }
        self.recorded(&outcome);
    }
}
