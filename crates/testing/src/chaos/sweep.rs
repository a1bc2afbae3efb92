//! Many sessions: every byte of short ones, every frame, random points of long ones.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use wsstream_proto::subprotocol::{REMOTECOMMAND, SPDY_REMOTECOMMAND, Subprotocol};

use super::forward::script::WIRES;
use super::forward::{self, Forwarding};
use super::oracle::Claim;
use super::oracle::{Tally, Verdict};
use super::plan::{At, Fault, Plan, Way};
use super::script::Script;
use super::session::{self, Run, Setting};

/// So many sessions share a runtime; then a new one starts with a clock at zero.
const PER_RUNTIME: u32 = 500;

/// Faults are put at so many frames of each direction.
const FRAMES: u64 = 8;

/// What carries the sessions of a sweep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// Channels of a WebSocket.
    WebSocket,
    /// Streams of SPDY.
    Spdy,
}

impl Wire {
    /// The versions that exist over it.
    #[must_use]
    pub fn versions(self) -> &'static [Subprotocol] {
        match self {
            Self::WebSocket => REMOTECOMMAND,
            Self::Spdy => SPDY_REMOTECOMMAND,
        }
    }
}

/// Which short sessions a sweep goes through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Those of remote commands, in each version.
    Command(Wire),
    /// Those of port-forward, over each of its wires.
    Forward,
}

impl Kind {
    fn short(self, seed: u64) -> Vec<(&'static str, Short)> {
        let mut all = Vec::new();
        match self {
            Self::Command(wire) => {
                for (name, mut script) in wire.versions().iter().flat_map(|row| Script::short(seed, row)) {
                    script.spdy = wire == Wire::Spdy;
                    all.push((name, Short::Command(script)));
                }
            }
            Self::Forward => {
                for (name, script) in WIRES.into_iter().flat_map(|wire| Forwarding::short(seed, wire)) {
                    all.push((name, Short::Forward(script)));
                }
            }
        }
        all
    }
}

/// Where a sweep over every byte puts its faults.
#[derive(Debug, Clone, Copy)]
pub struct Places<'a> {
    /// The seed of the sessions and of their plans.
    pub seed: u64,
    /// Each of them happens at each place.
    pub faults: &'a [Fault],
    /// How the sessions are run.
    pub setting: Setting,
    /// Every so many bytes of each direction is a place.
    pub stride: u64,
    /// The first of them.
    pub offset: u64,
}

/// A session that can be run over a wire with a plan.
pub trait Play: fmt::Display {
    /// What its client was told.
    type Claim: fmt::Debug;

    /// Runs it on this thread's runtime, whose clock is paused.
    fn play(&self, plan: &Plan, setting: Setting) -> impl Future<Output = Run<Self::Claim>>;
}

impl Play for Script {
    type Claim = Claim;

    fn play(&self, plan: &Plan, setting: Setting) -> impl Future<Output = Run> {
        session::run(self, plan, setting)
    }
}

impl Play for Forwarding {
    type Claim = String;

    fn play(&self, plan: &Plan, setting: Setting) -> impl Future<Output = Run<String>> {
        forward::session::run(self, plan, setting)
    }
}

/// A short session of either kind.
#[derive(Debug)]
enum Short {
    Command(Script),
    Forward(Forwarding),
}

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(script) => script.fmt(f),
            Self::Forward(script) => script.fmt(f),
        }
    }
}

impl Play for Short {
    type Claim = String;

    async fn play(&self, plan: &Plan, setting: Setting) -> Run<String> {
        match self {
            Self::Command(script) => {
                let Run { verdict, claim, record, bytes } = script.play(plan, setting).await;
                Run { verdict, claim: format!("{claim:?}"), record, bytes }
            }
            Self::Forward(script) => script.play(plan, setting).await,
        }
    }
}

/// Runs sessions one after the other on its own runtime of one thread with a paused clock.
#[derive(Debug)]
pub struct Worker {
    runtime: Option<Runtime>,
    used: u32,
    /// What was counted so far.
    pub tally: Tally,
    until: Option<Instant>,
    left: u64,
}

impl Default for Worker {
    fn default() -> Self {
        Self { runtime: None, used: 0, tally: Tally::default(), until: None, left: u64::MAX }
    }
}

impl Worker {
    /// Stops sweeps at this time of the real clock.
    #[must_use]
    pub fn until(mut self, until: Instant) -> Self {
        self.until = Some(until);
        self
    }

    /// Stops sweeps after this many sessions.
    #[must_use]
    pub fn at_most(mut self, sessions: u64) -> Self {
        self.left = sessions;
        self
    }

    /// Whether time or sessions are used up.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.left == 0 || self.until.is_some_and(|until| Instant::now() >= until)
    }

    /// Runs one session and counts it.
    pub fn session<S: Play>(
        &mut self,
        name: &str,
        script: &S,
        plan: &Plan,
        setting: Setting,
    ) -> Run<S::Claim> {
        let mut runtime = self.runtime.take().filter(|_| self.used < PER_RUNTIME);
        if runtime.is_none() {
            self.used = 0;
        }
        let runtime = runtime.take().unwrap_or_else(|| {
            let mut builder = Builder::new_current_thread();
            builder.enable_time().start_paused(true).build().expect("a runtime")
        });
        let run = runtime.block_on(script.play(plan, setting));
        self.used += 1;
        // After a lie the runtime may hold what was left behind: the next session starts clean.
        self.runtime = (!matches!(run.verdict, Verdict::Lie(_))).then_some(runtime);
        self.left = self.left.saturating_sub(1);
        self.tally.bytes += run.bytes;
        self.tally.count(&run.verdict, || {
            let tls = if setting.tls { ", TLS" } else { "" };
            format!(
                "{name}: {script}\n      plan: {plan}; wire of {} bytes{tls}; {:?}",
                setting.capacity, run.claim
            )
        });
        run
    }

    /// Each of the short sessions, with each fault at every place of both directions. Returns how many places there were.
    pub fn every_byte(&mut self, kind: Kind, places: &Places<'_>) -> u64 {
        kind.short(places.seed).iter().map(|(name, script)| self.everywhere(name, script, places)).sum()
    }

    fn everywhere(&mut self, name: &str, script: &Short, places: &Places<'_>) -> u64 {
        let mut count = 0;
        if self.is_done() {
            return count;
        }
        let name = format!("every byte of {name:?}");
        // How many bytes it moves when nothing happens to it: up, down.
        let lengths = self.session(&name, script, &Plan::smooth(), places.setting).record.passed;
        for (way, fault) in everyway(places.faults) {
            let mut at = places.offset;
            // One beyond the last byte too: there the fault never happens.
            while at <= lengths[way.index()] + 1 {
                if self.is_done() {
                    return count;
                }
                let mut plan = Plan::one(way, At::Byte(at), fault);
                plan.seed = places.seed;
                self.session(&name, script, &plan, places.setting);
                count += 1;
                at += places.stride;
            }
        }
        count
    }

    /// Each of the short sessions, cut at every frame boundary and just behind it.
    pub fn every_frame(&mut self, kind: Kind, seed: u64, faults: &[Fault], setting: Setting) {
        for (name, script) in &kind.short(seed) {
            self.boundaries(name, script, faults, setting, 0..3);
        }
    }

    /// Changes the bytes of the frame headers of short sessions, one bit and all bits at a time. Without TLS nothing
    /// can notice some of these; what must hold is that nothing panics, hangs or is left behind.
    pub fn framing(&mut self, kind: Kind, seed: u64) {
        for (name, script) in &kind.short(seed) {
            self.boundaries(name, script, &flips(), Setting::default(), 0..6);
        }
    }

    fn boundaries(
        &mut self,
        name: &str,
        script: &Short,
        faults: &[Fault],
        setting: Setting,
        plus: Range<u64>,
    ) {
        for (way, fault) in everyway(faults) {
            for frame in 0..FRAMES {
                let mut fired = false;
                for plus in plus.clone() {
                    if self.is_done() {
                        return;
                    }
                    let plan = Plan::one(way, At::Frame { frame, plus }, fault);
                    let run = self.session(&format!("frames of {name:?}"), script, &plan, setting);
                    fired |= run.record.fired > 0;
                }
                if !fired {
                    break;
                }
            }
        }
    }

    /// The random session of a seed: script, plan and wire.
    pub fn random(&mut self, wire: Wire, seed: u64) -> Run {
        let (script, plan, setting) = random(wire, seed);
        self.session("random", &script, &plan, setting)
    }

    /// The random session of port-forward of a seed.
    pub fn random_forwarding(&mut self, seed: u64) -> Run<String> {
        let (script, plan, setting) = random_forwarding(seed);
        self.session("random forwarding", &script, &plan, setting)
    }
}

/// Each of the faults in both directions.
fn everyway(faults: &[Fault]) -> impl Iterator<Item = (Way, Fault)> {
    Way::BOTH.into_iter().flat_map(|way| faults.iter().map(move |fault| (way, *fault)))
}

/// Each bit of a byte, and all of them.
fn flips() -> Vec<Fault> {
    (0..8).map(|bit| Fault::Flip(1 << bit)).chain([Fault::Flip(0xff)]).collect()
}

/// The random session that belongs to a seed.
#[must_use]
pub fn random(wire: Wire, seed: u64) -> (Script, Plan, Setting) {
    let script = match wire {
        Wire::WebSocket => Script::random(seed),
        Wire::Spdy => Script::random(seed).over_spdy(),
    };
    let (plan, setting) = wire_of(seed, script.volume());
    (script, plan, setting)
}

/// The random session of port-forward that belongs to a seed.
#[must_use]
pub fn random_forwarding(seed: u64) -> (Forwarding, Plan, Setting) {
    let script = Forwarding::random(seed);
    let (plan, setting) = wire_of(seed, script.volume());
    (script, plan, setting)
}

/// What the wire of a random session does.
fn wire_of(seed: u64, (up, down): (u64, u64)) -> (Plan, Setting) {
    let tls = seed % 8 == 7;
    let mut plan = Plan::random(seed, up, down);
    if tls && seed.is_multiple_of(3) {
        // Under TLS a changed byte must be noticed, wherever it is.
        for (_, _, fault) in &mut plan.faults {
            *fault = Fault::Flip((seed >> 8) as u8 | 1);
        }
    }
    // From a wire that holds next to nothing to one that holds everything.
    let capacity = 256 << (seed / 8 % 11);
    if tls {
        plan.carry_records(capacity);
    }
    (plan, Setting { tls, capacity })
}

/// How a wire is cut in the sweeps over every byte.
pub const CUTS: [Fault; 4] = [Fault::Fin, Fault::Reset, Fault::HalfClose, Fault::Vanish];

/// The versions of the sweeps on real sockets.
#[must_use]
pub fn protocols() -> &'static [Subprotocol] {
    REMOTECOMMAND
}

/// How fast sessions were.
#[must_use]
pub fn per_second(sessions: u64, took: Duration) -> u64 {
    (sessions as f64 / took.as_secs_f64().max(0.001)) as u64
}
