//! `cargo xtask soak`: mixed real sessions with faults against one server for as long as one likes, and what the
//! server holds while they go on.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use wsstream_testing::chaos::Tally;

use crate::{
    chaos::{Actor, Budget, Place, Running, Session, Target, swarm},
    report::exit_code,
    workspace::Workspace,
};

/// How often the server is looked at.
const EVERY: Duration = Duration::from_secs(15);

/// This part of the time, of 1, is for tables, buffers and the allocator to come to their size; the slope is taken
/// behind it.
const WARM_UP: f64 = 0.3;

/// More growth of the resident set than this, in KiB per 1,000 sessions, is a leak: 16 bytes a session, less than the
/// smallest thing of ours that could be left behind, a task or one end of a channel. It counts when it is certain:
/// by the lower end of the interval of two standard errors. A soak of 20 minutes knows the slope to ± 3 KiB.
const SLOPE: f64 = 16.0;

/// A slope through fewer points says nothing.
const POINTS: usize = 12;

/// How long the server may take to let go of everything: the grace of commands whose client left is 12 s, idle
/// threads stay for 10.
const SETTLES: Duration = Duration::from_secs(30);

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
        exit_code(self.soak())
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
        // Behind the warm-up: thousands of sessions, KiB.
        let mut points: Vec<(f64, f64)> = Vec::new();
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
            if minute > self.minutes * WARM_UP {
                points.push((tally.sessions as f64 / 1000.0, reading.resident as f64));
            }
        }
        let (after, leaks) = server.settles(&before, SETTLES).await?;
        let commands = crate::chaos::puppets(place);
        tally.leaks += leaks + commands as u64;
        tally.panics += server.panics();
        for story in &tally.examples {
            println!("  lie: {story}");
        }
        let memory = match slope(&points) {
            Some((slope, error)) => {
                if slope - 2.0 * error > SLOPE {
                    tally.leaks += 1;
                }
                format!(
                    "{slope:.1} ± {:.1} KiB per 1,000 sessions over {} samples behind {:.0} % of the time (a leak: above \
                     {SLOPE})",
                    2.0 * error,
                    points.len(),
                    WARM_UP * 100.0
                )
            }
            None => format!("no slope from {} samples; it takes {POINTS}", points.len()),
        };
        println!(
            "descriptors {} -> {}, threads {} -> {}, children {} -> {}, control groups {} -> {}, commands left \
             {commands}, resident {} -> {} KiB",
            before.descriptors,
            after.descriptors,
            before.threads,
            after.threads,
            before.children,
            after.children,
            before.groups,
            after.groups,
            before.resident,
            after.resident,
        );
        println!("memory: {memory}");
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

/// The slope by least squares and its standard error. Samples stand beside each other in time and resemble each other,
/// which makes the error look smaller than it is: a reason for the margin in [`SLOPE`].
fn slope(points: &[(f64, f64)]) -> Option<(f64, f64)> {
    if points.len() < POINTS {
        return None;
    }
    let n = points.len() as f64;
    let (mx, my) = (points.iter().map(|p| p.0).sum::<f64>() / n, points.iter().map(|p| p.1).sum::<f64>() / n);
    let over: f64 = points.iter().map(|(x, y)| (x - mx) * (y - my)).sum();
    let under: f64 = points.iter().map(|(x, _)| (x - mx) * (x - mx)).sum();
    if under <= 0.0 {
        return None;
    }
    let slope = over / under;
    let rest: f64 = points.iter().map(|(x, y)| (y - my - slope * (x - mx)).powi(2)).sum();
    Some((slope, (rest / (n - 2.0) / under).sqrt()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_its_slope_and_no_error() {
        let points: Vec<_> = (0..20).map(|x| (f64::from(x), 7.0 + 3.0 * f64::from(x))).collect();
        let (slope, error) = slope(&points).unwrap();
        assert!((slope - 3.0).abs() < 1e-9 && error < 1e-6, "{slope} ± {error}");
    }

    #[test]
    fn noise_without_growth_is_no_leak() {
        let points: Vec<_> = (0..20).map(|x| (f64::from(x), 20_000.0 + f64::from(x % 2) * 900.0)).collect();
        let (slope, error) = slope(&points).unwrap();
        assert!(slope - 2.0 * error < SLOPE, "{slope} ± {error}");
        assert_eq!(super::slope(&points[..POINTS - 1]), None);
    }
}
