//! When a session ends before its command does, and by which steps: the client has left, or the server is about to.

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use rustix::process::Signal;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use wsstream::remotecommand::{Disconnect, Failure};

use super::{
    command::{DisconnectPolicy, OnDisconnect},
    descriptor::sleep,
    group::Group,
    order::{Cause, Order},
};

/// Tells a session that it is to end (the server ends, an operator said so, it has lasted too long), and how much time its
/// command has for it.
///
/// A [`Target`](super::Target) that heeds it lets the client have the last output and an honest failure. One that does
/// not is dropped a little later, and its client is told by the server itself.
#[derive(Debug, Clone)]
pub struct Ending(From);

#[derive(Debug, Clone)]
enum From {
    Nobody,
    Server(watch::Receiver<Option<Duration>>),
    Order(Arc<Order>),
}

impl Ending {
    /// Follows a channel: `Some(grace)` asks the sessions to end, with this long between SIGTERM and SIGKILL.
    #[must_use]
    pub fn new(asked: watch::Receiver<Option<Duration>>) -> Self {
        Self(From::Server(asked))
    }

    /// Of one session.
    pub(crate) fn of(order: Arc<Order>) -> Self {
        Self(From::Order(order))
    }

    /// Never asks.
    #[must_use]
    pub fn never() -> Self {
        Self(From::Nobody)
    }

    /// Waits until the session is asked to end, and returns the grace. Cancel-safe; resolves at once afterwards.
    pub async fn requested(&self) -> Duration {
        match &self.0 {
            From::Order(order) => return order.wait().await.grace,
            From::Server(asked) => {
                if let Ok(grace) = asked.clone().wait_for(Option::is_some).await.map(|grace| *grace) {
                    return grace.unwrap_or_default();
                }
            }
            From::Nobody => {}
        }
        std::future::pending().await
    }

    /// What the client is told of a session that was asked to end; `exit` is that of its command.
    #[must_use]
    pub fn failure(&self, exit: Option<u8>) -> Failure {
        let given = if let From::Order(order) = &self.0 { order.given() } else { None };
        given.map_or(&Cause::Shutdown, |given| &given.cause).failure(exit)
    }
}

/// Whose doing an early end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    /// Nobody is there to take a result.
    ClientLeft,
    /// The client is there, and is told.
    ServerEnds,
}

/// What happens to the command first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The terminal is closed under it.
    HangUp,
    /// A signal that it may heed.
    Signal(Signal),
    /// No choice.
    Kill,
}

/// How a session is brought to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) why: Why,
    pub(super) step: Step,
    /// From the step to SIGKILL.
    pub(super) grace: Duration,
}

/// Waits until a session has to end although its command has not.
pub(super) async fn due(
    policy: &DisconnectPolicy,
    tty: bool,
    exited: &CancellationToken,
    disconnect: &Disconnect,
    ending: &Ending,
) -> Plan {
    let left = async {
        disconnect.wait().await;
        let (patience, step) = after_leaving(policy, tty);
        // When the command has exited there is nobody to end: let its last words out.
        let patience = if exited.is_cancelled() { patience.max(policy.finish) } else { patience };
        sleep(patience).await;
        Plan { why: Why::ClientLeft, step, grace: policy.kill }
    };
    let asked = async {
        let grace = ending.requested().await;
        if exited.is_cancelled() {
            // It has ended by itself, and its client is taking the rest.
            std::future::pending::<()>().await;
        }
        // Not hung up: closing the terminal would discard what the client has not been sent.
        let signal = if tty { Signal::HUP } else { Signal::TERM };
        Plan { why: Why::ServerEnds, step: Step::Signal(signal), grace }
    };
    tokio::select! {
        plan = left => plan,
        plan = asked => plan,
    }
}

/// How long a command is let alone once its client has left, and what happens then.
fn after_leaving(policy: &DisconnectPolicy, tty: bool) -> (Duration, Step) {
    // A command with pipes may only have been waiting for the end of its input; a terminal is hung up at once.
    let patience = if tty { Duration::ZERO } else { policy.finish };
    let usual = if tty { Step::HangUp } else { Step::Signal(Signal::TERM) };
    match policy.action {
        OnDisconnect::Auto => (patience, usual),
        OnDisconnect::HangUp if tty => (patience, Step::HangUp),
        OnDisconnect::HangUp => (patience, Step::Signal(Signal::HUP)),
        OnDisconnect::Terminate => (patience, Step::Signal(Signal::TERM)),
        OnDisconnect::Kill => (Duration::ZERO, Step::Kill),
        OnDisconnect::Keep(limit) => (limit.unwrap_or(Duration::MAX), usual),
    }
}

/// Sends the signal of a plan, and SIGKILL after the grace, while the output goes on being relayed; returns what the
/// relay returns.
pub(super) async fn carry_out<T>(
    plan: Plan,
    group: &Group,
    mut relay: Pin<&mut impl Future<Output = T>>,
    mut aside: Pin<&mut impl Future<Output = Infallible>>,
) -> T {
    let started = tokio::time::Instant::now();
    if let Step::Signal(signal) = plan.step {
        tracing::debug!(why = ?plan.why, ?signal, "a command is asked to end");
        group.signal(signal);
        // What is stopped cannot heed a signal.
        group.signal(Signal::CONT);
        let timely = tokio::select! {
            result = &mut relay => Some(result),
            never = &mut aside => match never {},
            () = sleep(plan.grace) => None,
        };
        if let Some(result) = timely {
            // The command has ended; what it left in the background has the rest of the time.
            group.gone(plan.grace.saturating_sub(started.elapsed())).await;
            return result;
        }
    }
    tracing::debug!(why = ?plan.why, "a command is killed");
    group.signal(Signal::KILL);
    tokio::select! {
        result = relay => result,
        never = aside => match never {},
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_policy_has_its_first_step() {
        let (finish, kill) = (Duration::from_secs(2), Duration::from_secs(10));
        let (now, term) = (Duration::ZERO, Step::Signal(Signal::TERM));
        for (action, pipes, terminal) in [
            (OnDisconnect::Auto, (finish, term), (now, Step::HangUp)),
            (OnDisconnect::HangUp, (finish, Step::Signal(Signal::HUP)), (now, Step::HangUp)),
            (OnDisconnect::Terminate, (finish, term), (now, term)),
            (OnDisconnect::Kill, (now, Step::Kill), (now, Step::Kill)),
            (OnDisconnect::Keep(None), (Duration::MAX, term), (Duration::MAX, Step::HangUp)),
            (OnDisconnect::Keep(Some(kill)), (kill, term), (kill, Step::HangUp)),
        ] {
            let policy = DisconnectPolicy { action, finish, kill };
            assert_eq!(after_leaving(&policy, false), pipes, "{action}");
            assert_eq!(after_leaving(&policy, true), terminal, "{action}");
        }
    }

    #[tokio::test]
    async fn an_ending_is_heard_early_and_late_and_never_without_a_sender() {
        let asked = watch::Sender::new(None);
        let ending = Ending::new(asked.subscribe());
        let ask = async {
            asked.send_replace(Some(Duration::from_secs(1)));
        };
        assert_eq!(tokio::join!(ending.requested(), ask).0, Duration::from_secs(1));
        assert_eq!(ending.clone().requested().await, Duration::from_secs(1));
        let orphan = Ending::new(watch::Sender::new(None).subscribe());
        for quiet in [orphan, Ending::never()] {
            tokio::time::timeout(Duration::from_millis(20), quiet.requested()).await.unwrap_err();
        }
    }
}
