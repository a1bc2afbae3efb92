//! `cargo xtask chaos`: the proof that no session is lost silently and none is faked.
//!
//! Each sweep runs many sessions over wires that break where a seed says so and judges what the client was told. A
//! lie by our code is a failure; one by a foreign client stands in a column of its own.

mod attach;
mod client;
mod compare;
mod copy;
mod cri;
mod crowd;
mod forward;
mod kills;
mod kubectl_kills;
mod logs;
mod memory;
mod pauses;
mod peers;
mod pipes;
pub mod puppet;
mod server;
mod sockets;
mod supervised;
mod targets;
mod terminal;
mod words;

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, bail};
use wsstream_testing::chaos::{
    Plan, Tally,
    session::Setting,
    sweep::{Play, Wire, Worker, per_second, random, random_forwarding},
};

use crate::workspace::Workspace;

pub(crate) use client::{Actor, Session};
pub(crate) use server::{Place, Running, Target, puppets};
pub(crate) use sockets::swarm;

/// `cargo xtask chaos`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long all sweeps together may take, about
    #[arg(long, default_value_t = 1.5)]
    minutes: f64,
    /// Where the random numbers start [default: the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Only this sweep; may be repeated. In memory: bytes, frames, tls, framing, random, spdy-bytes, spdy-frames,
    /// spdy-random, forward-bytes, forward-frames, forward-random. On sockets: library, exec, exec-tls, kubectl,
    /// kubectl-kills, go, client-go, kills, signals, descriptors, attach, cp, logs, tty, slow, paused; over SPDY
    /// library-spdy, exec-spdy, kubectl-spdy, client-go-spdy; port-forward forward, kubectl-forward; the routes of a
    /// container runtime's server cri
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// All but this sweep; may be repeated
    #[arg(long, value_name = "NAME", conflicts_with = "only")]
    without: Vec<String>,
    /// Stop each sweep after so many sessions
    #[arg(long, value_name = "N")]
    sessions: Option<u64>,
    /// Instead of the sweeps: the same sessions by our code and by Go's, and the table of docs/reliability.md anew
    #[arg(long, conflicts_with_all = ["only", "replay"])]
    compare: bool,
    /// Run the one random session in memory that belongs to the seed (over SPDY with --only spdy-random, of port-forward
    /// with --only forward-random), and tell all about it
    #[arg(long, requires = "seed")]
    replay: bool,
    /// Use the debug builds: slower to run, faster to build
    #[arg(long)]
    debug: bool,
}

/// What one sweep may use.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Time of the real clock.
    pub(crate) time: Duration,
    /// Sessions, where they are limited.
    pub(crate) sessions: Option<u64>,
}

/// What one sweep gave.
#[derive(Debug, Default)]
pub(crate) struct Sweep {
    pub(crate) tally: Tally,
    pub(crate) note: String,
    pub(crate) took: Duration,
}

/// The sweeps and their share of the time. Those in memory run beside those on real sockets, and both have all of it.
const SWEEPS: &[(&str, u32)] = &[
    ("bytes", 28),
    ("frames", 4),
    ("tls", 8),
    ("framing", 4),
    ("random", 16),
    ("spdy-bytes", 10),
    ("spdy-frames", 2),
    ("spdy-random", 10),
    ("forward-bytes", 14),
    ("forward-frames", 2),
    ("forward-random", 14),
    ("library", 12),
    ("exec", 10),
    ("exec-tls", 5),
    ("kubectl", 6),
    ("kubectl-kills", 6),
    ("go", 5),
    ("client-go", 5),
    ("library-spdy", 8),
    ("exec-spdy", 5),
    ("kubectl-spdy", 4),
    ("client-go-spdy", 4),
    ("forward", 10),
    ("kubectl-forward", 6),
    ("cri", 8),
    ("kills", 5),
    ("signals", 1),
    ("descriptors", 1),
    ("attach", 6),
    ("cp", 6),
    ("logs", 6),
    ("tty", 5),
    ("slow", 2),
    ("paused", 2),
];

/// These take a minute or two whatever the budget is: they run when they are asked for, and when there is time.
const LONG: [&str; 2] = ["slow", "paused"];

/// The minutes that there must be.
const TIME_FOR_LONG: f64 = 20.0;

impl Args {
    /// Runs the sweeps; fails when our code lied, panicked or left something behind.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        if let Some(code) = optimised(self.debug) {
            return code;
        }
        match self.sweep() {
            Ok(tally) => {
                for story in &tally.examples {
                    println!("  lie: {story}");
                }
                println!("{tally}");
                if tally.is_clean() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                println!("0 sessions: the sweeps could not run");
                ExitCode::FAILURE
            }
        }
    }

    fn wants(&self, name: &str) -> bool {
        match self.only.as_slice() {
            [] if self.without.iter().any(|without| without == name) => false,
            [] => !LONG.contains(&name) || self.minutes >= TIME_FOR_LONG,
            only => only.iter().any(|only| only == name),
        }
    }

    fn sweep(&self) -> Result<Tally> {
        let seed = self.seed.unwrap_or_else(|| rand::random::<u64>() >> 16);
        println!("seed {seed}");
        if self.replay {
            let only = |prefix: &str| self.only.iter().any(|name| name.starts_with(prefix));
            return Ok(match only("forward") {
                true => replay(random_forwarding(seed)),
                false => replay(random(if only("spdy") { Wire::Spdy } else { Wire::WebSocket }, seed)),
            });
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        if self.compare {
            let workspace = Workspace::find()?;
            let place = Place::prepare(&workspace, self.debug)?;
            let time = Duration::from_secs_f64(self.minutes * 60.0);
            let budget = Budget { time, sessions: self.sessions };
            return runtime.block_on(compare::run(&workspace, &place, &budget, seed));
        }
        let named = || self.only.iter().chain(&self.without);
        if let Some(unknown) = named().find(|only| SWEEPS.iter().all(|(name, _)| name != only)) {
            bail!("there is no sweep {unknown:?}");
        }
        let chosen = SWEEPS.iter().filter(|(name, _)| self.wants(name));
        let (in_memory, real): (Vec<_>, Vec<_>) = chosen.partition(|(name, _)| memory::NAMES.contains(name));
        // Building takes what it takes; the time that was given is for the sweeps.
        let place =
            if real.is_empty() { None } else { Some(Place::prepare(&Workspace::find()?, self.debug)?) };
        if let Some(place) = &place
            && real.iter().any(|(name, _)| matches!(*name, "go" | "client-go" | "client-go-spdy"))
        {
            // Built now; where that fails, the sweep says so.
            let _ = place.peers.go();
        }
        std::thread::scope(|scope| {
            // They keep one thread busy, on a paused clock, beside sessions that mostly wait.
            let in_memory =
                scope.spawn(|| self.in_turn(&in_memory, |name, budget| memory::sweep(name, budget, seed)));
            let mut tally = self.in_turn(&real, |name, budget| {
                let place = place.as_ref().context("no place")?;
                runtime.block_on(sockets::sweep(name, place, budget, seed))
            })?;
            tally.add(in_memory.join().map_err(|_| anyhow!("a sweep in memory panicked"))??);
            Ok(tally)
        })
    }

    /// Runs sweeps one after the other, each for its share of the time.
    fn in_turn(
        &self,
        sweeps: &[(&'static str, u32)],
        mut run: impl FnMut(&str, &Budget) -> Result<Sweep>,
    ) -> Result<Tally> {
        let mut tally = Tally::default();
        let started = Instant::now();
        let total = Duration::from_secs_f64(self.minutes * 60.0);
        let shares: u32 = sweeps.iter().map(|(_, share)| share).sum();
        let mut shares_left = shares;
        for (name, share) in sweeps {
            // What one sweep leaves over is the others'.
            let left = total.saturating_sub(started.elapsed());
            let part = |time: Duration, of: u32| time.mul_f64(f64::from(*share) / f64::from(of.max(1)));
            // And where those before took longer than they should, something is left all the same.
            let time = part(left, shares_left).max(part(total, shares) / 3);
            shares_left -= share;
            let Sweep { tally: part, note, took } = run(name, &Budget { time, sessions: self.sessions })?;
            let rate = per_second(part.sessions, took);
            println!("{name:<15} {:>6.1} s {rate:>6}/s  {part}{}{note}", took.as_secs_f64(), sep(&note));
            tally.add(part);
        }
        Ok(tally)
    }
}

/// Runs the same command in a release build, where this is none: a session in memory takes a tenth of the time there.
/// `None`: this is the right build.
pub(crate) fn optimised(debug: bool) -> Option<ExitCode> {
    if debug || !cfg!(debug_assertions) {
        return None;
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let status = std::process::Command::new(cargo)
        .args(["run", "--quiet", "--release", "--package", "xtask", "--"])
        .args(std::env::args_os().skip(1))
        .status();
    let code = status.ok().and_then(|status| status.code()).and_then(|code| u8::try_from(code).ok());
    Some(code.map_or(ExitCode::FAILURE, ExitCode::from))
}

fn sep(note: &str) -> &str {
    if note.is_empty() { "" } else { "; " }
}

fn replay((script, plan, setting): (impl Play, Plan, Setting)) -> Tally {
    println!("{script}\nplan: {plan}\n{setting:?}");
    let mut worker = Worker::default();
    let run = worker.session("replay", &script, &plan, setting);
    println!("{:?}: {:?}, {:?}", run.verdict, run.claim, run.record);
    worker.tally
}
