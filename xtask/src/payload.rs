//! The test pattern that big transfers carry: gigabytes that both sides can make, and hash, without storing them.
//!
//! Each 4 KiB page starts with its own offset, so bytes that are lost, doubled or reordered change the hash;
//! the rest of the page is fixed noise, so a compressor or a text translation on the way would show.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use sha2::{Digest as _, Sha256};

const PAGE: usize = 4096;
const BLOCK: usize = 16 * PAGE;

/// An iterator over blocks of the pattern.
#[derive(Debug)]
pub struct Payload {
    block: Vec<u8>,
    offset: u64,
    length: u64,
}

impl Payload {
    /// The first `length` bytes of the pattern.
    pub fn new(length: u64) -> Self {
        // A small xorshift: any fixed noise does, and no dependency is owed for it.
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        let mut block = Vec::with_capacity(BLOCK);
        while block.len() < BLOCK {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        Self { block, offset: 0, length }
    }

    /// The next bytes; `None` at the end.
    pub fn chunk(&mut self) -> Option<&[u8]> {
        let left = self.length.checked_sub(self.offset).filter(|left| *left > 0)?;
        for (index, page) in self.block.chunks_mut(PAGE).enumerate() {
            let at = self.offset + (index * PAGE) as u64;
            if let Some(stamp) = page.get_mut(..8) {
                stamp.copy_from_slice(&at.to_le_bytes());
            }
        }
        let take = usize::try_from(left).unwrap_or(BLOCK).min(BLOCK);
        self.offset += take as u64;
        self.block.get(..take)
    }

    /// SHA-256 of the first `length` bytes, in hex.
    pub fn hash(length: u64) -> String {
        let mut payload = Self::new(length);
        let mut hasher = Sha256::new();
        while let Some(chunk) = payload.chunk() {
            hasher.update(chunk);
        }
        hex(&hasher.finalize())
    }
}

/// SHA-256 of some bytes, in hex.
pub fn digest(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// Lowercase hex, as `sha256sum` prints it.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The hidden command that interop cases run as the remote process.
#[derive(Debug, clap::Args)]
pub struct Emit {
    /// How many bytes to write
    #[arg(long)]
    bytes: u64,
    /// The exit code afterwards
    #[arg(long, default_value_t = 0)]
    exit: u8,
}

impl Emit {
    /// Writes the pattern to stdout; 74 (EX_IOERR) when that fails.
    pub fn run(&self) -> ExitCode {
        match self.write() {
            Ok(()) => ExitCode::from(self.exit),
            Err(error) => {
                eprintln!("emit: {error}");
                ExitCode::from(74)
            }
        }
    }

    fn write(&self) -> io::Result<()> {
        let mut out = io::stdout().lock();
        let mut payload = Payload::new(self.bytes);
        while let Some(chunk) = payload.chunk() {
            out.write_all(chunk)?;
        }
        out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(length: u64) -> Vec<u8> {
        let mut payload = Payload::new(length);
        let mut bytes = Vec::new();
        while let Some(chunk) = payload.chunk() {
            bytes.extend_from_slice(chunk);
        }
        bytes
    }

    #[test]
    fn lengths_are_exact_and_a_shorter_payload_is_a_prefix() {
        for length in [0, 1, 4095, 4096, 65_536, 65_537, 300_000] {
            assert_eq!(whole(length).len() as u64, length);
        }
        assert_eq!(whole(300_000)[..70_000], whole(70_000));
    }

    #[test]
    fn a_swapped_page_changes_the_hash() {
        let bytes = whole(3 * 65_536);
        let mut swapped = bytes.clone();
        swapped[..65_536].copy_from_slice(&bytes[65_536..131_072]);
        swapped[65_536..131_072].copy_from_slice(&bytes[..65_536]);
        assert_eq!(hex(&Sha256::digest(&bytes)), Payload::hash(3 * 65_536));
        assert_ne!(hex(&Sha256::digest(&swapped)), Payload::hash(3 * 65_536));
    }
}
