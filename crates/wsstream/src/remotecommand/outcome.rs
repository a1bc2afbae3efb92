//! How a session ended, for the client. There is exactly one outcome, and silence is never success.

use std::fmt;

use wsstream_proto::spdy::GoAwayStatus;
use wsstream_proto::status::{ExitCode, Status, Verdict};
use wsstream_proto::ws::CloseReason;

use crate::connection::{End, Loss, Side, Stats};
use crate::spdy;

/// How a remote command ended.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[must_use = "an outcome may be a failure or a loss"]
pub enum Outcome {
    /// The command ran to its end with this code, and all of its output arrived. For attach, 0 means only that the
    /// session ended in good order.
    Exited(ExitCode),
    /// The server reports a failure, which need not be the command's: it could not be started, for instance. Before v4
    /// a non-zero exit is reported so too, as a text.
    Failed(Box<Status>),
    /// The session ended in good order on a version that reports only failures (before v4): nothing says that the
    /// command succeeded, and nothing that it did not.
    Ended,
    /// The session broke before its end was reported. Whether the command succeeded is unknown.
    Lost(LostSession),
}

/// A session that broke, and how far it had come.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostSession {
    /// What happened.
    pub why: LostWhy,
    /// Bytes of stdout that arrived.
    pub stdout: u64,
    /// Bytes of stderr that arrived.
    pub stderr: u64,
    /// Bytes of stdin that were handed to the wire; how many of them arrived is unknown.
    pub stdin: u64,
}

/// Why a session is lost.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostWhy {
    /// The connection broke.
    Connection(Loss),
    /// The server closed in good order but never said how the command ended. Stock clients take this for success.
    NoStatus(CloseReason),
    /// The server closed with another code than 1000.
    Closed(CloseReason),
    /// This side closed before the end was reported.
    ClosedHere(CloseReason),
    /// The SPDY connection broke before each of the streams had ended.
    Spdy(spdy::Loss),
    /// The server ended the SPDY session in good order but never said how the command ended, or left an output without
    /// an end. Stock clients take this for success.
    NoStatusBeforeGoAway(GoAwayStatus),
    /// What the server said about the end could not be understood.
    BadStatus(String),
}

impl fmt::Display for LostWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connection(loss) => write!(f, "{loss}"),
            Self::NoStatus(reason) => write!(f, "the server closed the session without a status ({reason})"),
            Self::Closed(reason) => write!(f, "the server closed the session: {reason}"),
            Self::ClosedHere(reason) => write!(f, "closed here before the end was reported ({reason})"),
            Self::Spdy(loss) => write!(f, "{loss}"),
            Self::NoStatusBeforeGoAway(status) => {
                write!(f, "the server ended the session without a status (GOAWAY {})", status.0)
            }
            Self::BadStatus(text) => f.write_str(text),
        }
    }
}

impl fmt::Display for LostSession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { why, stdout, stderr, stdin } = self;
        write!(f, "{why}; received {stdout} bytes of stdout and {stderr} of stderr, sent {stdin} of stdin")
    }
}

impl Outcome {
    /// Judges a session by what came on the status channel and how the connection ended.
    ///
    /// A status is believed once it is whole, however the connection ended: everything that the server sent before it
    /// arrived before it.
    pub(super) fn judge(raw: &[u8], json_status: bool, end: &End, stats: &Stats) -> Self {
        let lost = |why| Self::lost(why, stats);
        let in_good_order = matches!(end, End::Closed { by: Side::Peer, reason } if reason.is_normal());
        match Verdict::from_channel(raw, json_status) {
            Verdict::Exited(code) => Self::Exited(code),
            // A text has no end of its own: cut short, it is still a failure.
            Verdict::Failed(status) => Self::Failed(Box::new(status)),
            Verdict::Ended if in_good_order => Self::Ended,
            Verdict::Invalid { reason, .. } if in_good_order => lost(LostWhy::BadStatus(reason)),
            Verdict::Missing | Verdict::Ended | Verdict::Invalid { .. } => lost(match end {
                End::Closed { by: Side::Peer, reason } if reason.is_normal() => {
                    LostWhy::NoStatus(reason.clone())
                }
                End::Closed { by: Side::Peer, reason } => LostWhy::Closed(reason.clone()),
                End::Closed { by: Side::Local, reason } => LostWhy::ClosedHere(reason.clone()),
                End::Lost(loss) => LostWhy::Connection(loss.clone()),
            }),
        }
    }

    /// Judges a SPDY session. `whole`: the error stream and all outputs were ended by the server.
    ///
    /// A failure is believed when it is whole, a code only together with all of the output.
    pub(super) fn judge_spdy(
        raw: &[u8],
        json_status: bool,
        whole: bool,
        end: &spdy::End,
        stats: &Stats,
    ) -> Self {
        match Verdict::from_channel(raw, json_status) {
            Verdict::Exited(code) if whole => Self::Exited(code),
            Verdict::Failed(status) => Self::Failed(Box::new(status)),
            Verdict::Ended if whole => Self::Ended,
            Verdict::Invalid { reason, .. } if whole => Self::lost(LostWhy::BadStatus(reason), stats),
            _ => Self::unsaid(end, stats),
        }
    }

    /// A SPDY session of which nothing says how the command ended.
    pub(super) fn unsaid(end: &spdy::End, stats: &Stats) -> Self {
        let why = match end {
            spdy::End::Closed { status, .. } => LostWhy::NoStatusBeforeGoAway(*status),
            spdy::End::Lost(loss) => LostWhy::Spdy(loss.clone()),
        };
        Self::lost(why, stats)
    }

    fn lost(why: LostWhy, stats: &Stats) -> Self {
        let received = |channel: usize| stats.received.get(channel).copied().unwrap_or(0);
        let stdin = stats.sent.first().copied().unwrap_or(0);
        Self::Lost(LostSession { why, stdout: received(1), stderr: received(2), stdin })
    }

    /// Whether the command is known to have succeeded.
    #[must_use]
    pub fn is_success(&self) -> bool {
        matches!(self, Self::Exited(ExitCode(0)))
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exited(code) => write!(f, "exited with code {code}"),
            Self::Failed(status) => write!(f, "failed: {}", status.message),
            Self::Ended => f.write_str("ended; this version of the protocol carries no exit code"),
            Self::Lost(lost) => write!(f, "lost: {lost}"),
        }
    }
}
