//! One direction of a wire under a plan, without IO: bytes in, bytes out, and what happens in between. The wire in
//! memory and the TCP proxy are two shells around it.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::frames::Frames;
use super::plan::{At, Fault, Pace, Plan, Way};

/// One direction.
#[derive(Debug)]
pub struct Lane {
    faults: Vec<(At, Fault)>,
    /// How fast it is.
    pub pace: Pace,
    rng: SmallRng,
    frames: Frames,
    /// Whether a fault waits for a frame.
    tracking: bool,
    passed: u64,
    fired: u32,
}

impl Lane {
    /// The direction `way` of a plan.
    #[must_use]
    pub fn new(plan: &Plan, way: Way) -> Self {
        let faults: Vec<_> =
            plan.faults.iter().filter(|(on, ..)| *on == way).map(|(_, at, fault)| (*at, *fault)).collect();
        Self {
            tracking: faults.iter().any(|(at, _)| matches!(at, At::Frame { .. })),
            faults,
            pace: plan.pace[way.index()],
            rng: SmallRng::seed_from_u64(plan.seed ^ (way.index() as u64) << 32),
            frames: Frames::default(),
            passed: 0,
            fired: 0,
        }
    }

    /// Bytes that have passed.
    #[must_use]
    pub fn passed(&self) -> u64 {
        self.passed
    }

    /// Faults that have happened.
    #[must_use]
    pub fn fired(&self) -> u32 {
        self.fired
    }

    /// How many of `length` bytes are handed on at once.
    pub fn piece(&mut self, length: usize) -> usize {
        match self.pace.split {
            Some(max) if length > 1 => self.rng.random_range(1..=max.clamp(1, length)),
            _ => length,
        }
    }

    /// Passes bytes from `input` to `out` until the input is used up or a fault happens. Returns how many were used,
    /// and the fault (never [`Fault::Flip`], which happens here). Call it again after a fault, and once with no input
    /// at the start: a fault may stand before the first byte.
    pub fn process(&mut self, input: &[u8], out: &mut impl Extend<u8>) -> (usize, Option<Fault>) {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let due = self.faults.iter().position(|(at, _)| *at == At::Byte(self.passed));
            if let Some(index) = due {
                if let (_, Fault::Flip(bits)) = self.faults[index] {
                    let Some(byte) = rest.first() else { return (used, None) };
                    self.faults.swap_remove(index);
                    self.fired += 1;
                    self.pass(&[*byte], &[byte ^ bits], out);
                    used += 1;
                    continue;
                }
                self.fired += 1;
                return (used, Some(self.faults.swap_remove(index).1));
            }
            if rest.is_empty() {
                return (used, None);
            }
            let next = self.faults.iter().filter_map(|(at, _)| match at {
                At::Byte(byte) if *byte > self.passed => Some(byte - self.passed),
                _ => None,
            });
            let allowed = next.min().map_or(rest.len(), |n| usize::try_from(n).unwrap_or(usize::MAX));
            let part = &rest[..allowed.min(rest.len())];
            used += self.pass(part, part, out);
        }
    }

    /// Passes `shown` for `real`, at most to the next boundary when frames matter.
    fn pass(&mut self, real: &[u8], shown: &[u8], out: &mut impl Extend<u8>) -> usize {
        let length = if self.tracking { self.frames.follow(real) } else { real.len() };
        out.extend(shown[..length].iter().copied());
        self.passed += length as u64;
        if self.tracking {
            let seen = self.frames.seen();
            for (at, _) in &mut self.faults {
                if let At::Frame { frame, plus } = *at
                    && frame + 1 == seen
                {
                    *at = At::Byte(self.passed + plus);
                }
            }
            self.tracking = self.faults.iter().any(|(at, _)| matches!(at, At::Frame { .. }));
        }
        length
    }
}
