//! What the client makes of the error stream once a session is over.

use std::{borrow::Cow, fmt};

use serde::de::IgnoredAny;

use super::{EXIT_CODE, ExitCode, FAILURE, NON_ZERO_EXIT_CODE, Status};

/// How much of an undecodable status an error text repeats, in bytes.
const QUOTED: usize = 1024;

/// What the error stream of a finished session says, read by the client when the session is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing arrived on a protocol that always sends a status (v4 and later): the session was cut, and whether
    /// the command succeeded is unknown. Upstream's client takes this for success, which is how truncated
    /// sessions come to exit 0.
    Missing,
    /// Nothing arrived on a protocol that reports only failures (before v4): a clean end, exit code unknown.
    Ended,
    /// The command ran to its end.
    Exited(ExitCode),
    /// The server reports a failure, which need not be the command's.
    Failed(Status),
    /// The server broke the protocol.
    Invalid {
        /// What is wrong, in upstream's words: `error stream protocol error: ...`.
        reason: String,
        /// What arrived, whole.
        raw: Vec<u8>,
    },
}

impl Verdict {
    /// Reads everything that arrived on channel 3, which the caller has bounded.
    ///
    /// `json_status` is [`Subprotocol::json_status`](crate::subprotocol::Subprotocol::json_status). The texts are
    /// those of upstream's client, with one addition: `NonZeroExitCode` with the code 0 is a protocol error,
    /// because a failure never turns into a success here.
    #[must_use]
    pub fn from_channel(raw: &[u8], json_status: bool) -> Self {
        match (raw.is_empty(), json_status) {
            (true, true) => Self::Missing,
            (true, false) => Self::Ended,
            (false, true) => Self::from_json(raw),
            (false, false) => Self::Failed(Status {
                status: FAILURE.to_owned(),
                message: format!("error executing remote command: {}", String::from_utf8_lossy(raw)),
                ..Status::default()
            }),
        }
    }

    fn from_json(raw: &[u8]) -> Self {
        let verdict = match Status::from_json(raw) {
            Err(error) => Err(format!("{error} in {:?}", quoted(raw))),
            Ok(status) if status.is_success() => Ok(Self::Exited(ExitCode::SUCCESS)),
            Ok(status) if !status.is_failure() => Err("unknown error".to_owned()),
            Ok(status) if status.reason == NON_ZERO_EXIT_CODE => exit_code(&status).map(Self::Exited),
            Ok(status) => Ok(Self::Failed(status)),
        };
        verdict.unwrap_or_else(|reason| Self::Invalid {
            reason: format!("error stream protocol error: {reason}"),
            raw: raw.to_vec(),
        })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("the session ended without a status"),
            Self::Ended => f.write_str("the session ended; its protocol reports no exit code"),
            Self::Exited(code) => write!(f, "command terminated with exit code {code}"),
            Self::Failed(status) => f.write_str(&status.message),
            Self::Invalid { reason, .. } => f.write_str(reason),
        }
    }
}

/// Whether `raw` already holds one whole JSON object, so that no further message on channel 3 can matter.
///
/// Cost is linear in `raw`; ask once per message, not per byte.
#[must_use]
pub fn is_complete_json(raw: &[u8]) -> bool {
    // Only an object says by itself where it ends; `1` may still become `12`.
    raw.trim_ascii_start().first() == Some(&b'{')
        && matches!(serde_json::Deserializer::from_slice(raw).into_iter::<IgnoredAny>().next(), Some(Ok(_)))
}

fn exit_code(status: &Status) -> Result<ExitCode, String> {
    let details = status.details.as_ref().ok_or("details must be set")?;
    let cause =
        details.causes.iter().find(|cause| cause.reason == EXIT_CODE).ok_or("no ExitCode cause given")?;
    let digits = !cause.message.is_empty() && cause.message.bytes().all(|b| b.is_ascii_digit());
    match cause.message.parse() {
        Ok(code @ 1..) if digits => Ok(ExitCode(code)),
        _ => Err(format!("invalid exit code value {:?}", cause.message)),
    }
}

fn quoted(raw: &[u8]) -> Cow<'_, str> {
    match raw.get(..QUOTED) {
        Some(head) if raw.len() > QUOTED => (String::from_utf8_lossy(head) + "...").into_owned().into(),
        _ => String::from_utf8_lossy(raw),
    }
}
