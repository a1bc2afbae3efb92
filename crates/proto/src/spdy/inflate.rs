//! Reads the compressed form of header blocks: one zlib stream for the life of a session (draft section 2.6.10.1).
//!
//! The inflating itself is `miniz_oxide`'s core, over a window that is filled with the dictionary beforehand. It was
//! chosen over `flate2` with `zlib-rs` because it forbids `unsafe`, has no C, allocates nothing and is small; `flate2`
//! over `miniz_oxide` has no dictionaries. A property test compares the two.
//!
//! More is accepted than Go accepts: any level and window size, no dictionary at all, and blocks that end without the
//! sync marker. What counts is that the plain block is whole, and that is checked by whoever reads it.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::{DecompressorOxide, decompress_with_limit, inflate_flags};

use super::dictionary::{DICTIONARY, DICTIONARY_ID};

/// The window of the compression in bytes: the largest that zlib has.
pub(super) const WINDOW: usize = 32 * 1024;

/// Inflates the blocks of one direction, in their order. 43 KiB, allocated when the first block comes.
#[derive(Debug, Default)]
pub struct Inflater {
    /// What has come of the zlib header while it is not whole.
    head: Vec<u8>,
    stream: Option<Box<Stream>>,
}

struct Stream {
    state: DecompressorOxide,
    window: [u8; WINDOW],
    /// Where the next byte goes in the window.
    at: usize,
}

impl std::fmt::Debug for Stream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").field("at", &self.at).finish_non_exhaustive()
    }
}

impl Inflater {
    /// Inflates the next piece of the stream behind what is in `plain`, which stays within `limit` bytes.
    ///
    /// # Errors
    ///
    /// The stream cannot be followed any more: `plain` is of no use, and neither is anything behind it.
    pub fn inflate(&mut self, piece: &[u8], plain: &mut Vec<u8>, limit: usize) -> Result<(), InflateError> {
        let mut piece = piece;
        if self.stream.is_none() {
            let used = self.header(piece)?;
            piece = piece.get(used..).unwrap_or_default();
        }
        match &mut self.stream {
            Some(stream) => stream.inflate(piece, plain, limit),
            None => Ok(()),
        }
    }

    /// Reads the zlib header (RFC 1950 section 2.2) and says how much of `piece` belongs to it.
    fn header(&mut self, piece: &[u8]) -> Result<usize, InflateError> {
        for (used, byte) in piece.iter().enumerate() {
            self.head.push(*byte);
            let preset = match *self.head.as_slice() {
                [method, flags] => {
                    let check = u16::from_be_bytes([method, flags]) % 31;
                    if method & 0x0f != 8 || method >> 4 > 7 || check != 0 {
                        return Err(InflateError::ZlibHeader);
                    }
                    if flags & 0x20 != 0 {
                        continue;
                    }
                    false
                }
                [_, _, a, b, c, d] => match u32::from_be_bytes([a, b, c, d]) {
                    DICTIONARY_ID => true,
                    other => return Err(InflateError::Dictionary(other)),
                },
                _ => continue,
            };
            self.stream = Some(Stream::new(preset));
            self.head = Vec::new();
            return Ok(used + 1);
        }
        Ok(piece.len())
    }
}

impl Stream {
    fn new(preset: bool) -> Box<Self> {
        let mut stream = Box::new(Self { state: DecompressorOxide::new(), window: [0; WINDOW], at: 0 });
        if preset && let Some(end) = stream.window.last_chunk_mut() {
            // The window is a ring: what stands at its end is what comes before its beginning.
            *end = *DICTIONARY;
        }
        stream
    }

    fn inflate(&mut self, mut piece: &[u8], plain: &mut Vec<u8>, limit: usize) -> Result<(), InflateError> {
        loop {
            // One byte more than allowed tells a block at its limit from one beyond it.
            let room = (limit + 1).saturating_sub(plain.len());
            let (status, used, written) = decompress_with_limit(
                &mut self.state,
                piece,
                &mut self.window,
                self.at,
                room.min(WINDOW - self.at),
                inflate_flags::TINFL_FLAG_HAS_MORE_INPUT,
            );
            plain.extend_from_slice(self.window.get(self.at..self.at + written).unwrap_or_default());
            self.at = (self.at + written) % WINDOW;
            piece = piece.get(used..).unwrap_or_default();
            if plain.len() > limit {
                return Err(InflateError::TooLong { limit });
            }
            match status {
                TINFLStatus::NeedsMoreInput => return Ok(()),
                TINFLStatus::HasMoreOutput => {}
                TINFLStatus::Done => return Err(InflateError::Ended),
                _ => return Err(InflateError::Corrupt),
            }
        }
    }
}

/// Why a header block cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The first block does not begin with a zlib header (RFC 1950 section 2.2).
    #[error("it does not begin with a zlib header")]
    ZlibHeader,
    /// The stream asks for another dictionary than SPDY/3's.
    #[error("it wants the dictionary {0:08x}")]
    Dictionary(u32),
    /// It is no deflate data (RFC 1951).
    #[error("it is no deflate data")]
    Corrupt,
    /// The compressed stream says that it ends, and it has to last as long as the session.
    #[error("the compressed stream ends")]
    Ended,
    /// It inflates to more bytes than [`Limits::max_header_block`](super::Limits::max_header_block).
    #[error("it inflates to more than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}
