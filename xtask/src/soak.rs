//! `cargo xtask soak`: mixed real sessions with faults against one server for as long as one likes, and what the
//! server holds while they go on.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use wsstream_testing::chaos::Tally;

use crate::{
    chaos::{Actor, Budget, Place, Reading, Running, Session, Target, swarm},
    workspace::Workspace,
};

/// How often the server is looked at.
const EVERY: Duration = Duration::from_secs(15);

/// More growth than this, in KiB an hour over the second half, is called a leak when it also exceeds [`NOISE`].
const SLOPE: f64 = 8.0 * 1024.0;

/// Growth of the resident set, in KiB, that an allocator's habits explain.
const NOISE: u64 = 6 * 1024;

/// `cargo xtask soak`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 10.0)]
    minutes: f64,
    /// Where the random numbers start [default: the clock]
    #[arg(long)]
    seed: Option<u64>,
    /// Use the debug builds
    #[arg(long)]
    debug: bool,
}

impl Args {
    /// Runs it; fails on a lie of ours, a panic or a leak.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        if let Some(code) = crate::chaos::optimised(self.debug) {
            return code;
        }
        match self.soak() {
            Ok(clean) => {
                if clean {
                    ExitCode::SUCCESS
                } else {
                    ExitCode::FAILURE
                }
            }
            Err(error) => {
                eprintln!("error: {error:#}");
                ExitCode::FAILURE
            }
        }
    }

    fn soak(&self) -> Result<bool> {
        let seed = self.seed.unwrap_or_else(|| rand::random::<u64>() >> 16);
        println!("seed {seed}");
        let place = Place::prepare(&Workspace::find()?, self.debug)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(self.sessions(&place, seed))
    }

    async fn sessions(&self, place: &Place, seed: u64) -> Result<bool> {
        let server = Running::start(place, Target::Plain, None).await?;
        let before = server.reading()?;
        let started = Instant::now();
        let until = started + Duration::from_secs_f64(self.minutes * 60.0);
        let mut tally = Tally::default();
        let mut readings: Vec<(f64, Reading)> = Vec::new();
        let mut next = seed;
        while Instant::now() < until {
            let time = EVERY.min(until.saturating_duration_since(Instant::now()));
            let base = next;
            let make = move |number: u64| mixed(base.wrapping_add(number));
            let part = swarm(place, &server, &Budget { time, sessions: None }, 8, make).await;
            next = next.wrapping_add(part.sessions + 8);
            tally.add(part);
            let reading = server.reading()?;
            let minute = started.elapsed().as_secs_f64() / 60.0;
            println!(
                "{minute:>6.1} min  {tally}; {} descriptors, {} threads, {} children, {} KiB",
                reading.descriptors, reading.threads, reading.children, reading.resident
            );
            readings.push((minute, reading));
        }
        let (after, leaks) = server.settles(&before, Duration::from_secs(30)).await?;
        let commands = crate::chaos::puppets(place);
        tally.leaks += leaks + commands as u64;
        tally.panics += server.panics();
        let (slope, growth) = slope(&readings);
        if slope > SLOPE && growth > NOISE {
            tally.leaks += 1;
        }
        for story in &tally.examples {
            println!("  lie: {story}");
        }
        println!(
            "descriptors {} -> {}, threads {} -> {}, children {} -> {}, commands left {commands}, resident {} -> {} \
             KiB, slope of the second half {slope:.0} KiB/h",
            before.descriptors,
            after.descriptors,
            before.threads,
            after.threads,
            before.children,
            after.children,
            before.resident,
            after.resident,
        );
        println!("{} bytes checked; {tally}", tally.bytes);
        Ok(tally.is_clean())
    }
}

fn mixed(seed: u64) -> Session {
    let actor = if seed.is_multiple_of(4) { Actor::Program } else { Actor::Library };
    let mut session = Session::random(actor, seed, false);
    if actor == Actor::Program && seed % 16 == 8 {
        session.kill_after = Some(Duration::from_millis(seed / 16 % 300));
    }
    session
}

/// KiB an hour by least squares over the second half, and how much that half grew.
fn slope(readings: &[(f64, Reading)]) -> (f64, u64) {
    let half = readings.get(readings.len() / 2..).unwrap_or_default();
    let points: Vec<(f64, f64)> =
        half.iter().map(|(minute, reading)| (minute / 60.0, reading.resident as f64)).collect();
    let n = points.len() as f64;
    if n < 3.0 {
        return (0.0, 0);
    }
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let over: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    let under: f64 = points.iter().map(|(x, _)| (x - mx) * (x - mx)).sum();
    let grown = match (half.first(), half.last()) {
        (Some((_, first)), Some((_, last))) => last.resident.saturating_sub(first.resident),
        _ => 0,
    };
    (if under > 0.0 { over / under } else { 0.0 }, grown)
}
