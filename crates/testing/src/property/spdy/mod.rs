//! SPDY: frames written by hand, and the properties of whoever reads them.

pub mod frames;
pub mod inflate;
pub mod linked;
pub mod session;

use flate2::{Compress, Compression, FlushCompress};
use wsstream_proto::spdy::dictionary::DICTIONARY;

use super::Choices;

/// A frame of which all fields are legal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// DATA.
    Data {
        /// The stream, not 0.
        id: u32,
        /// The payload.
        bytes: Vec<u8>,
        /// FIN.
        fin: bool,
    },
    /// SYN_STREAM, SYN_REPLY or HEADERS, by their numbers.
    Block {
        /// 1, 2 or 8.
        kind: u16,
        /// The stream, not 0.
        id: u32,
        /// FIN.
        fin: bool,
        /// The header block, compressed.
        block: Vec<u8>,
    },
    /// RST_STREAM.
    Reset {
        /// The stream, not 0.
        id: u32,
        /// The reason.
        status: u32,
    },
    /// PING, not 0.
    Ping(u32),
    /// GOAWAY.
    GoAway {
        /// The last stream.
        last: u32,
        /// The reason.
        status: u32,
    },
    /// A frame that is read over, by its number.
    Unused {
        /// 4, 5, 9, or above 9.
        kind: u16,
        /// The payload.
        bytes: Vec<u8>,
    },
}

impl Frame {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let words = |words: &[u32]| -> Vec<u8> { words.iter().flat_map(|word| word.to_be_bytes()).collect() };
        let control = |kind: u16, fin: bool, payload: &[u8]| {
            let head = [0x8003_0000 | u32::from(kind), u32::from(fin) << 24 | payload.len() as u32];
            [words(&head), payload.to_vec()].concat()
        };
        match self {
            Self::Data { id, bytes, fin } => {
                [words(&[*id, u32::from(*fin) << 24 | bytes.len() as u32]), bytes.clone()].concat()
            }
            Self::Block { kind, id, fin, block } => {
                let fixed = if *kind == 1 { [words(&[*id, 0]), vec![0, 0]].concat() } else { words(&[*id]) };
                control(*kind, *fin, &[fixed, block.clone()].concat())
            }
            Self::Reset { id, status } => control(3, false, &words(&[*id, *status])),
            Self::Ping(id) => control(6, false, &words(&[*id])),
            Self::GoAway { last, status } => control(7, false, &words(&[*last, *status])),
            Self::Unused { kind, bytes } => control(*kind, false, bytes),
        }
    }
}

/// Compresses the header blocks of one direction.
pub enum Packer {
    /// Stored blocks.
    Stored {
        /// The zlib header is written.
        begun: bool,
    },
    /// As Go does it.
    Zlib(Box<Compress>),
}

impl Packer {
    /// One of both: the dull one is cheap.
    #[must_use]
    pub fn pick(choices: &mut Choices<'_>) -> Self {
        if choices.once_in(4) {
            let mut compress = Compress::new(Compression::new(choices.below(10) as u32), true);
            compress.set_dictionary(DICTIONARY).expect("a fresh stream takes a dictionary");
            Self::Zlib(Box::new(compress))
        } else {
            Self::Stored { begun: false }
        }
    }

    /// The next block.
    pub fn pack(&mut self, plain: &[u8]) -> Vec<u8> {
        match self {
            Self::Stored { begun } => {
                let mut out = if std::mem::replace(begun, true) { vec![] } else { vec![0x78, 1] };
                out.push(0);
                out.extend((plain.len() as u16).to_le_bytes());
                out.extend((!(plain.len() as u16)).to_le_bytes());
                out.extend(plain);
                out.extend([0, 0, 0, 0xff, 0xff]);
                out
            }
            Self::Zlib(compress) => {
                let mut out = Vec::with_capacity(plain.len() + 1024);
                compress
                    .compress_vec(plain, &mut out, FlushCompress::Sync)
                    .expect("compression does not fail");
                out
            }
        }
    }
}

/// The plain form of some headers.
#[must_use]
pub fn plain(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = (headers.len() as u32).to_be_bytes().to_vec();
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        out.extend((text.len() as u32).to_be_bytes());
        out.extend(text.as_bytes());
    }
    out
}

/// Headers of a stream: usual, none, or none that can be read.
fn headers(choices: &mut Choices<'_>) -> Vec<u8> {
    let kind = choices.pick(&["error", "data", "stdin", "stdout", "resize"]);
    match choices.below(16) {
        0..=7 => plain(&[("streamtype", kind)]),
        8..=11 => plain(&[("streamtype", kind), ("port", "8080"), ("requestid", "0")]),
        12..=14 => plain(&[]),
        // At least a byte: a block of none has no compressed form either.
        _ => choices.payload().into_iter().take(300).chain([0]).collect(),
    }
}

/// Frames as a peer may send them in a session: numbers of both kinds, mostly rising, and few enough to meet again.
#[must_use]
pub fn legal(choices: &mut Choices<'_>) -> Vec<Frame> {
    let mut packer = Packer::pick(choices);
    let (mut frames, mut next) = (Vec::new(), 1 + choices.below(2) as u32);
    while !choices.is_empty() && frames.len() < 60 {
        let id = 1 + choices.below(10) as u32;
        let fin = choices.once_in(4);
        frames.push(match choices.below(16) {
            0..=3 => {
                let id = if choices.once_in(8) { id } else { next };
                next += 2;
                Frame::Block { kind: 1, id, fin, block: packer.pack(&headers(choices)) }
            }
            4 => Frame::Block { kind: 2, id, fin, block: packer.pack(&headers(choices)) },
            5 => Frame::Block { kind: 8, id, fin, block: packer.pack(&headers(choices)) },
            6..=10 => Frame::Data { id, bytes: choices.payload(), fin },
            11 | 12 => Frame::Reset { id, status: choices.below(12) as u32 },
            13 => Frame::Ping(1 + choices.below(20) as u32),
            14 if choices.once_in(8) => Frame::GoAway { last: id, status: choices.below(3) as u32 },
            14 => Frame::Unused { kind: 10 + choices.below(20) as u16, bytes: choices.payload() },
            _ => match choices.below(3) {
                0 => Frame::Unused { kind: 5, bytes: vec![] },
                1 => Frame::Unused { kind: 9, bytes: vec![0; 8] },
                _ => {
                    let count = choices.below(5);
                    let bytes = [(count as u32).to_be_bytes().to_vec(), vec![7; 8 * count]].concat();
                    Frame::Unused { kind: 4, bytes }
                }
            },
        });
    }
    frames
}

/// What a peer may send that follows no rule, or a few: frames with a byte changed here and there, or anything.
#[must_use]
pub fn wild(choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.once_in(4) {
        return choices.rest().to_vec();
    }
    let mut part = choices.split();
    let mut bytes: Vec<u8> = legal(choices).iter().flat_map(Frame::encode).collect();
    while !part.is_empty() && !bytes.is_empty() {
        let at = usize::from(part.word()) % bytes.len();
        match part.below(4) {
            0 => bytes[at] = part.byte(),
            1 => bytes[at] ^= 1 << part.below(8),
            2 => bytes.truncate(at),
            _ => _ = bytes.remove(at),
        }
    }
    bytes
}
