//! Header blocks: what Go sends, what other compressors send, and what is none.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]
// Another zlib to compare with takes minutes for each block under Miri.
#![cfg(not(miri))]

mod spdy_peer;

use flate2::{Compress, Compression, FlushCompress};
use spdy_peer::{Packer, plain, words};
use wsstream_proto::spdy::deflate::Deflater;
use wsstream_proto::spdy::dictionary::DICTIONARY_ID;
use wsstream_proto::spdy::inflate::{InflateError, Inflater};
use wsstream_proto::spdy::{Headers, HeadersError, Limits};

const LIMIT: usize = 16 * 1024;

fn inflate(inflater: &mut Inflater, block: &[u8]) -> Result<Vec<u8>, InflateError> {
    let mut plain = Vec::new();
    inflater.inflate(block, &mut plain, LIMIT).map(|()| plain)
}

fn decode(block: &[u8]) -> Result<Headers, HeadersError> {
    Headers::decode(block.to_vec(), &Limits::default())
}

/// A few blocks as sessions send them: headers, an empty list, the same headers again, and a longer block.
fn blocks() -> Vec<Vec<u8>> {
    let pair = |kind| plain(&[("streamtype", kind), ("port", "8080"), ("requestid", "17")]);
    let long: String = (0..6000u32).map(|n| char::from(b'a' + (n * n % 26) as u8)).collect();
    vec![pair("error"), plain(&[]), pair("data"), plain(&[("x", &long)]), pair("error")]
}

#[test]
fn every_level_window_and_dictionary_is_read() {
    let mut packers = Vec::new();
    for level in 0..=9 {
        packers
            .push((format!("level {level}"), Packer::of(Compress::new(Compression::new(level), true), true)));
    }
    for bits in 9..=15 {
        let compress = Compress::new_with_window_bits(Compression::best(), true, bits);
        packers.push((format!("{bits} bits"), Packer::of(compress, true)));
    }
    packers.push(("no dictionary".to_owned(), Packer::of(Compress::new(Compression::best(), true), false)));
    for (name, mut packer) in packers {
        let mut inflater = Inflater::default();
        for block in blocks() {
            let packed = packer.pack(&block);
            assert!(packed.ends_with(&[0, 0, 0xff, 0xff]), "{name}");
            assert!(inflate(&mut inflater, &packed) == Ok(block), "{name}");
        }
    }
}

/// Go reads only the first block of a peer that flushes partially; here the plain form is what counts.
#[test]
fn every_flush_is_read_and_the_marker_may_come_late() {
    for flush in [FlushCompress::Full, FlushCompress::Partial, FlushCompress::Sync] {
        let (mut packer, mut inflater) = (Packer::new(), Inflater::default());
        for block in blocks() {
            let packed = packer.pack_with(&block, flush);
            assert!(inflate(&mut inflater, &packed) == Ok(block), "{flush:?}");
        }
    }
    let (mut packer, mut inflater, mut late) = (Packer::new(), Inflater::default(), Vec::new());
    for block in blocks() {
        let packed = [late, packer.pack(&block)].concat();
        let (first, marker) = packed.split_at(packed.len() - 4);
        assert!(inflate(&mut inflater, first) == Ok(block));
        late = marker.to_vec();
    }
}

#[test]
fn a_block_is_read_in_any_pieces() {
    let (mut packer, mut inflater) = (Packer::new(), Inflater::default());
    for block in blocks() {
        let mut read = Vec::new();
        for byte in packer.pack(&block) {
            inflater.inflate(&[byte], &mut read, LIMIT).unwrap();
        }
        assert!(read == block);
    }
}

#[test]
fn a_session_of_many_blocks_goes_round_the_window() {
    let (mut packer, mut inflater) = (Packer::new(), Inflater::default());
    for n in 0..20_000u32 {
        let block = plain(&[("streamtype", "data"), ("port", "8080"), ("requestid", &n.to_string())]);
        assert!(inflate(&mut inflater, &packer.pack(&block)) == Ok(block), "{n}");
    }
}

#[test]
fn what_is_no_stream_of_ours_is_refused() {
    let id = DICTIONARY_ID.to_be_bytes();
    let rows: &[(&[u8], InflateError)] = &[
        (&[0x78, 0x9d], InflateError::ZlibHeader),
        (&[0x79, 0x18], InflateError::ZlibHeader),
        (&[0x88, 0x1c], InflateError::ZlibHeader),
        (b"GET / HTTP/1.1", InflateError::ZlibHeader),
        (&[0x78, 0xbb, 1, 2, 3, 4], InflateError::Dictionary(0x0102_0304)),
        // A block of the reserved type, and a stored block whose length is not what it says.
        (&[0x78, 0x01, 0x07], InflateError::Corrupt),
        (&[0x78, 0x01, 0x00, 4, 0, 4, 0, 0, 0, 0, 0], InflateError::Corrupt),
        // The empty list, in the last block of the stream.
        (&[0x78, 0x01, 0x01, 4, 0, 0xfb, 0xff, 0, 0, 0, 0, 0, 4, 0, 1], InflateError::Ended),
    ];
    for (bytes, error) in rows {
        assert_eq!(inflate(&mut Inflater::default(), bytes), Err(*error), "{bytes:02x?}");
    }
    // Every level's flags are those of a stream with the dictionary, Go's and zlib's own.
    for flags in [0x20u8, 0x7d, 0xbb, 0xf9] {
        let head = [&[0x78, flags], &id[..]].concat();
        assert_eq!(inflate(&mut Inflater::default(), &head), Ok(Vec::new()), "{flags:02x}");
    }
}

/// Ten megabytes of zeros are ten kilobytes of input; the limit costs a hundred bytes of it.
#[test]
fn a_header_bomb_stops_at_the_limit() {
    let mut compress = Compress::new(Compression::best(), true);
    let mut bomb = Vec::with_capacity(1 << 20);
    compress.compress_vec(&vec![0; 10 << 20], &mut bomb, FlushCompress::Sync).unwrap();
    assert!(bomb.len() < 20_000);
    let mut plain = Vec::new();
    let error = Inflater::default().inflate(&bomb, &mut plain, LIMIT).unwrap_err();
    assert_eq!(error, InflateError::TooLong { limit: LIMIT });
    assert_eq!(plain.len(), LIMIT + 1);

    let exact = vec![7; LIMIT];
    assert!(inflate(&mut Inflater::default(), &Packer::new().pack(&exact)) == Ok(exact));
}

#[test]
fn what_is_written_is_read_by_another_zlib() {
    let mut deflater = Deflater::default();
    let mut decompress = flate2::Decompress::new(true);
    for block in blocks() {
        let packed = deflater.deflate(&block);
        let mut read = Vec::with_capacity(block.len() + 16);
        decompress.decompress_vec(&packed, &mut read, flate2::FlushDecompress::Sync).unwrap();
        assert!(read == block);
    }
}

#[test]
fn lists_are_read_to_the_last_byte() {
    assert_eq!(decode(&[0; 4]), Ok(Headers::default()));
    let headers = decode(&plain(&[("streamtype", "data"), ("port", "80\x0090"), ("empty", "")])).unwrap();
    assert_eq!(headers.len(), 3);
    assert_eq!(headers.get("Streamtype"), Some(&b"data"[..]));
    assert_eq!((headers.get("port"), headers.text("PORT")), (Some(&b"80\x0090"[..]), Some("80")));
    assert_eq!((headers.text("empty"), headers.text("none")), (Some(""), None));

    let whole = plain(&[("streamtype", "data")]);
    for len in 0..whole.len() {
        assert_eq!(decode(&whole[..len]), Err(HeadersError::Truncated), "{len}");
    }
    let rows = [
        (words(&[0, 0]), HeadersError::Trailing(4)),
        ([&whole[..], b"x"].concat(), HeadersError::Trailing(1)),
        (words(&[65]), HeadersError::TooMany(65)),
        (words(&[u32::MAX]), HeadersError::TooMany(u32::MAX)),
        (words(&[1, u32::MAX]), HeadersError::TooLong(u32::MAX)),
        (words(&[1, 129]), HeadersError::TooLong(129)),
        (plain(&[("", "x")]), HeadersError::EmptyName),
        (plain(&[("streamType", "x")]), HeadersError::UpperCase("streamType".to_owned())),
        (plain(&[("x", &"y".repeat(8193))]), HeadersError::TooLong(8193)),
    ];
    for (block, error) in rows {
        assert_eq!(decode(&block), Err(error));
    }
    let full: Vec<(String, String)> = (0..64).map(|n| (format!("{n:0>128}"), "v".repeat(100))).collect();
    let full: Vec<(&str, &str)> = full.iter().map(|(name, value)| (&name[..], &value[..])).collect();
    assert_eq!(decode(&plain(&full)).unwrap().len(), 64);
}

/// Names go to lower case by themselves; what Go would end the connection for is not sent.
#[test]
fn lists_are_written_as_go_reads_them() {
    let limits = Limits::default();
    let headers = Headers::from_iter([("streamType", "error"), ("port", "1")]);
    assert_eq!(headers.encode(&limits), Ok(plain(&[("streamtype", "error"), ("port", "1")])));
    let long = "x".repeat(8193);
    assert_eq!(Headers::from_iter([("a", long)]).encode(&limits), Err(HeadersError::TooLong(8193)));
    assert_eq!(Headers::from_iter([("", "b")]).encode(&limits), Err(HeadersError::EmptyName));
    let many = (0..65).map(|n| (n.to_string(), "v"));
    assert_eq!(Headers::from_iter(many).encode(&limits), Err(HeadersError::TooMany(65)));
    let wide = (0..3).map(|n| (n.to_string(), "v".repeat(8000)));
    assert_eq!(Headers::from_iter(wide).encode(&limits), Err(HeadersError::BlockTooLong));
}
