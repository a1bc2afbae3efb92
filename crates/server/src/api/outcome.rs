//! How a session ended, in the words that the log, the records and the counters share.

use super::registry::SessionKind;
use wsstream::{
    connection::{self, Side},
    portforward,
    proto::text::printable,
    remotecommand::{self, SessionEnd},
    spdy,
};

/// The end of a session, seen from the client: what reached it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum How {
    /// It was told an exit code.
    Exited,
    /// It was told a failure.
    Failed,
    /// In good order, where there is no exit code: attach, port-forward, logs.
    Ended,
    /// It went away before, or the connection broke.
    Lost,
}

impl How {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Exited => "exited",
            Self::Failed => "failed",
            Self::Ended => "ended",
            Self::Lost => "lost",
        }
    }
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) how: How,
    /// Of the command, also where the client has not learnt it.
    pub(crate) exit_code: Option<u8>,
    /// What went wrong, in one word of a short list; empty where nothing did.
    pub(crate) reason: String,
    /// For a person, and printable: it quotes the peer.
    pub(crate) text: String,
    /// What the connection counted, where it is known.
    pub(crate) most_waiting: usize,
    pub(crate) pings_missed: u64,
}

impl Outcome {
    pub(crate) fn lost(reason: &str, text: &str) -> Self {
        Self { how: How::Lost, reason: reason.to_owned(), ..Self::ended(text) }
    }

    fn ended(text: &str) -> Self {
        Self {
            how: How::Ended,
            exit_code: None,
            reason: String::new(),
            text: printable(text),
            most_waiting: 0,
            pings_missed: 0,
        }
    }
}

/// What serving a session returns.
pub(super) trait Report: Send + 'static {
    fn outcome(&self, kind: SessionKind) -> Outcome;
}

impl Report for remotecommand::server::Report {
    fn outcome(&self, kind: SessionKind) -> Outcome {
        let text = printable(&self.to_string());
        let exit_code = match &self.result {
            Some(Ok(code)) if kind == SessionKind::Exec => Some(code.0),
            _ => None,
        };
        let (how, reason) = match (&self.result, &self.end) {
            (None, _) => (How::Lost, NOT_BEGUN.to_owned()),
            // Who detaches has seen what it wanted to see.
            (Some(Ok(_)), Some(end)) if kind == SessionKind::Attach && end.is_orderly() => {
                (How::Ended, String::new())
            }
            (Some(_), end) if !self.delivered() => {
                (How::Lost, end.as_ref().map_or(NOT_BEGUN, loss).to_owned())
            }
            (Some(Ok(_)), end) if kind == SessionKind::Exec => (
                How::Exited,
                end.as_ref().filter(|end| by_peer(end)).map_or("", |_| CLIENT_CLOSED).to_owned(),
            ),
            (Some(Ok(_)), _) => (How::Ended, String::new()),
            (Some(Err(failure)), _) => (How::Failed, failure.as_status().reason.clone()),
        };
        let (most_waiting, pings_missed) = (self.stats.most_waiting, self.stats.pings_missed);
        Outcome { how, exit_code, reason, text, most_waiting, pings_missed }
    }
}

impl Report for portforward::server::Report {
    fn outcome(&self, _kind: SessionKind) -> Outcome {
        let text = self.to_string();
        match &self.end {
            Some(end) if end.is_orderly() => Outcome::ended(&text),
            Some(end) => Outcome::lost(loss(end), &text),
            None => Outcome::lost(NOT_BEGUN, &text),
        }
    }
}

/// Of a log: the bytes that were sent, or what ended it early.
pub(super) struct LogReport(pub(super) Result<u64, (LogEnd, String)>);

/// Whose doing the early end of a log was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogEnd {
    /// The source failed, and the client was told.
    Source,
    /// The client closed in good order.
    Client,
    /// The connection broke.
    Lost(&'static str),
}

impl Report for LogReport {
    fn outcome(&self, _kind: SessionKind) -> Outcome {
        match &self.0 {
            Ok(bytes) => Outcome::ended(&format!("{bytes} bytes, complete")),
            Err((LogEnd::Client, text)) => Outcome::ended(text),
            Err((LogEnd::Lost(reason), text)) => Outcome::lost(reason, text),
            Err((LogEnd::Source, text)) => {
                Outcome { how: How::Failed, reason: "SourceFailed".to_owned(), ..Outcome::ended(text) }
            }
        }
    }
}

pub(super) const NOT_BEGUN: &str = "not_begun";

/// The client said that it was done before the server did: it may not have waited for the end of its command.
const CLIENT_CLOSED: &str = "client_closed";

fn by_peer(end: &SessionEnd) -> bool {
    matches!(
        end,
        SessionEnd::WebSocket(connection::End::Closed { by: Side::Peer, .. })
            | SessionEnd::Spdy(spdy::End::Closed { by: Side::Peer, .. })
    )
}

/// Why a connection was lost, in one word.
fn loss(end: &SessionEnd) -> &'static str {
    match end {
        SessionEnd::WebSocket(connection::End::Lost(loss)) => channel_loss(loss),
        SessionEnd::Spdy(spdy::End::Lost(loss)) => match loss {
            spdy::Loss::Eof => "eof",
            spdy::Loss::Io(..) => "io",
            spdy::Loss::DeadPeer(_) => "dead_peer",
            spdy::Loss::WriteTimeout(_) => "write_timeout",
            spdy::Loss::Idle(_) => "idle",
            spdy::Loss::StuckFrame(_) => "stuck_frame",
            spdy::Loss::Violation(_) => "violation",
            _ => "other",
        },
        end if by_peer(end) => CLIENT_CLOSED,
        _ => "other",
    }
}

pub(super) fn channel_loss(loss: &connection::Loss) -> &'static str {
    match loss {
        connection::Loss::Eof => "eof",
        connection::Loss::Io(..) => "io",
        connection::Loss::DeadPeer(_) => "dead_peer",
        connection::Loss::WriteTimeout(_) => "write_timeout",
        connection::Loss::Idle(_) => "idle",
        connection::Loss::CloseTimeout(_) => "close_timeout",
        connection::Loss::Violation(_) => "violation",
        connection::Loss::NoMemory => "no_memory",
        _ => "other",
    }
}
