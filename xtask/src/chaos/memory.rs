//! The sweeps in memory: the library's own server and client over wires that break, on a paused clock.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use wsstream_testing::chaos::{
    Fault,
    session::Setting,
    sweep::{CUTS, Wire, Worker},
};

use super::{Budget, Sweep};

/// The sweeps that are run here.
pub(super) const NAMES: [&str; 11] = [
    "bytes",
    "frames",
    "tls",
    "framing",
    "random",
    "spdy-bytes",
    "spdy-frames",
    "spdy-random",
    "forward-bytes",
    "forward-frames",
    "forward-random",
];

/// Runs one of [`NAMES`].
pub(super) fn sweep(name: &str, budget: &Budget, seed: u64) -> Result<Sweep> {
    Ok(match name {
        "bytes" => bytes(budget, Wire::WebSocket, seed),
        "frames" => frames(budget, Wire::WebSocket, seed),
        "tls" => tls(budget, seed),
        "framing" => framing(budget, seed),
        "random" => random(budget, Wire::WebSocket, seed),
        "spdy-bytes" => bytes(budget, Wire::Spdy, seed),
        "spdy-frames" => frames(budget, Wire::Spdy, seed),
        "spdy-random" => random(budget, Wire::Spdy, seed),
        "forward-bytes" => {
            places(budget, |worker| worker.every_byte_of_forwarding(seed, &CUTS, Setting::default(), 1, 0))
        }
        "forward-frames" => run(budget, |worker| {
            worker.every_frame_of_forwarding(seed, &at_frames(), Setting::default());
            String::new()
        }),
        "forward-random" => seeds(budget, seed, |worker, seed| drop(worker.random_forwarding(seed))),
        other => bail!("there is no sweep {other:?} in memory"),
    })
}

/// Every byte of the short sessions, in both directions, each version, four ways of cutting.
fn bytes(budget: &Budget, wire: Wire, seed: u64) -> Sweep {
    places(budget, |worker| worker.every_byte(wire, seed, &CUTS, Setting::default(), 1, 0))
}

/// A sweep that knows at how many places it has cut.
fn places(budget: &Budget, sweep: impl FnOnce(&mut Worker) -> u64) -> Sweep {
    run(budget, |worker| {
        let places = sweep(worker);
        if worker.is_done() {
            format!("{places} places, cut short by the time given")
        } else {
            format!("every one of {places} places")
        }
    })
}

/// Every frame boundary and the bytes behind it.
fn frames(budget: &Budget, wire: Wire, seed: u64) -> Sweep {
    run(budget, |worker| {
        worker.every_frame(wire, seed, &at_frames(), Setting::default());
        String::new()
    })
}

/// What happens at frame boundaries.
fn at_frames() -> [Fault; 4] {
    [Fault::Fin, Fault::Reset, Fault::HalfClose, Fault::Stall(Some(Duration::from_secs(5)))]
}

/// A changed byte under TLS, at every place while time lasts; the places differ with the seed.
fn tls(budget: &Budget, seed: u64) -> Sweep {
    run(budget, |worker| {
        let setting = Setting { tls: true, ..Setting::default() };
        let flip = Fault::Flip(1 << (seed % 8));
        // A stride that shares no factor with another seed's offset walks through all of them over time.
        for wire in [Wire::WebSocket, Wire::Spdy] {
            worker.every_byte(wire, seed, &[flip], setting, 37, seed % 37);
            worker.every_byte(wire, seed, &[Fault::Fin, Fault::Reset], setting, 61, seed % 61);
        }
        worker.every_byte_of_forwarding(seed, &[flip], setting, 37, seed % 37);
        worker.every_byte_of_forwarding(seed, &[Fault::Fin, Fault::Reset], setting, 61, seed % 61);
        String::new()
    })
}

/// Changed frame headers without TLS, which not everything can notice.
fn framing(budget: &Budget, seed: u64) -> Sweep {
    run(budget, |worker| {
        worker.framing(Wire::WebSocket, seed);
        worker.framing(Wire::Spdy, seed);
        worker.framing_of_forwarding(seed);
        String::new()
    })
}

/// Random sessions of any length over random wires; session n has the seed plus n.
fn random(budget: &Budget, wire: Wire, seed: u64) -> Sweep {
    seeds(budget, seed, |worker, seed| drop(worker.random(wire, seed)))
}

/// One session for each seed from this one on.
fn seeds(budget: &Budget, seed: u64, session: impl Fn(&mut Worker, u64)) -> Sweep {
    run(budget, |worker| {
        let mut next = seed;
        while !worker.is_done() {
            session(worker, next);
            next = next.wrapping_add(1);
        }
        format!("seeds {seed} to {}", next.wrapping_sub(1))
    })
}

fn run(budget: &Budget, body: impl FnOnce(&mut Worker) -> String) -> Sweep {
    let started = Instant::now();
    let mut worker = Worker::default().until(started + budget.time);
    if let Some(sessions) = budget.sessions {
        worker = worker.at_most(sessions);
    }
    let note = body(&mut worker);
    Sweep { tally: worker.tally, note, took: started.elapsed() }
}
