//! The sweeps in memory: the library's own server and client over wires that break, on a paused clock.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use wsstream_testing::chaos::{
    Fault,
    session::Setting,
    sweep::{CUTS, Kind, Places, Wire, Worker},
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
        "bytes" => bytes(budget, WEBSOCKET, seed),
        "frames" => frames(budget, WEBSOCKET, seed),
        "tls" => tls(budget, seed),
        "framing" => framing(budget, seed),
        "random" => random(budget, Wire::WebSocket, seed),
        "spdy-bytes" => bytes(budget, SPDY, seed),
        "spdy-frames" => frames(budget, SPDY, seed),
        "spdy-random" => random(budget, Wire::Spdy, seed),
        "forward-bytes" => bytes(budget, Kind::Forward, seed),
        "forward-frames" => frames(budget, Kind::Forward, seed),
        "forward-random" => seeds(budget, seed, |worker, seed| drop(worker.random_forwarding(seed))),
        other => bail!("there is no sweep {other:?} in memory"),
    })
}

const WEBSOCKET: Kind = Kind::Command(Wire::WebSocket);
const SPDY: Kind = Kind::Command(Wire::Spdy);

/// Every byte of the short sessions, in both directions, four ways of cutting.
fn bytes(budget: &Budget, kind: Kind, seed: u64) -> Sweep {
    run(budget, |worker| {
        let setting = Setting::default();
        let places = worker.every_byte(kind, &Places { seed, faults: &CUTS, setting, stride: 1, offset: 0 });
        if worker.is_done() {
            format!("{places} places, cut short by the time given")
        } else {
            format!("every one of {places} places")
        }
    })
}

/// Every frame boundary and the bytes behind it.
fn frames(budget: &Budget, kind: Kind, seed: u64) -> Sweep {
    let faults = [Fault::Fin, Fault::Reset, Fault::HalfClose, Fault::Stall(Some(Duration::from_secs(5)))];
    run(budget, |worker| {
        worker.every_frame(kind, seed, &faults, Setting::default());
        String::new()
    })
}

/// A changed byte under TLS, at every place while time lasts; the places differ with the seed.
fn tls(budget: &Budget, seed: u64) -> Sweep {
    run(budget, |worker| {
        let setting = Setting { tls: true, ..Setting::default() };
        let flip = [Fault::Flip(1 << (seed % 8))];
        for kind in [WEBSOCKET, SPDY, Kind::Forward] {
            // A stride that shares no factor with another seed's offset walks through all of them over time.
            for (faults, stride) in [(&flip[..], 37), (&[Fault::Fin, Fault::Reset][..], 61)] {
                worker.every_byte(kind, &Places { seed, faults, setting, stride, offset: seed % stride });
            }
        }
        String::new()
    })
}

/// Changed frame headers without TLS, which not everything can notice.
fn framing(budget: &Budget, seed: u64) -> Sweep {
    run(budget, |worker| {
        for kind in [WEBSOCKET, SPDY, Kind::Forward] {
            worker.framing(kind, seed);
        }
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
