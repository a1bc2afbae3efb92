//! The sweeps over real sockets and processes: many sessions at once against one server, then a look at what it holds.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::time::timeout_at;
use wsstream::Subprotocol;
use wsstream_testing::chaos::{Tally, Verdict, oracle::FOREIGN};

use super::{
    Budget, Sweep, attach,
    client::{Actor, Session},
    copy, cri, forward, kills, kubectl_kills, logs, pauses,
    peers::missing,
    server::{Place, Running, Target, puppets},
    terminal,
};

/// Sessions under way at once: enough to keep two cores busy, few enough that a deadline means something.
pub(super) const AT_ONCE: usize = 8;

/// How long sessions that may have to wait for a deadline are waited for at most when the time is up.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long the server may take to let go of everything: the grace of commands whose client left is 12 s.
pub(super) const SETTLES: Duration = Duration::from_secs(30);

/// Runs the sweep `name`.
pub(super) async fn sweep(name: &str, place: &Place, budget: &Budget, seed: u64) -> Result<Sweep> {
    let started = Instant::now();
    let mut note = String::new();
    let lacks = match name {
        "kubectl" | "kubectl-kills" | "kubectl-spdy" | "kubectl-forward" => place.peers.kubectl().err(),
        "go" | "client-go" | "client-go-spdy" => place.peers.go().err(),
        _ => None,
    };
    if let Some(why) = lacks {
        return Ok(Sweep { note: missing(&why)?, ..Sweep::default() });
    }
    let tally = match name {
        "library" => mixed(place, Target::Plain, Actor::Library, false, budget, seed, &mut note).await?,
        "exec" => mixed(place, Target::Plain, Actor::Program, false, budget, seed, &mut note).await?,
        "exec-tls" => mixed(place, Target::Tls, Actor::Program, false, budget, seed, &mut note).await?,
        "kubectl" => mixed(place, Target::Tls, Actor::Kubectl, false, budget, seed, &mut note).await?,
        "go" => mixed(place, Target::Go, Actor::Library, false, budget, seed, &mut note).await?,
        "client-go" => mixed(place, Target::Plain, Actor::ClientGo, false, budget, seed, &mut note).await?,
        "library-spdy" => mixed(place, Target::Plain, Actor::Library, true, budget, seed, &mut note).await?,
        "exec-spdy" => mixed(place, Target::Tls, Actor::Program, true, budget, seed, &mut note).await?,
        "kubectl-spdy" => mixed(place, Target::Tls, Actor::Kubectl, true, budget, seed, &mut note).await?,
        "client-go-spdy" => {
            mixed(place, Target::Plain, Actor::ClientGo, true, budget, seed, &mut note).await?
        }
        "forward" => forward::sweep(place, false, budget, seed, &mut note).await?,
        "kubectl-forward" => forward::sweep(place, true, budget, seed, &mut note).await?,
        "cri" => cri::sweep(budget, seed, &mut note).await?,
        "kubectl-kills" => kubectl_kills::sweep(place, budget, seed, &mut note).await?,
        "kills" => kills::sweep(place, budget, seed, &mut note).await?,
        "signals" => kills::signals(place, budget, seed, &mut note).await?,
        "descriptors" => kills::descriptors(place, budget, seed, &mut note).await?,
        "attach" => attach::sweep(place, budget, seed, &mut note).await?,
        "cp" => copy::sweep(place, budget, seed, &mut note).await?,
        "logs" => logs::sweep(place, budget, seed, &mut note).await?,
        "tty" => terminal::sweep(place, budget, seed, &mut note).await?,
        "slow" => pauses::slow(place, budget, seed, &mut note).await?,
        "paused" => pauses::paused(place, budget, seed, &mut note).await?,
        other => bail!("there is no sweep {other:?}"),
    };
    Ok(Sweep { tally, note, took: started.elapsed() })
}

/// Random sessions of one client against one server.
async fn mixed(
    place: &Place,
    target: Target,
    actor: Actor,
    spdy: bool,
    budget: &Budget,
    seed: u64,
    note: &mut String,
) -> Result<Tally> {
    let server = Running::start(place, target, None).await?;
    let before = server.reading()?;
    // Over SPDY a changed length of a TLS record holds a session until the idle timeout, in hours.
    let flips = target == Target::Tls && !spdy;
    let make = move |number: u64| {
        let seed = seed.wrapping_add(number);
        let mut session = Session::random(actor, seed, flips && seed.is_multiple_of(3));
        if spdy {
            session.script = session.script.over_spdy();
        }
        if target == Target::Go && !session.script.protocol.json_status() {
            // Where both sides have a status to be judged by.
            session.script.protocol =
                [Subprotocol::V5, Subprotocol::V4][usize::from(seed.is_multiple_of(2))].clone();
        }
        if actor == Actor::Program && seed % 10 == 9 {
            session.kill_after = Some(Duration::from_millis(seed / 10 % 200));
        }
        session
    };
    // Those with a changed byte wait for a deadline, most of them.
    let at_once = if flips { 2 * AT_ONCE } else { AT_ONCE };
    let mut tally = swarm(place, &server, budget, at_once, make).await;
    let (after, leaks) = server.settles(&before, SETTLES).await?;
    let left = puppets(place);
    if target != Target::Go {
        tally.leaks += leaks + left as u64;
        tally.panics += server.panics();
    }
    *note = format!(
        "seeds from {seed}; the server holds {} descriptors (before {}), {} children, {left} commands live, {} KiB \
         (before {})",
        after.descriptors, before.descriptors, after.children, after.resident, before.resident
    );
    Ok(tally)
}

/// Something that is run in crowds.
pub(crate) trait Case {
    /// How to repeat it.
    fn story(&self) -> String;

    /// Whether somebody else's code says how it ended: its lies are counted as foreign.
    fn is_foreign(&self) -> bool;

    /// Whether it may have to wait for a deadline. A changed length of a TLS record is only noticed by the deadlines,
    /// after one minute or two, and how long others' programs wait is their business.
    fn waits(&self) -> bool {
        self.is_foreign()
    }
}

impl Case for Session {
    fn story(&self) -> String {
        Self::story(self)
    }

    fn is_foreign(&self) -> bool {
        self.actor.is_foreign()
    }

    fn waits(&self) -> bool {
        self.plan.flips() || self.is_foreign()
    }
}

/// Runs sessions that `make` makes, `at_once` at a time, until the budget is used up. The lies of others' clients
/// and of Go's server are counted as foreign.
pub(crate) async fn swarm(
    place: &Place,
    server: &Running,
    budget: &Budget,
    at_once: usize,
    make: impl Fn(u64) -> Session,
) -> Tally {
    let foreign = server.target == Target::Go;
    let run = async |session: &Session| session.run(place, server).await;
    swarm_of(budget, at_once, foreign, make, run).await
}

/// The same for whatever can be run; `foreign`: what it runs against is somebody else's.
pub(super) async fn swarm_of<C: Case>(
    budget: &Budget,
    at_once: usize,
    foreign: bool,
    make: impl Fn(u64) -> C,
    run: impl AsyncFn(&C) -> Result<(Verdict, u64)>,
) -> Tally {
    let next = AtomicU64::new(0);
    let abandoned = AtomicU64::new(0);
    let until = Instant::now() + budget.time;
    let patience = PATIENCE.min(budget.time / 3);
    let worker = || async {
        let mut tally = Tally::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if Instant::now() >= until || budget.sessions.is_some_and(|most| number >= most) {
                return tally;
            }
            let case = make(number);
            let running = run(&case);
            let result = if !(foreign || case.waits()) {
                running.await
            } else if let Ok(result) = timeout_at((until + patience).into(), running).await {
                result
            } else {
                abandoned.fetch_add(1, Ordering::Relaxed);
                continue;
            };
            count(&case, foreign, result, &mut tally);
        }
    };
    let mut tally = Tally::default();
    for part in join_all((0..at_once).map(|_| worker())).await {
        tally.add(part);
    }
    let abandoned = abandoned.into_inner();
    if abandoned > 0 {
        println!(
            "  {abandoned} sessions that wait for a deadline were under way when the time was up, and are not counted"
        );
    }
    tally
}

/// Runs one session and counts it.
pub(super) async fn one(place: &Place, server: &Running, session: &Session, tally: &mut Tally) {
    count(session, server.target == Target::Go, session.run(place, server).await, tally);
}

fn count(case: &impl Case, foreign: bool, result: Result<(Verdict, u64)>, tally: &mut Tally) {
    match result {
        Ok((Verdict::Lie(what), bytes)) if foreign || case.is_foreign() => {
            tally.sessions += 1;
            tally.foreign_lies += 1;
            tally.bytes += bytes;
            tally.example(format!("{FOREIGN}{what}\n      {}", case.story()));
        }
        Ok((verdict, bytes)) => {
            tally.bytes += bytes;
            tally.count(&verdict, || case.story());
        }
        Err(error) => {
            // The sweep itself is at fault; silence would look like success.
            let verdict = Verdict::Lie(format!("the session could not be run: {error:#}"));
            tally.count(&verdict, || case.story());
        }
    }
}

/// Polls all of them to their ends.
pub(super) async fn join_all<F: Future>(futures: impl Iterator<Item = F>) -> Vec<F::Output> {
    let mut all: Vec<_> = futures.map(|future| (Some(Box::pin(future)), None)).collect();
    std::future::poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut all {
            if let Some(running) = future {
                match running.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => {
                        *output = Some(value);
                        *future = None;
                    }
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending { std::task::Poll::Pending } else { std::task::Poll::Ready(()) }
    })
    .await;
    all.into_iter().filter_map(|(_, output)| output).collect()
}
