//! The text that both ends of the compression start from: SPDY/3's (draft section 2.6.10.1), as 1423 bytes.
//!
//! It begins with words of HTTP, each behind its length in four bytes, and ends with fragments of usual values.

/// The dictionary.
pub static DICTIONARY: &[u8; 1423] = include_bytes!("dictionary.bin");

/// Its Adler-32 (RFC 1950 section 2.3), which stands behind the zlib header of a stream that uses it.
pub const DICTIONARY_ID: u32 = 0xe3c6_a7c2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_id_is_its_checksum() {
        let (mut a, mut b) = (1u32, 0u32);
        for byte in DICTIONARY {
            a = (a + u32::from(*byte)) % 65_521;
            b = (b + a) % 65_521;
        }
        assert_eq!(b << 16 | a, DICTIONARY_ID);
        assert!(DICTIONARY.starts_with(b"\0\0\0\x07options\0\0\0\x04head"));
        assert!(DICTIONARY.ends_with(b",*,enq=0."));
    }
}
