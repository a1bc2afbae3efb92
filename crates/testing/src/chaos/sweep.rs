//! Many sessions: every byte of short ones, every frame, random points of long ones.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};
use wsstream_proto::subprotocol::{REMOTECOMMAND, SPDY_REMOTECOMMAND, Subprotocol};

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

    /// The short sessions of a version.
    #[must_use]
    pub fn short(self, seed: u64, protocol: &Subprotocol) -> Vec<(&'static str, Script)> {
        let mut scripts = Script::short(seed, protocol);
        for (_, script) in &mut scripts {
            script.spdy = self == Self::Spdy;
        }
        scripts
    }
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

    /// How many bytes a session moves when nothing happens to it: up, down.
    fn measure(&mut self, name: &str, script: &impl Play, setting: Setting) -> [u64; 2] {
        self.session(name, script, &Plan::smooth(), setting).record.passed
    }

    /// Each short session of each version, cut at every `stride`th byte of each direction (from `offset` on), in each
    /// of `faults`' ways. Returns how many places there were.
    pub fn every_byte(
        &mut self,
        wire: Wire,
        seed: u64,
        faults: &[Fault],
        setting: Setting,
        stride: u64,
        offset: u64,
    ) -> u64 {
        let mut places = 0;
        for protocol in wire.versions() {
            for (name, script) in wire.short(seed, protocol) {
                places += self.everywhere(name, &script, seed, faults, setting, stride, offset);
            }
        }
        places
    }

    /// The same for the short sessions of each wire of port-forward.
    pub fn every_byte_of_forwarding(
        &mut self,
        seed: u64,
        faults: &[Fault],
        setting: Setting,
        stride: u64,
        offset: u64,
    ) -> u64 {
        let mut places = 0;
        for wire in forward::script::WIRES {
            for (name, script) in Forwarding::short(seed, wire) {
                places += self.everywhere(name, &script, seed, faults, setting, stride, offset);
            }
        }
        places
    }

    #[allow(clippy::too_many_arguments, reason = "they are those of the two above")]
    fn everywhere(
        &mut self,
        name: &str,
        script: &impl Play,
        seed: u64,
        faults: &[Fault],
        setting: Setting,
        stride: u64,
        offset: u64,
    ) -> u64 {
        let mut places = 0;
        if self.is_done() {
            return places;
        }
        let name = format!("every byte of {name:?}");
        let lengths = self.measure(&name, script, setting);
        for (way, fault) in Way::BOTH.iter().flat_map(|way| faults.iter().map(move |f| (*way, *f))) {
            let mut at = offset;
            // One beyond the last byte too: there the fault never happens.
            while at <= lengths[way.index()] + 1 {
                if self.is_done() {
                    return places;
                }
                let mut plan = Plan::one(way, At::Byte(at), fault);
                plan.seed = seed;
                self.session(&name, script, &plan, setting);
                places += 1;
                at += stride;
            }
        }
        places
    }

    /// Each short session of each version, cut at every frame boundary and just behind it.
    pub fn every_frame(&mut self, wire: Wire, seed: u64, faults: &[Fault], setting: Setting) {
        self.frames(wire, seed, faults, setting, 0..3);
    }

    /// The same for the short sessions of each wire of port-forward.
    pub fn every_frame_of_forwarding(&mut self, seed: u64, faults: &[Fault], setting: Setting) {
        for wire in forward::script::WIRES {
            for (name, script) in Forwarding::short(seed, wire) {
                self.boundaries(name, &script, faults, setting, 0..3);
            }
        }
    }

    /// Changes the bytes of the frame headers of short sessions, one bit and all bits at a time. Without TLS nothing
    /// can notice some of these; what must hold is that nothing panics, hangs or is left behind.
    pub fn framing(&mut self, wire: Wire, seed: u64) {
        self.frames(wire, seed, &flips(), Setting::default(), 0..6);
    }

    /// The same for port-forward.
    pub fn framing_of_forwarding(&mut self, seed: u64) {
        for wire in forward::script::WIRES {
            for (name, script) in Forwarding::short(seed, wire) {
                self.boundaries(name, &script, &flips(), Setting::default(), 0..6);
            }
        }
    }

    fn frames(&mut self, wire: Wire, seed: u64, faults: &[Fault], setting: Setting, plus: Range<u64>) {
        for protocol in wire.versions() {
            for (name, script) in wire.short(seed, protocol) {
                self.boundaries(name, &script, faults, setting, plus.clone());
            }
        }
    }

    fn boundaries(
        &mut self,
        name: &str,
        script: &impl Play,
        faults: &[Fault],
        setting: Setting,
        plus: Range<u64>,
    ) {
        for (way, fault) in Way::BOTH.iter().flat_map(|way| faults.iter().map(move |f| (*way, *f))) {
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
