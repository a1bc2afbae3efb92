//! What a wire does to a session, as a value: printed as one line, read back from it, or drawn from a seed.
//!
//! A line looks like `seed=7 up@120:fin down@f3+1:flip=08 down:split=5`: the way, the place, the fault. The place is
//! a byte offset of that direction, the HTTP head included, or `fN`, where WebSocket frame N begins (0: right behind
//! the head), or a TLS record where the stream is TLS.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// A direction of a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

impl Way {
    /// Both of them.
    pub const BOTH: [Self; 2] = [Self::Up, Self::Down];

    /// 0 for up, 1 for down.
    #[must_use]
    pub fn index(self) -> usize {
        usize::from(self == Self::Down)
    }

    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        if self == Self::Up { Self::Down } else { Self::Up }
    }
}

/// A place in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// When this many bytes have passed.
    Byte(u64),
    /// This many bytes after frame (or TLS record) `frame` began. Frame 0 begins behind the HTTP head.
    Frame {
        /// Which frame, from 0.
        frame: u64,
        /// Bytes after its beginning.
        plus: u64,
    },
}

/// What happens there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Both directions end as if both peers had closed: FIN.
    Fin,
    /// Both directions fail: RST. What the receivers had not read yet is gone.
    Reset,
    /// This direction ends with FIN, the other goes on.
    HalfClose,
    /// Nothing passes in this direction for so long, or for ever.
    Stall(Option<Duration>),
    /// Nothing passes in either direction any more, and nobody is told: a cable was pulled.
    Vanish,
    /// The byte at the place is changed by exclusive or with this, which is not 0.
    Flip(u8),
}

/// How one direction is slowed down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// What passes is handed on in pieces of 1 to this many bytes.
    pub split: Option<usize>,
    /// Each piece comes this much later.
    pub delay: Option<Duration>,
    /// At most this many bytes a second.
    pub rate: Option<u64>,
}

/// The largest TLS record on the wire (RFC 8446, 5.2), in bytes.
const RECORD: u32 = (16 << 10) + 256;

/// How long one may take: the shortest deadline for an answer is 30 s.
const RECORD_TAKES: Duration = Duration::from_secs(20);

/// What a wire does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Plan {
    /// Where the random numbers of splits start.
    pub seed: u64,
    /// The faults, in any order.
    pub faults: Vec<(Way, At, Fault)>,
    /// How fast the directions are: up, down.
    pub pace: [Pace; 2],
}

impl Plan {
    /// A wire that does nothing to anybody.
    #[must_use]
    pub fn smooth() -> Self {
        Self::default()
    }

    /// One fault at one place.
    #[must_use]
    pub fn one(way: Way, at: At, fault: Fault) -> Self {
        Self { faults: vec![(way, at, fault)], ..Self::default() }
    }

    /// Adds a fault.
    #[must_use]
    pub fn and(mut self, way: Way, at: At, fault: Fault) -> Self {
        self.faults.push((way, at, fault));
        self
    }

    /// Whether nothing is lost on this wire, only slowed down: a session over it must be complete.
    #[must_use]
    pub fn is_harmless(&self) -> bool {
        self.faults.iter().all(|(_, _, fault)| matches!(fault, Fault::Stall(Some(_))))
    }

    /// Whether a byte is changed.
    #[must_use]
    pub fn flips(&self) -> bool {
        self.faults.iter().any(|(_, _, fault)| matches!(fault, Fault::Flip(_)))
    }

    /// A plan that depends on `seed` alone: usually one fault somewhere in a session that moves about `up` and `down`
    /// bytes, sometimes none, sometimes two; often slowed down. No byte is changed.
    #[must_use]
    pub fn random(seed: u64, up: u64, down: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed);
        let mut plan = Self { seed, ..Self::default() };
        for _ in 0..[1, 1, 1, 1, 1, 1, 0, 2][rng.random_range(0..8)] {
            let way = Way::BOTH[rng.random_range(0..2)];
            let length = [up, down][way.index()].max(1);
            let at = if rng.random_bool(0.25) {
                At::Frame { frame: rng.random_range(0..8), plus: rng.random_range(0..6) }
            } else if rng.random_bool(0.3) {
                // Near the end: where the last output, the status and Close follow each other.
                At::Byte(length.saturating_sub(rng.random_range(0..250)))
            } else {
                At::Byte(rng.random_range(0..=length))
            };
            let fault = match rng.random_range(0..14) {
                0..4 => Fault::Fin,
                4..8 => Fault::Reset,
                8..10 => Fault::HalfClose,
                10 => Fault::Stall(None),
                11 => Fault::Vanish,
                _ => Fault::Stall(Some(Duration::from_millis(rng.random_range(1..100_000)))),
            };
            plan.faults.push((way, at, fault));
        }
        for pace in &mut plan.pace {
            if rng.random_bool(0.2) {
                pace.split = Some(rng.random_range(1..2000));
            }
            if rng.random_bool(0.1) {
                pace.delay = Some(Duration::from_millis(rng.random_range(1..300)));
                // Pieces of a few bytes would make hours of a long session.
                pace.split = pace.split.map(|split| split + 200);
            }
            if rng.random_bool(0.1) {
                pace.rate = Some(1 << rng.random_range(12..24));
            }
        }
        plan
    }

    /// Under TLS nothing of a record is seen before it is whole: a line that takes longer for one than an answer may take
    /// cannot be told from one that stands still. Makes each direction, which holds `capacity` bytes, faster than that.
    pub fn carry_records(&mut self, capacity: usize) {
        for pace in &mut self.pace {
            let Some(delay) = pace.delay else { continue };
            let (step, pause) = match (pace.rate, pace.split) {
                (Some(rate), _) => (capacity.min((rate / 20) as usize), Duration::from_millis(50)),
                // Pieces are of 1 to that many bytes.
                (None, Some(split)) => (capacity.min(split) / 2, Duration::ZERO),
                (None, None) => (capacity, Duration::ZERO),
            };
            let most = RECORD_TAKES * step.max(1) as u32 / RECORD;
            pace.delay = Some(delay.min(most.saturating_sub(pause)));
        }
    }

    /// As [`random`](Self::random) for a real clock: nothing takes longer than a second or so, and no direction is
    /// silent for ever.
    #[must_use]
    pub fn brief(seed: u64, up: u64, down: u64) -> Self {
        let mut plan = Self::random(seed, up, down);
        for (_, _, fault) in &mut plan.faults {
            *fault = match *fault {
                Fault::Stall(None) => Fault::Reset,
                Fault::Vanish => Fault::Fin,
                Fault::Stall(Some(time)) => Fault::Stall(Some(time / 250)),
                fault => fault,
            };
        }
        for pace in &mut plan.pace {
            // A delay for each piece of a long session adds up.
            pace.split = pace.split.map(|split| split + 200);
            pace.delay = pace.delay.map(|delay| delay / 100);
            pace.rate = pace.rate.map(|rate| rate.max(1 << 18));
        }
        plan
    }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={}", self.seed)?;
        let name = |way: Way| if way == Way::Up { "up" } else { "down" };
        for (way, at, fault) in &self.faults {
            write!(f, " {}@", name(*way))?;
            match at {
                At::Byte(byte) => write!(f, "{byte}:")?,
                At::Frame { frame, plus } => write!(f, "f{frame}+{plus}:")?,
            }
            match fault {
                Fault::Fin => f.write_str("fin")?,
                Fault::Reset => f.write_str("rst")?,
                Fault::HalfClose => f.write_str("half")?,
                Fault::Vanish => f.write_str("vanish")?,
                Fault::Stall(None) => f.write_str("stall")?,
                Fault::Stall(Some(time)) => write!(f, "stall={}", time.as_millis())?,
                Fault::Flip(bits) => write!(f, "flip={bits:02x}")?,
            }
        }
        for way in Way::BOTH {
            let Pace { split, delay, rate } = self.pace[way.index()];
            if let Some(split) = split {
                write!(f, " {}:split={split}", name(way))?;
            }
            if let Some(delay) = delay {
                write!(f, " {}:delay={}", name(way), delay.as_millis())?;
            }
            if let Some(rate) = rate {
                write!(f, " {}:rate={rate}", name(way))?;
            }
        }
        Ok(())
    }
}

impl FromStr for Plan {
    type Err = String;

    fn from_str(line: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for word in line.split_whitespace() {
            parse_word(word, &mut plan).ok_or_else(|| format!("{word:?} is no part of a plan"))?;
        }
        Ok(plan)
    }
}

fn parse_word(word: &str, plan: &mut Plan) -> Option<()> {
    if let Some(seed) = word.strip_prefix("seed=") {
        plan.seed = seed.parse().ok()?;
        return Some(());
    }
    let (place, what) = word.split_once(':')?;
    let (way, at) = place.split_once('@').map_or((place, None), |(way, at)| (way, Some(at)));
    let way = match way {
        "up" => Way::Up,
        "down" => Way::Down,
        _ => return None,
    };
    let (what, value) = what.split_once('=').map_or((what, None), |(what, value)| (what, Some(value)));
    let millis = |text: &str| Some(Duration::from_millis(text.parse().ok()?));
    let Some(at) = at else {
        let pace = &mut plan.pace[way.index()];
        match what {
            "split" => pace.split = Some(value?.parse().ok()?),
            "delay" => pace.delay = Some(millis(value?)?),
            "rate" => pace.rate = Some(value?.parse().ok()?),
            _ => return None,
        }
        return Some(());
    };
    let at = match at.strip_prefix('f') {
        Some(at) => {
            let (frame, plus) = at.split_once('+').unwrap_or((at, "0"));
            At::Frame { frame: frame.parse().ok()?, plus: plus.parse().ok()? }
        }
        None => At::Byte(at.parse().ok()?),
    };
    let fault = match (what, value) {
        ("fin", None) => Fault::Fin,
        ("rst", None) => Fault::Reset,
        ("half", None) => Fault::HalfClose,
        ("vanish", None) => Fault::Vanish,
        ("stall", None) => Fault::Stall(None),
        ("stall", Some(time)) => Fault::Stall(Some(millis(time)?)),
        ("flip", Some(bits)) => Fault::Flip(u8::from_str_radix(bits, 16).ok()?),
        _ => return None,
    };
    plan.faults.push((way, at, fault));
    Some(())
}
