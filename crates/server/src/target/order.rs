//! The order to one session to end: by whom, why, and how much time its command has. Given once; who comes later finds it
//! there.

use std::{fmt, sync::OnceLock, time::Duration};

use tokio::sync::Notify;
use wsstream::{proto::status::Status, remotecommand::Failure};

/// Where a session waits for the order to end.
#[derive(Debug, Default)]
pub(crate) struct Order {
    given: OnceLock<Given>,
    told: Notify,
}

/// An order that was given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Given {
    /// Between SIGTERM and SIGKILL.
    pub(crate) grace: Duration,
    pub(crate) cause: Cause,
}

/// Why a session has to end although nobody in it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The server ends.
    Shutdown,
    /// Somebody who may ended this session, and said why.
    Operator(String),
    /// It has lasted as long as sessions may.
    Duration(Duration),
    /// Whose it is may not have it any more: what has changed.
    Access(String),
}

impl Order {
    /// Gives the order; false: it was given before, and that stands.
    pub(crate) fn give(&self, given: Given) -> bool {
        let first = self.given.set(given).is_ok();
        if first {
            self.told.notify_waiters();
        }
        first
    }

    /// The order, if it was given.
    pub(crate) fn given(&self) -> Option<&Given> {
        self.given.get()
    }

    /// Waits for it. Cancel-safe; resolves at once afterwards.
    pub(crate) async fn wait(&self) -> &Given {
        loop {
            // Made before the look: an order that is given between the two wakes it.
            let told = self.told.notified();
            if let Some(given) = self.given.get() {
                return given;
            }
            told.await;
        }
    }
}

impl Cause {
    /// What the client is told; `exit` is that of a command that was ended for it.
    pub(crate) fn failure(&self, exit: Option<u8>) -> Failure {
        let text = match exit {
            Some(code) => format!("{self}; the command was ended (exit code {code})"),
            None => self.to_string(),
        };
        Failure::status(match self {
            Self::Shutdown => Status::service_unavailable(text),
            // There is no code for it; nobody should take it for a fault of the request or try again at once.
            Self::Operator(_) => Status::failure(410, "Gone", text),
            Self::Duration(_) => Status::failure(504, "Timeout", text),
            Self::Access(_) => Status::failure(403, "Forbidden", text),
        })
    }

    /// For records: one word.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Shutdown => "shutdown",
            Self::Operator(_) => "operator",
            Self::Duration(_) => "duration",
            Self::Access(_) => "access",
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => f.write_str("the server is shutting down"),
            Self::Operator(reason) if reason.is_empty() => {
                f.write_str("an operator of the server closed the session")
            }
            Self::Operator(reason) => write!(f, "an operator of the server closed the session ({reason})"),
            Self::Duration(limit) => {
                write!(f, "the session has lasted {limit:?}, the longest that the server allows")
            }
            Self::Access(why) => write!(f, "the server closed the session: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(reason: &str) -> Given {
        Given { grace: Duration::from_secs(1), cause: Cause::Operator(reason.to_owned()) }
    }

    #[tokio::test]
    async fn the_first_order_stands_and_is_heard_early_and_late() {
        let order = Order::default();
        assert_eq!(order.given(), None);
        let (heard, first) = tokio::join!(order.wait(), async { order.give(given("first")) });
        assert!(first && *heard == given("first"));
        assert!(!order.give(given("second")));
        assert_eq!(*order.wait().await, given("first"));
    }

    #[test]
    fn a_client_reads_whose_doing_it_was() {
        for (cause, code, text) in [
            (Cause::Shutdown, 503, "the server is shutting down; the command was ended (exit code 143)"),
            (
                Cause::Operator("maintenance".into()),
                410,
                "an operator of the server closed the session (maintenance); the command was ended (exit code 143)",
            ),
            (
                Cause::Duration(Duration::from_secs(60)),
                504,
                "the session has lasted 60s, the longest that the server allows; the command was ended (exit code 143)",
            ),
            (
                Cause::Access("user \"ann\" is no longer let in".into()),
                403,
                "the server closed the session: user \"ann\" is no longer let in; the command was ended (exit code 143)",
            ),
        ] {
            let failure = cause.failure(Some(143));
            assert_eq!((failure.as_status().code, failure.as_status().message.as_str()), (code, text));
        }
    }
}
