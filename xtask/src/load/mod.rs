//! `cargo xtask load`: ten times every limit at once against the release binary with small limits, and what that does to the
//! sessions that run, to the server's memory and to its descriptors.
//!
//! Plain HTTP on loopback and few bytes of our own, so that the server is what is under load and not this program.

mod flood;
mod server;
mod steady;

use std::{process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use flood::Tally;
use server::{Reading, Server};
use steady::Steady;
use tokio::time::{Instant, sleep, timeout};

use crate::{report::exit_code, workspace::Workspace};

/// The limits of the server, and ten times as much of each is tried.
pub(crate) mod limits {
    pub(crate) const CONNECTIONS: usize = 400;
    pub(crate) const SESSIONS: usize = 30;
    pub(crate) const PER_USER: usize = 20;
    pub(crate) const PER_TARGET: usize = 16;
    /// A second.
    pub(crate) const RATE: usize = 25;
    pub(crate) const RATE_PER_USER: usize = 20;
    /// Bytes a second.
    pub(crate) const BANDWIDTH: usize = 1 << 20;
    pub(crate) const MESSAGE: usize = 64 << 10;
    pub(crate) const HEAD: usize = 16 << 10;
    /// How many times as much is tried.
    pub(crate) const TIMES: usize = 10;
}

/// Sessions that run before and all the time, and whose throughput is what counts.
const STEADY: usize = 4;

/// The least of their throughput that must be left, in percent.
const UNHARMED: f64 = 90.0;

/// The most that the server's memory may ever have been, in KiB. It has held a half of this under all of it.
const MEMORY: u64 = 64 << 10;

/// How long the server may take to let go of everything.
const SETTLES: Duration = Duration::from_secs(30);

/// `cargo xtask load`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long
    #[arg(long, default_value_t = 120)]
    seconds: u64,
    /// Use the debug builds
    #[arg(long)]
    debug: bool,
}

impl Args {
    /// Runs it; fails when something is not as it should be.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        if let Some(code) = crate::chaos::optimised(self.debug) {
            return code;
        }
        exit_code(self.load().map(|()| true))
    }

    fn load(&self) -> Result<()> {
        let place = crate::chaos::Place::prepare(&Workspace::find()?, self.debug)?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        runtime.block_on(async {
            let server = Server::start(&place.binary).await?;
            let result = self.against(&server).await;
            if result.is_err() {
                eprintln!("{}", server.log());
            }
            result
        })
    }

    async fn against(&self, server: &Server) -> Result<()> {
        let time = Duration::from_secs(self.seconds);
        let steady = Steady::start(server, STEADY).await?;
        // Behind the burst that each may have at first.
        sleep(Duration::from_secs(2)).await;
        let idle = server.reading()?;
        let before = steady.rate_over(Duration::from_secs(8).min(time)).await;
        let began = Instant::now();
        let (tally, during) = tokio::join!(flood::run(server, time), steady.rate_over(time));
        let took = began.elapsed();
        // Whoever waits for a place gets one again.
        let served = timeout(SETTLES, server.metrics()).await;
        ensure!(served.is_ok_and(|metrics| metrics.is_ok()), "the server answers nobody after the load");
        let after_load = settled(server, &idle).await?;
        let again = steady.rate_over(Duration::from_secs(4).min(time)).await;
        let left = steady.stop().await;
        let peak = server.reading()?;
        let metrics = server.metrics().await?;
        print(&Figures {
            took,
            tally: &tally,
            idle: &idle,
            after: &after_load,
            peak: &peak,
            before,
            during,
            again,
        });

        ensure!(left == STEADY, "{} of {STEADY} running sessions were lost", STEADY - left);
        let share = during / before * 100.0;
        ensure!(share >= UNHARMED, "running sessions had {share:.1} % of their throughput");
        ensure!(tally.unanswered == 0, "{} requests had no answer", tally.unanswered);
        ensure!(
            tally.odd == 0,
            "{} answers were neither 101 nor 429 with Retry-After: {}",
            tally.odd,
            tally.example
        );
        ensure!(tally.refused > 0 && tally.let_in > 0, "nothing was tried");
        ensure!(tally.closed == tally.oversized, "a message or a head over its limit was taken");
        ensure!(peak.highest <= MEMORY, "the server has held {} KiB", peak.highest);
        ensure!(
            after_load.descriptors <= idle.descriptors,
            "{} descriptors before, {} after",
            idle.descriptors,
            after_load.descriptors
        );
        for limit in [
            "max-sessions",
            "max-sessions-per-user",
            "max-sessions-per-target",
            "session-rate",
            "session-rate-per-user",
        ] {
            let never = format!("wsstream_sessions_over_limit_total{{limit=\"{limit}\"}} 0\n");
            ensure!(!metrics.contains(&never), "the limit {limit} was never in the way");
        }
        Ok(())
    }
}

/// Waits until the server has let go of what the load had.
async fn settled(server: &Server, idle: &Reading) -> Result<Reading> {
    let deadline = Instant::now() + SETTLES;
    loop {
        let reading = server.reading()?;
        if reading.descriptors <= idle.descriptors || Instant::now() > deadline {
            return Ok(reading);
        }
        sleep(Duration::from_millis(100)).await;
    }
}

struct Figures<'a> {
    took: Duration,
    tally: &'a Tally,
    idle: &'a Reading,
    after: &'a Reading,
    peak: &'a Reading,
    before: f64,
    during: f64,
    again: f64,
}

fn print(figures: &Figures<'_>) {
    let Figures { took, tally, idle, after, peak, before, during, again } = figures;
    let mib = |rate: f64| rate / f64::from(1 << 20);
    println!("load: {:.0} s at {} times every limit", took.as_secs_f64(), limits::TIMES);
    println!(
        "requests for a session: {} let in, {} answered with 429, {} unanswered, {} odd",
        tally.let_in, tally.refused, tally.unanswered, tally.odd
    );
    println!(
        "answers to them: median {:.1} ms, 99 % within {:.1} ms",
        tally.percentile(50),
        tally.percentile(99)
    );
    println!(
        "messages and heads of {} times their limit: {}, all refused: {}",
        limits::TIMES,
        tally.oversized,
        tally.closed == tally.oversized
    );
    println!("connections that send nothing, or half a head: {}", tally.idlers);
    println!(
        "{STEADY} running sessions: {:.2} MiB/s each before, {:.2} during ({:.1} %), {:.2} after",
        mib(*before),
        mib(*during),
        during / before * 100.0,
        mib(*again)
    );
    println!(
        "memory of the server: {} KiB before, {} after, {} at most; descriptors: {} before, {} after",
        idle.resident, after.resident, peak.highest, idle.descriptors, after.descriptors
    );
}
