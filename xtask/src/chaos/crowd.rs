//! What the sweeps over attach, cp, logs and terminals share: many sessions at once, one count, and a last look at what
//! the server holds.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::Result;
use tokio::time::sleep;
use wsstream_testing::chaos::{
    Plan, Proxy, Script, Tally, Verdict,
    oracle::{Claim, FOREIGN, Seen, judge},
    plan::Fault,
};

use super::{
    Budget,
    client::Consumed,
    server::{Place, Reading, Running, Target},
    sockets::join_all,
};

/// How long a server may take to let go of everything: the grace of commands whose client left is 12 s.
const SETTLES: Duration = Duration::from_secs(30);

/// Clocks of a server whose sessions are short: a changed length of a TLS record makes its receiver wait for bytes that
/// never come, which would take a minute and more with those of every day.
pub(super) const BRISK: [&str; 2] = ["--ping-interval=2s", "--dead-peer-timeout=15s"];

/// A server with brisk clocks.
pub(super) async fn brisk(place: &Place, target: Target) -> Result<Running> {
    Running::start_with(place, target, None, &BRISK.map(str::to_owned)).await
}

/// What takes long when it goes wrong, and is left out where time is short: kubectl, which asks again for 40 s, and
/// changed bytes under TLS, which the client may notice by its dead-peer deadline only.
#[derive(Debug, Clone, Copy)]
pub(super) struct Extras {
    pub(super) kubectl: bool,
    pub(super) flips: bool,
}

impl Extras {
    /// Those that the budget allows.
    pub(super) fn of(place: &Place, budget: &Budget) -> Self {
        let flips = budget.time >= Duration::from_secs(60);
        Self { kubectl: flips && place.peers.kubectl().is_ok(), flips }
    }

    /// Changes a byte under TLS instead of cutting, for a third of the seeds.
    pub(super) fn flip(self, plan: &mut Plan, target: Target, seed: u64) {
        if self.flips && target == Target::Tls && seed.is_multiple_of(3) {
            plan.faults.iter_mut().for_each(|(.., fault)| *fault = Fault::Flip(1 << (seed % 8)));
        }
    }
}

/// One session that is over.
#[derive(Debug)]
pub(super) struct Judged {
    pub(super) verdict: Verdict,
    pub(super) bytes: u64,
    /// Somebody else's client.
    pub(super) foreign: bool,
}

/// What a plan can have done to a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fate {
    fired: u32,
    harmless: bool,
    blind: bool,
}

impl Fate {
    /// As the proxy has seen it; `left`: the client went away by itself.
    pub(super) fn of(plan: &Plan, proxy: &Proxy, target: Target, left: bool) -> Self {
        Self {
            fired: proxy.record().fired.max(u32::from(left)),
            harmless: !left && plan.faults.iter().all(|(.., fault)| matches!(fault, Fault::Stall(Some(_)))),
            blind: plan.flips() && target != Target::Tls,
        }
    }

    /// Whether it must be complete.
    pub(super) fn is_calm(self) -> bool {
        self.fired == 0 || self.harmless
    }

    /// Whether a byte was changed that nothing can notice.
    pub(super) fn is_blind(self) -> bool {
        self.blind
    }

    /// Nothing was done to it.
    pub(super) const CALM: Self = Self { fired: 0, harmless: true, blind: false };
}

/// Judges by the script, whose words about the end count; the contents are the checkers'.
pub(super) fn judged(script: &Script, consumed: Consumed, fate: Fate, foreign: bool) -> Judged {
    let (claim, stdout, stderr, wrongs) = consumed;
    let bytes = stdout.seen() + stderr.seen();
    let Fate { fired, harmless, blind } = fate;
    let seen = Seen { claim, fired, harmless, blind, stdout, stderr, wrongs };
    Judged { verdict: judge(script, &seen), bytes, foreign }
}

/// What a session that did not come to an end in time has to say.
pub(super) fn hung(script: &Script) -> Consumed {
    (Claim::Hung, script.checker(1), script.checker(2), Vec::new())
}

/// Counts a session; `story` says how to repeat it.
pub(super) fn count(tally: &mut Tally, session: Result<Judged>, story: impl FnOnce() -> String) {
    match session {
        Ok(Judged { verdict: Verdict::Lie(what), bytes, foreign: true }) => {
            tally.sessions += 1;
            tally.foreign_lies += 1;
            tally.bytes += bytes;
            tally.example(format!("{FOREIGN}{what}\n      {}", story()));
        }
        Ok(Judged { verdict, bytes, .. }) => {
            tally.bytes += bytes;
            tally.count(&verdict, story);
        }
        // The sweep itself is at fault; silence would look like success.
        Err(error) => {
            let verdict = Verdict::Lie(format!("the session could not be run: {error:#}"));
            tally.count(&verdict, story);
        }
    }
}

/// Runs `session` with 0, 1, 2 and so on, `at_once` at a time, until the budget is used up.
pub(super) async fn crowd(budget: &Budget, at_once: usize, session: impl AsyncFn(u64) -> Tally) -> Tally {
    let next = AtomicU64::new(0);
    let begun = AtomicU64::new(0);
    let until = Instant::now() + budget.time;
    let worker = || async {
        let mut tally = Tally::default();
        while Instant::now() < until
            && budget.sessions.is_none_or(|most| begun.load(Ordering::Relaxed) < most)
        {
            let part = {
                begun.fetch_add(1, Ordering::Relaxed);
                session(next.fetch_add(1, Ordering::Relaxed)).await
            };
            // One call may have been several sessions.
            begun.fetch_add(part.sessions.saturating_sub(1), Ordering::Relaxed);
            tally.add(part);
        }
        tally
    };
    let mut tally = Tally::default();
    for part in join_all((0..at_once).map(|_| worker())).await {
        tally.add(part);
    }
    tally
}

/// Waits until the server holds no more than `before` and no connection; what is left over is a leak.
pub(super) async fn settle(server: &Running, before: &Reading, tally: &mut Tally) -> Result<Reading> {
    let since = Instant::now();
    let (after, leaks) = server.settles(before, SETTLES).await?;
    while server.connections() > 0 && since.elapsed() < SETTLES {
        sleep(Duration::from_millis(50)).await;
    }
    let leaks = leaks + server.connections() as u64;
    if leaks > 0 {
        tally.example(format!(
            "{leaks} descriptors, children or connections too many: {before:?} before, {after:?} after"
        ));
    }
    tally.leaks += leaks;
    tally.panics += server.panics();
    Ok(after)
}
