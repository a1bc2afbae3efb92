//! Bytes with a known value at every offset, so that what arrives can be checked as it comes, without keeping it: a
//! byte that is lost, doubled, changed or swapped is seen where it happens.

/// The bytes of one stream of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    key: u64,
}

impl Content {
    /// The stream `channel` of the session `seed`.
    #[must_use]
    pub fn new(seed: u64, channel: u8) -> Self {
        Self { key: mix(seed ^ u64::from(channel).rotate_right(8)) }
    }

    /// Fills `into` with the bytes from `offset` on.
    pub fn fill(&self, offset: u64, into: &mut [u8]) {
        let mut at = offset;
        let mut rest = into;
        while !rest.is_empty() {
            let word = mix(self.key.wrapping_add(at >> 3)).to_le_bytes();
            let part = &word[(at & 7) as usize..];
            let take = part.len().min(rest.len());
            let (head, tail) = rest.split_at_mut(take);
            head.copy_from_slice(&part[..take]);
            at += take as u64;
            rest = tail;
        }
    }

    /// `length` bytes from `offset` on.
    #[must_use]
    pub fn bytes(&self, offset: u64, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        self.fill(offset, &mut bytes);
        bytes
    }
}

/// splitmix64: every input bit moves every output bit.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Checks that what arrives is the beginning of a content.
#[derive(Debug, Clone)]
pub struct Checker {
    content: Content,
    length: u64,
    seen: u64,
    wrong: Option<u64>,
}

impl Checker {
    /// For the first `length` bytes of `content`.
    #[must_use]
    pub fn new(content: Content, length: u64) -> Self {
        Self { content, length, seen: 0, wrong: None }
    }

    /// Takes what came.
    pub fn feed(&mut self, data: &[u8]) {
        let mut expected = [0; 4096];
        for part in data.chunks(expected.len()) {
            let expected = &mut expected[..part.len()];
            self.content.fill(self.seen, expected);
            if self.wrong.is_none() {
                let first = part.iter().zip(expected.iter()).position(|(a, b)| a != b);
                let beyond = self.seen + part.len() as u64 > self.length;
                self.wrong = first.map(|at| self.seen + at as u64).or_else(|| beyond.then_some(self.length));
            }
            self.seen += part.len() as u64;
        }
    }

    /// Bytes that came.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Where the first byte stands that is not the right one, or is one too many.
    #[must_use]
    pub fn wrong(&self) -> Option<u64> {
        self.wrong
    }

    /// Whether exactly everything came.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.wrong.is_none() && self.seen == self.length
    }
}

impl std::fmt::Display for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.seen, self.length)?;
        self.wrong.map_or(Ok(()), |at| write!(f, ", wrong at {at}"))
    }
}
