//! What happens when one side dies: the server killed or stopped in the middle, commands ended by signals, processes
//! left behind that hold the pipes, no descriptors left.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;
use tokio::time::sleep;
use wsstream_testing::chaos::{Plan, Tally, script::Input};

use super::{
    Budget,
    client::{Actor, Session},
    server::{Place, Running, Target, puppets},
    sockets::{join_all, one, swarm},
};

/// Sessions on a server that is about to die.
const PER_SERVER: u64 = 6;

/// How long a stopped server may take: its drain is 10 s.
const STOPS: Duration = Duration::from_secs(20);

/// Servers killed with -9 and stopped with SIGTERM, in turn, under sessions of our program and the library.
pub(super) async fn sweep(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let mut tally = Tally::default();
    let until = Instant::now() + budget.time;
    let (mut killed, mut stopped) = (0, 0);
    let mut round = 0;
    while Instant::now() < until && budget.sessions.is_none_or(|most| tally.sessions < most) {
        let base = seed.wrapping_add(round * PER_SERVER);
        let gently = round % 2 == 1;
        let target = if round % 4 < 2 { Target::Plain } else { Target::Tls };
        let mut server = Running::start(place, target, None).await?;
        let sessions: Vec<Session> = (0..PER_SERVER)
            .map(|number| {
                let library = number % 2 == 0 && target == Target::Plain;
                let actor = if library { Actor::Library } else { Actor::Program };
                let mut session = Session::random(actor, base + number, false);
                session.plan = Plan::smooth();
                session.doomed = true;
                session.words = vec![format!("--rest={}", (base + number) % 7 * 60)];
                session
            })
            .collect();
        let moment = Duration::from_millis(base.wrapping_mul(0x9E37_79B9) >> 8 & 0xff);
        let running = join_all(sessions.iter().map(|session| {
            let server = &server;
            async move {
                let mut tally = Tally::default();
                one(place, server, session, &mut tally).await;
                tally
            }
        }));
        let signal = if gently { Signal::TERM } else { Signal::KILL };
        let kill = async {
            sleep(moment).await;
            server.signal(signal)
        };
        let (parts, sent) = tokio::join!(running, kill);
        sent?;
        parts.into_iter().for_each(|part| tally.add(part));
        *(if gently { &mut stopped } else { &mut killed }) += 1;
        if !server.ends(STOPS).await {
            tally.lies += 1;
            tally.example(format!(
                "the server still ran {STOPS:?} after {signal:?}, round {round}, seed {seed}"
            ));
        }
        tally.panics += server.panics();
        round += 1;
    }
    // Commands of a killed server end when their pipes break; those of a stopped one are ended by it.
    let started = Instant::now();
    while puppets(place) > 0 && started.elapsed() < STOPS {
        sleep(Duration::from_millis(100)).await;
    }
    tally.leaks += puppets(place) as u64;
    *note = format!("{killed} servers killed, {stopped} stopped");
    Ok(tally)
}

/// Commands that end by a signal, and commands that leave a process behind which holds their pipes.
pub(super) async fn signals(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let server = Running::start(place, Target::Plain, None).await?;
    let before = server.reading()?;
    let make = |number: u64| {
        let actor = if number.is_multiple_of(4) { Actor::Program } else { Actor::Library };
        let mut session = Session::random(actor, seed.wrapping_add(number), false);
        session.plan = Plan::smooth();
        session.script.departure = wsstream_testing::chaos::script::Departure::None;
        if session.script.input == Input::Echo {
            session.script.stdin = session.script.stdin.min(10_000);
        }
        if number.is_multiple_of(5) {
            // The pipes stay open for 4 s; the grace is 2.
            session.words = vec!["--heir=4".to_owned()];
        } else {
            // Not SIGSEGV and SIGPIPE, which the puppet's runtime takes for itself.
            const ENDS: [u8; 8] = [1, 2, 3, 6, 9, 10, 12, 15];
            let signal = ENDS.into_iter().cycle().nth(usize::try_from(number % 8).unwrap_or(0)).unwrap_or(9);
            session.words = vec![format!("--signal={signal}")];
            session.code = Some(128 + signal);
        }
        session
    };
    let mut tally = swarm(place, &server, budget, 6, make).await;
    let (after, leaks) = server.settles(&before, Duration::from_secs(20)).await?;
    tally.leaks += leaks;
    tally.panics += server.panics();
    *note = format!("{} children left", after.children);
    Ok(tally)
}

/// More sessions at once than the server has descriptors for: each is complete or told that it is not, and afterwards
/// the server serves as before.
pub(super) async fn descriptors(
    place: &Place,
    budget: &Budget,
    seed: u64,
    note: &mut String,
) -> Result<Tally> {
    let server = Running::start(place, Target::Plain, Some(48)).await?;
    let before = server.reading()?;
    let make = |number: u64| {
        let mut session = Session::random(Actor::Library, seed.wrapping_add(number), false);
        session.plan = Plan::smooth();
        session.doomed = true;
        session.words = vec!["--rest=20".to_owned()];
        session
    };
    let mut tally = swarm(place, &server, budget, 24, make).await;
    let reported = tally.reported;
    let (after, leaks) = server.settles(&before, Duration::from_secs(30)).await?;
    // Now nothing stands in the way any more.
    let calm = |number: u64| {
        let mut session = Session::random(Actor::Library, seed.wrapping_add(number), false);
        session.plan = Plan::smooth();
        session
    };
    let few = Budget { time: Duration::from_secs(30), sessions: Some(10) };
    tally.add(swarm(place, &server, &few, 1, calm).await);
    tally.leaks += leaks;
    tally.panics += server.panics();
    *note =
        format!("{reported} refused or lost for want of descriptors; {} held afterwards", after.descriptors);
    Ok(tally)
}
