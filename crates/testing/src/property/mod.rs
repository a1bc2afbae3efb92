//! The properties that hold for any input, as plain functions of bytes.
//!
//! A body reads what it does from [`Choices`]: the same function runs under proptest (`tests/properties.rs`) and
//! under a fuzzer (`fuzz/` at the root of the workspace), and a crash found by either is replayed by pasting its
//! bytes into a test. Bodies panic when the property does not hold.

pub mod connection;
pub mod decoder;
pub mod engines;
pub mod explore;
mod faults;
pub mod frames;
pub mod linked;
pub mod model;
pub mod outbox;
pub mod spdy;
pub mod spdy_tunnel;
pub mod targets;
pub mod text;

use proptest::test_runner::Config;

/// Input bytes taken as a sequence of decisions. When they run out, every further decision is 0: the dull one.
#[derive(Debug, Clone)]
pub struct Choices<'a>(&'a [u8]);

impl<'a> Choices<'a> {
    /// Decisions from these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Whether nothing is left to decide from.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One byte.
    pub fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Two bytes, big endian.
    pub fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    /// A number from 0 to `n` - 1; `n` is 1 to 256.
    pub fn below(&mut self, n: usize) -> usize {
        usize::from(self.byte()) % n
    }

    /// Whether a thing happens that happens once in `n` times; never when nothing is left.
    pub fn once_in(&mut self, n: usize) -> bool {
        self.below(n) == n - 1
    }

    /// One of several.
    pub fn pick<T: Clone>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())].clone()
    }

    /// The next `n` bytes, fewer when they run out.
    pub fn bytes(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// All that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        self.bytes(usize::MAX)
    }

    /// The first third of what is left, for decisions of another kind.
    #[must_use]
    pub fn split(&mut self) -> Self {
        Self(self.bytes(self.0.len() / 3))
    }

    /// A payload: usually short, sometimes at the edges of the three length forms, its bytes telling their places
    /// apart.
    pub fn payload(&mut self) -> Vec<u8> {
        let len = match self.below(16) {
            0..=9 => self.below(9),
            10..=12 => self.below(256),
            13 => self.pick(&[125, 126, 127, 4095, 4096, 4097]),
            14 if self.once_in(4) => self.pick(&[65_535, 65_536]),
            _ => usize::from(self.word()) % 5000,
        };
        let seed = self.byte();
        (0..len).map(|i| seed.wrapping_add((i % 251) as u8)).collect()
    }

    /// Cuts `bytes` into parts, none of them empty.
    pub fn cut<'b>(&mut self, mut bytes: &'b [u8]) -> Vec<&'b [u8]> {
        let mut parts = Vec::new();
        // Three in four inputs come in a handful of parts; the rest byte by byte or whole.
        let style = self.below(8);
        while !bytes.is_empty() {
            let n = match style {
                0 => bytes.len(),
                1 => 1,
                2 | 3 => 1 + self.below(4),
                _ => 1 + usize::from(self.word()) % 3000,
            };
            let (part, rest) = bytes.split_at(n.min(bytes.len()));
            parts.push(part);
            bytes = rest;
        }
        parts
    }
}

/// How many cases a property runs: `PROPTEST_CASES` where it is set, `cases` otherwise. Nothing is written to disk; a
/// failing input is printed and belongs into a test of its own.
#[must_use]
pub fn cases(cases: u32) -> Config {
    let wanted = std::env::var("PROPTEST_CASES").ok().and_then(|n| n.parse().ok());
    Config { cases: wanted.unwrap_or(cases), failure_persistence: None, ..Config::default() }
}

/// The mask key of frames that a property encodes as a client.
#[must_use]
pub fn mask_key() -> [u8; 4] {
    [0x37, 0xfa, 0x21, 0x3d]
}
