//! The table's rows and the one loop that runs them.

use std::{
    future::Future,
    path::PathBuf,
    pin::Pin,
    time::{Duration, Instant},
};

use anyhow::Result;

use super::server::Server;
use crate::report::{Outcome, Totals};

/// The clients' names: a filter that starts with one of them asks for no other.
const GROUPS: &[&str] = &["kubectl", "own", "python", "kube-rs", "go", "crictl", "portforward", "life"];

type Run<C> = Box<dyn for<'a> Fn(&'a C) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>>;

/// One row: a name, a bound on its time, and what to do with the group's context.
pub(super) struct Case<C> {
    name: String,
    limit: Duration,
    run: Run<C>,
}

impl<C: 'static> Case<C> {
    /// A case that must end within a minute.
    pub(super) fn new<F>(name: impl Into<String>, body: F) -> Self
    where
        F: AsyncFn(&C) -> Result<()> + Copy + 'static,
    {
        Self {
            name: name.into(),
            limit: Duration::from_secs(60),
            run: Box::new(move |context| Box::pin(async move { body(context).await })),
        }
    }

    /// What it is called inside its group.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// Another bound on its time.
    pub(super) fn within(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }
}

/// Which cases run, where their results go, and which log explains a failure.
pub(super) struct Runner<'a> {
    totals: &'a mut Totals,
    only: Vec<String>,
    list: bool,
    log: Option<PathBuf>,
}

impl<'a> Runner<'a> {
    pub(super) fn new(totals: &'a mut Totals, only: Vec<String>, list: bool) -> Self {
        Self { totals, only, list, log: None }
    }

    /// Failures from now on print the end of this server's log.
    pub(super) fn show_log_of(&mut self, server: &Server) {
        self.log = Some(server.log().to_path_buf());
    }

    /// Whether a case of that full name is asked for.
    pub(super) fn wants(&self, name: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| name.contains(part.as_str()))
    }

    /// Whether anything in a group may be asked for, so that a client nobody wants is not built.
    pub(super) fn wants_group(&self, group: &str) -> bool {
        self.only.is_empty()
            || self.only.iter().any(|part| {
                // `group/…`, or some part of a case's name that only the group's table can tell.
                part.split_once('/').is_none_or(|(head, _)| {
                    let named = GROUPS.iter().any(|known| head.starts_with(known) || known.starts_with(head));
                    group.contains(head) || !named
                })
            })
    }

    /// The filters, for a client that runs its cases itself.
    pub(super) fn filters(&self) -> &[String] {
        &self.only
    }

    /// True when the names are to be printed and nothing run; prints the name.
    pub(super) fn lists(&self, name: &str) -> bool {
        if self.list {
            println!("{name}");
        }
        self.list
    }

    /// Runs the chosen cases of a group, one after the other.
    pub(super) async fn group<C>(&mut self, group: &str, context: &C, cases: Vec<Case<C>>) {
        for case in cases {
            let name = format!("{group}/{}", case.name);
            if !self.wants(&name) || self.lists(&name) {
                continue;
            }
            let log_from = self.log_length();
            let started = Instant::now();
            let outcome = match tokio::time::timeout(case.limit, (case.run)(context)).await {
                Ok(result) => Outcome::from(result),
                Err(_) => Outcome::Failed(format!("not done after {} s", case.limit.as_secs())),
            };
            self.record(&name, started.elapsed(), outcome, log_from);
        }
    }

    /// Counts a case; a failure also shows what the server logged meanwhile.
    pub(super) fn record(&mut self, name: &str, took: Duration, outcome: Outcome, log_from: u64) {
        let outcome = match outcome {
            Outcome::Failed(why) => Outcome::Failed(format!("{why}\n{}", self.log_since(log_from))),
            other => other,
        };
        self.totals.record(name, took, &outcome);
    }

    /// How long the log is now: a failure prints what came after.
    pub(super) fn log_length(&self) -> u64 {
        self.log.as_ref().and_then(|log| log.metadata().ok()).map_or(0, |file| file.len())
    }

    fn log_since(&self, from: u64) -> String {
        const LINES: usize = 30;
        let Some(log) = &self.log else { return String::new() };
        let Ok(bytes) = std::fs::read(log) else { return format!("(no server log at {})", log.display()) };
        let from = usize::try_from(from).unwrap_or(usize::MAX).min(bytes.len());
        let text = String::from_utf8_lossy(bytes.get(from..).unwrap_or_default()).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LINES)..).unwrap_or_default();
        if tail.is_empty() {
            return "server log: nothing during this case".into();
        }
        format!("server log ({} of {} lines during this case):\n{}", tail.len(), lines.len(), tail.join("\n"))
    }
}
