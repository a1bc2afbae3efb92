//! What a server counts, for Prometheus: `docs/metrics.md` lists it, and a test holds the page against this.
//!
//! No label has a value that a client or a user chooses: no user, no pod, no path. Bytes are not counted here but asked of
//! the running sessions when somebody looks, so that a metric costs a byte nothing.

mod collect;

use crate::{
    api::{Api, Entry, How, Limit, Outcome, SessionKind},
    metrics::collect::Collect,
    reload::Stale,
};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge, histogram::Histogram, info::Info},
    registry::{Registry, Unit},
};
use std::{
    fmt,
    sync::{Arc, OnceLock, atomic::Ordering},
};
use tokio::sync::Semaphore;
use wsstream::proto::subprotocol::Subprotocol;

/// The content type of the text that a scrape gets.
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The kinds, in the order of [`SessionKind`].
pub(crate) const KINDS: [SessionKind; 4] =
    [SessionKind::Exec, SessionKind::Attach, SessionKind::PortForward, SessionKind::Log];

/// The counters of one server.
#[derive(Debug)]
pub(crate) struct Metrics {
    sessions: Family<Ending, Counter>,
    lost: Family<Reason, Counter>,
    refused: Family<Reason, Counter>,
    over_limit: Family<Over, Counter>,
    duration: Family<Kind, Histogram, fn() -> Histogram>,
    first_byte: Family<Kind, Histogram, fn() -> Histogram>,
    most_waiting: Gauge,
    pings_missed: Counter,
    connections: Counter,
    handshakes: Family<Reason, Counter>,
    /// Of those that are open: who has places, and how many there are.
    places: OnceLock<(Arc<Semaphore>, usize)>,
    /// Those that are read again when they change.
    files: OnceLock<Vec<Stale>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Ending {
    kind: &'static str,
    protocol: String,
    outcome: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Kind {
    kind: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Over {
    limit: &'static str,
}

/// From a keystroke's answer to a command that thinks for a minute.
fn first_byte() -> Histogram {
    Histogram::new([0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0])
}

/// From a command that does nothing to a shell that is left open for a day.
fn duration() -> Histogram {
    Histogram::new([0.01, 0.1, 0.5, 1.0, 5.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 14400.0, 86400.0])
}

impl Default for Metrics {
    fn default() -> Self {
        let metrics = Self {
            sessions: Family::default(),
            lost: Family::default(),
            refused: Family::default(),
            over_limit: Family::default(),
            duration: Family::new_with_constructor(duration),
            first_byte: Family::new_with_constructor(first_byte),
            most_waiting: Gauge::default(),
            pings_missed: Counter::default(),
            connections: Counter::default(),
            handshakes: Family::default(),
            places: OnceLock::new(),
            files: OnceLock::new(),
        };
        // What has not happened yet is 0 and not absent: an alert on a change needs a value before it.
        for kind in KINDS.map(SessionKind::as_str) {
            drop(metrics.duration.get_or_create(&Kind { kind }));
            drop(metrics.first_byte.get_or_create(&Kind { kind }));
        }
        let ending = Ending {
            kind: SessionKind::Exec.as_str(),
            protocol: format!("websocket {}", Subprotocol::V5.name()),
            outcome: How::Exited.as_str(),
        };
        drop(metrics.sessions.get_or_create(&ending));
        let zero = |family: &Family<Reason, Counter>, reason: &str| {
            drop(family.get_or_create(&Reason { reason: reason.to_owned() }));
        };
        ["eof", "io", "dead_peer", "cut"].iter().for_each(|reason| zero(&metrics.lost, reason));
        let refused = ["unauthorized", "forbidden", "too_many_requests", "unavailable"];
        refused.iter().for_each(|reason| zero(&metrics.refused, reason));
        ["failed", "timeout"].iter().for_each(|reason| zero(&metrics.handshakes, reason));
        for limit in Limit::ALL {
            drop(metrics.over_limit.get_or_create(&Over { limit: limit.flag() }));
        }
        metrics
    }
}

impl Metrics {
    /// A session has ended.
    pub(crate) fn ended(&self, entry: &Entry, outcome: &Outcome) {
        let kind = entry.kind.as_str();
        let ending = Ending { kind, protocol: entry.protocol.to_string(), outcome: outcome.how.as_str() };
        self.sessions.get_or_create(&ending).inc();
        if outcome.how == How::Lost {
            self.lost.get_or_create(&Reason { reason: outcome.reason.clone() }).inc();
        }
        self.duration.get_or_create(&Kind { kind }).observe(entry.began.elapsed().as_secs_f64());
        if let Some(time) = entry.meter.first_output() {
            self.first_byte.get_or_create(&Kind { kind }).observe(time.as_secs_f64());
        }
        let most = i64::try_from(outcome.most_waiting).unwrap_or(i64::MAX);
        self.most_waiting.inner().fetch_max(most, Ordering::Relaxed);
        self.pings_missed.inc_by(outcome.pings_missed);
    }

    /// A request that would have run something was refused with this status code.
    pub(crate) fn refused(&self, code: u16) {
        let reason = match code {
            400 => "bad_request",
            401 => "unauthorized",
            403 => "forbidden",
            404 => "not_found",
            405 => "method_not_allowed",
            421 => "misdirected",
            429 => "too_many_requests",
            503 => "unavailable",
            _ => "other",
        };
        self.refused.get_or_create(&Reason { reason: reason.to_owned() }).inc();
    }

    /// A limit was in the way of a session.
    pub(crate) fn over(&self, limit: &'static str) {
        self.over_limit.get_or_create(&Over { limit }).inc();
    }

    /// A connection was accepted.
    pub(crate) fn connected(&self) {
        self.connections.inc();
    }

    /// A TLS handshake has failed.
    pub(crate) fn handshake_failed(&self, reason: &str) {
        self.handshakes.get_or_create(&Reason { reason: reason.to_owned() }).inc();
    }

    /// Who accepts connections gives each of them one of so many places.
    pub(crate) fn set_places(&self, places: Arc<Semaphore>, count: usize) {
        let _ = self.places.set((places, count));
    }

    /// Whose contents may not be what is in force.
    pub(crate) fn set_files(&self, files: Vec<Stale>) {
        let _ = self.files.set(files);
    }

    fn stale_files(&self) -> Vec<(&'static str, bool)> {
        let files = self.files.get().into_iter().flatten();
        files.map(|(what, stale)| (*what, stale.load(Ordering::Relaxed))).collect()
    }

    fn open_connections(&self) -> u64 {
        self.places.get().map_or(0, |(places, count)| count.saturating_sub(places.available_permits()) as u64)
    }

    /// All of it, as OpenMetrics text.
    ///
    /// # Errors
    /// None that is known of: what is encoded is ours.
    pub(crate) fn text(&self, api: &Api) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry(api))?;
        Ok(text)
    }

    /// Made when somebody asks: all parts are handles.
    fn registry(&self, api: &Api) -> Registry {
        let mut registry = Registry::with_prefix("wsstream");
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("build", "The version of the server", build);
        registry.register(
            "sessions",
            "Sessions that have ended, by kind, protocol and outcome",
            self.sessions.clone(),
        );
        registry.register("sessions_lost", "Sessions that were lost, by the reason", self.lost.clone());
        registry.register(
            "sessions_refused",
            "Requests for a session that were refused, by the reason",
            self.refused.clone(),
        );
        registry.register(
            "sessions_over_limit",
            "Sessions that were refused for a limit, by its flag",
            self.over_limit.clone(),
        );
        let seconds = Unit::Seconds;
        let help = "From the request to the end of a session";
        registry.register_with_unit("session_duration", help, seconds.clone(), self.duration.clone());
        let help = "From the request to the first byte of output, of sessions that have ended and had one";
        registry.register_with_unit("session_first_byte", help, seconds, self.first_byte.clone());
        registry.register_with_unit(
            "receive_queue_highest",
            "The most that ever waited for the readers of one exec or attach that has ended",
            Unit::Bytes,
            self.most_waiting.clone(),
        );
        let help = "Pings that were not answered before the next, of exec and attach that have ended";
        registry.register("pings_missed", help, self.pings_missed.clone());
        registry.register("connections", "Connections that were accepted", self.connections.clone());
        let help = "TLS handshakes that failed, by the reason";
        registry.register("tls_handshake_failures", help, self.handshakes.clone());
        registry.register_collector(Box::new(Collect::new(self.open_connections(), self.stale_files(), api)));
        registry
    }
}
