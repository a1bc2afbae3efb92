//! Writes the compressed form of header blocks without a compressor: stored blocks (RFC 1951 section 3.2.4).
//!
//! Kubernetes' headers are a few dozen bytes, so a compressor would save 46 bytes a stream and cost 380 KB a session
//! (measured with zlib-rs). Go's spdystream reads stored blocks, in both roles.

use bytes::{BufMut, Bytes, BytesMut};

/// What a zlib stream begins with (RFC 1950 section 2.2): deflate, a window of 32 KiB, no dictionary.
const ZLIB_HEADER: [u8; 2] = [0x78, 0x01];

/// The empty stored block that ends each header block. Go's inflater hands nothing out before it.
const SYNC_MARKER: [u8; 5] = [0x00, 0x00, 0x00, 0xff, 0xff];

/// Wraps the header blocks of one direction. They must reach the wire in the order in which they were wrapped: the
/// first begins the zlib stream.
#[derive(Debug, Default)]
pub struct Deflater {
    begun: bool,
}

impl Deflater {
    /// The compressed form of `plain`.
    pub fn deflate(&mut self, plain: &[u8]) -> Bytes {
        let mut block = BytesMut::with_capacity(plain.len() + 12);
        if !std::mem::replace(&mut self.begun, true) {
            block.put_slice(&ZLIB_HEADER);
        }
        for part in plain.chunks(usize::from(u16::MAX)) {
            let len = u16::try_from(part.len()).unwrap_or(u16::MAX);
            block.put_u8(0);
            block.put_u16_le(len);
            block.put_u16_le(!len);
            block.put_slice(part);
        }
        block.put_slice(&SYNC_MARKER);
        block.freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The bytes of the reply that Go's client and server were seen to accept.
    #[test]
    fn an_empty_list_is_a_constant() {
        let mut deflater = Deflater::default();
        let first = deflater.deflate(&[0; 4]);
        assert_eq!(first, [0x78, 1, 0, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff][..]);
        assert_eq!(deflater.deflate(&[0; 4]), first.slice(2..));
    }

    #[test]
    fn what_is_longer_than_a_stored_block_takes_two() {
        let plain: Vec<u8> = (0..100_000u32).map(|n| (n % 251) as u8).collect();
        let packed = Deflater::default().deflate(&plain);
        let (mut read, mut inflater) = (Vec::new(), super::super::inflate::Inflater::default());
        inflater.inflate(&packed, &mut read, 200_000).unwrap();
        assert!(read == plain);
    }
}
