//! Bytes with a known value at every offset, so that what arrives can be checked as it comes, without keeping it: a
//! byte that is lost, doubled, changed or swapped is seen where it happens.
//!
//! Noise is for wires that carry bytes as they are. Lines are for terminals, and for whoever comes in the middle: each
//! line says where it stands.

/// The bytes of one stream of one session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    key: u64,
    form: Form,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Noise,
    /// Lines of 15 characters and this ending.
    Lines(&'static [u8]),
}

/// What a line holds before its ending: seven hexadecimal digits of the session, a space, seven of the line.
const LINE: usize = 15;

impl Content {
    /// The stream `channel` of the session `seed`: bytes without any order.
    #[must_use]
    pub fn new(seed: u64, channel: u8) -> Self {
        Self { key: mix(seed ^ u64::from(channel).rotate_right(8)), form: Form::Noise }
    }

    /// Lines of text that say which they are, at most 2^28 of them.
    #[must_use]
    pub fn lines(seed: u64) -> Self {
        Self { key: seed & 0x0fff_ffff, form: Form::Lines(b"\n") }
    }

    /// The same lines as a terminal shows them (ONLCR).
    #[must_use]
    pub fn lines_on_a_terminal(seed: u64) -> Self {
        Self { form: Form::Lines(b"\r\n"), ..Self::lines(seed) }
    }

    /// How long a line is with its ending; `None` where there are none.
    #[must_use]
    pub fn line_length(&self) -> Option<u64> {
        match self.form {
            Form::Noise => None,
            Form::Lines(ending) => Some((LINE + ending.len()) as u64),
        }
    }

    fn line(&self, number: u64, ending: &[u8]) -> Vec<u8> {
        let mut line = format!("{:07x} {:07x}", self.key, number & 0x0fff_ffff).into_bytes();
        line.extend_from_slice(ending);
        line
    }

    /// Fills `into` with the bytes from `offset` on.
    pub fn fill(&self, offset: u64, into: &mut [u8]) {
        if let Form::Lines(ending) = self.form {
            let length = (LINE + ending.len()) as u64;
            let (mut number, mut skip) = (offset / length, (offset % length) as usize);
            let mut rest = into;
            while !rest.is_empty() {
                let line = self.line(number, ending);
                let take = (line.len() - skip).min(rest.len());
                let (head, tail) = rest.split_at_mut(take);
                head.copy_from_slice(&line[skip..skip + take]);
                rest = tail;
                skip = 0;
                number += 1;
            }
            return;
        }
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

impl Content {
    /// Where `head` stands, which is some part of the lines, at least two of them long.
    fn find(&self, head: &[u8]) -> Option<u64> {
        let length = self.line_length()?;
        // What follows is checked as everything is.
        let head = head.get(..2 * length as usize)?;
        (0..length).find_map(|skew| {
            let line = head.get(skew as usize..)?.get(..LINE)?;
            let number = u64::from_str_radix(std::str::from_utf8(line.get(8..)?).ok()?, 16).ok()?;
            let offset = (number * length).checked_sub(skew)?;
            (self.bytes(offset, head.len()) == head).then_some(offset)
        })
    }
}

/// splitmix64: every input bit moves every output bit.
fn mix(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

/// Checks that what arrives is the beginning of a content, or, for one that joins late, a part of it.
#[derive(Debug, Clone)]
pub struct Checker {
    content: Content,
    length: u64,
    seen: u64,
    wrong: Option<u64>,
    /// Where the first byte stands; `None`: not known yet.
    start: Option<u64>,
    /// What came while that was not known.
    head: Vec<u8>,
}

impl Checker {
    /// For the first `length` bytes of `content`.
    #[must_use]
    pub fn new(content: Content, length: u64) -> Self {
        Self { content, length, seen: 0, wrong: None, start: Some(0), head: Vec::new() }
    }

    /// For lines of which the first `length` bytes exist, from any place on: what comes tells from which.
    #[must_use]
    pub fn late(content: Content, length: u64) -> Self {
        Self { start: None, ..Self::new(content, length) }
    }

    /// Takes what came.
    pub fn feed(&mut self, data: &[u8]) {
        let Some(start) = self.start else {
            self.head.extend_from_slice(data);
            // Two lines hold a whole one, wherever they were cut.
            if self.head.len() as u64 >= 2 * self.content.line_length().unwrap_or(0) {
                let head = std::mem::take(&mut self.head);
                self.start = self.content.find(&head);
                match self.start {
                    Some(_) => self.feed(&head),
                    None => {
                        self.wrong = Some(0);
                        self.start = Some(0);
                        self.seen += head.len() as u64;
                    }
                }
            }
            return;
        };
        let mut expected = [0; 4096];
        for part in data.chunks(expected.len()) {
            let expected = &mut expected[..part.len()];
            let at = start + self.seen;
            self.content.fill(at, expected);
            if self.wrong.is_none() {
                let first = part.iter().zip(expected.iter()).position(|(a, b)| a != b);
                let beyond = at + part.len() as u64 > self.length;
                self.wrong = first.map(|first| at + first as u64).or_else(|| beyond.then_some(self.length));
            }
            self.seen += part.len() as u64;
        }
    }

    /// Bytes that came.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen + self.head.len() as u64
    }

    /// Where the first byte stands that is not the right one, or is one too many.
    #[must_use]
    pub fn wrong(&self) -> Option<u64> {
        self.wrong
    }

    /// Whether exactly everything came, for one that joined late from where it joined.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        match self.start {
            Some(start) => self.wrong.is_none() && start + self.seen == self.length,
            // Too little to tell: then it must be the very end.
            None => {
                let from = self.length.saturating_sub(self.head.len() as u64);
                self.content.bytes(from, self.head.len()) == self.head
            }
        }
    }
}

impl std::fmt::Display for Checker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} of {} bytes", self.seen(), self.length)?;
        if let Some(start @ 1..) = self.start {
            write!(f, " from {start} on")?;
        }
        self.wrong.map_or(Ok(()), |at| write!(f, ", wrong at {at}"))
    }
}
