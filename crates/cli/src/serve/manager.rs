//! What a service manager hears from us (sd_notify(3)): that we are ready, how many sessions run, that we stop and how long
//! that may take, and, where it watches, that we are alive.

use sd_notify::NotifyState;
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the number of sessions is told, if it has changed. `systemctl status` is read by people.
const STATUS: Duration = Duration::from_secs(1);

/// Nobody, unless we were started as a service of `Type=notify`.
#[derive(Debug)]
pub(super) struct Manager {
    ticks: Option<Interval>,
    watched: bool,
    phase: &'static str,
    told: Option<usize>,
}

impl Manager {
    /// Looks at the environment. Needs a runtime.
    pub(super) fn of_this_service() -> Self {
        let listens = std::env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty());
        let watchdog = sd_notify::watchdog_enabled().filter(|_| listens);
        // Half the time: one late tick must not end us.
        let period = watchdog.map_or(STATUS, |time| STATUS.min(time / 2)).max(Duration::from_millis(1));
        let ticks = listens.then(|| {
            let mut ticks = interval(period);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            ticks
        });
        Self { ticks, watched: watchdog.is_some(), phase: "starting", told: None }
    }

    /// Clients can connect.
    pub(super) fn ready(&mut self) {
        self.phase("serving");
        self.tell(&[NotifyState::Ready]);
        self.sessions(0);
    }

    /// The word before the number of sessions, from the next beat on.
    pub(super) fn phase(&mut self, phase: &'static str) {
        self.phase = phase;
        self.told = None;
    }

    /// New sessions are refused, and the running ones may end. `limit`: when we have ended at the latest.
    pub(super) fn stopping(&mut self, limit: Duration) {
        self.phase("stopping");
        let limit = u32::try_from(limit.as_micros()).unwrap_or(u32::MAX);
        self.tell(&[NotifyState::Stopping, NotifyState::ExtendTimeoutUsec(limit)]);
    }

    /// Resolves when it is time for [`beat`](Self::beat); never where nobody listens. Cancel-safe.
    pub(super) async fn tick(&mut self) {
        match &mut self.ticks {
            Some(ticks) => _ = ticks.tick().await,
            None => std::future::pending().await,
        }
    }

    /// We are alive, and so many sessions run.
    pub(super) fn beat(&mut self, running: usize) {
        if self.watched {
            self.tell(&[NotifyState::Watchdog]);
        }
        self.sessions(running);
    }

    fn sessions(&mut self, running: usize) {
        if self.told.replace(running) == Some(running) {
            return;
        }
        let plural = if running == 1 { "" } else { "s" };
        self.tell(&[NotifyState::Status(&format!("{}, {running} session{plural}", self.phase))]);
    }

    fn tell(&self, what: &[NotifyState<'_>]) {
        if self.ticks.is_some()
            && let Err(error) = sd_notify::notify(what)
        {
            tracing::warn!(%error, "cannot tell the service manager");
        }
    }
}
