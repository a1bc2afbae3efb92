//! Where the frames of a direction begin: a fault between two frames is another case than one inside.
//!
//! The scanner follows what it sees: TLS records from the first byte on, or HTTP heads until the one that upgrades,
//! then WebSocket or SPDY frames. It judges nothing; on nonsense it merely finds boundaries that are none.

/// What comes behind the head that upgrades.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    WebSocket,
    Spdy,
    Tls,
}

#[derive(Debug)]
enum State {
    /// Nothing was seen.
    Start,
    /// A head, or a body and the next head.
    Http(Vec<u8>),
    /// In the header of a frame.
    Header(Vec<u8>),
    /// In its payload, of which this much is left.
    Payload(u64),
}

/// Finds the boundaries in one direction of a wire.
#[derive(Debug)]
pub struct Frames {
    state: State,
    kind: Kind,
    /// Boundaries seen.
    seen: u64,
}

impl Default for Frames {
    fn default() -> Self {
        Self { state: State::Start, kind: Kind::WebSocket, seen: 0 }
    }
}

impl Frames {
    /// How many frames have begun or are about to: 0 while the head is going on.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// Follows `data`, at most to the next boundary; returns how many bytes that were.
    pub fn follow(&mut self, data: &[u8]) -> usize {
        let before = self.seen;
        let mut at = 0;
        while at < data.len() && self.seen == before {
            if let State::Payload(left) = &mut self.state {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(data.len() - at);
                *left -= take as u64;
                at += take;
                if *left == 0 {
                    self.boundary();
                }
                continue;
            }
            self.byte(data[at]);
            at += 1;
        }
        at
    }

    fn boundary(&mut self) {
        self.seen += 1;
        self.state = State::Header(Vec::with_capacity(14));
    }

    fn byte(&mut self, byte: u8) {
        match &mut self.state {
            State::Start if byte == 0x16 => {
                self.kind = Kind::Tls;
                self.seen = 0;
                self.state = State::Header(vec![byte]);
            }
            State::Start => self.state = State::Http(vec![byte]),
            State::Http(head) => {
                head.push(byte);
                if head.ends_with(b"\r\n\r\n") {
                    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
                    if text.contains("\r\nupgrade: websocket") || text.contains("\r\nupgrade: spdy") {
                        self.kind =
                            if text.contains("\r\nupgrade: spdy") { Kind::Spdy } else { Kind::WebSocket };
                        self.boundary();
                    } else {
                        head.clear();
                    }
                }
            }
            State::Header(header) => {
                header.push(byte);
                match payload_length(self.kind, header) {
                    None => {}
                    Some(0) => self.boundary(),
                    Some(length) => self.state = State::Payload(length),
                }
            }
            State::Payload(_) => {}
        }
    }
}

/// The length of the payload once the header is whole.
fn payload_length(kind: Kind, header: &[u8]) -> Option<u64> {
    let number = |bytes: &[u8]| bytes.iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
    match kind {
        Kind::Tls => (header.len() == 5).then(|| number(&header[3..5])),
        Kind::Spdy => (header.len() == 8).then(|| number(&header[5..8])),
        Kind::WebSocket => {
            let second = *header.get(1)?;
            let extended = match second & 0x7f {
                126 => 2,
                127 => 8,
                _ => 0,
            };
            let mask = if second & 0x80 == 0 { 0 } else { 4 };
            let length =
                if extended == 0 { u64::from(second & 0x7f) } else { number(header.get(2..2 + extended)?) };
            (header.len() == 2 + extended + mask).then_some(length)
        }
    }
}
