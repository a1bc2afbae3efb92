//! The inflater of header blocks beside zlib-rs: what one reads, the other reads alike.

use flate2::{Decompress, FlushDecompress, Status};
use wsstream_proto::spdy::dictionary::{DICTIONARY, DICTIONARY_ID};
use wsstream_proto::spdy::inflate::{InflateError, Inflater};

use super::Packer;
use crate::property::Choices;

const LIMIT: usize = 16 * 1024;

/// Blocks that were compressed in any way come out as they went in, in any cut.
pub fn round_trip(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut packer = Packer::pick(&mut choices);
    let mut inflater = Inflater::default();
    let mut blocks = 0;
    while !choices.is_empty() && blocks < 40 {
        blocks += 1;
        let block = if choices.once_in(2) {
            super::headers(&mut choices)
        } else {
            choices.payload().into_iter().take(20_000).collect()
        };
        let packed = packer.pack(&block);
        let mut plain = Vec::new();
        let mut result = Ok(());
        for part in choices.cut(&packed) {
            result = result.and_then(|()| inflater.inflate(part, &mut plain, LIMIT));
        }
        if block.len() > LIMIT {
            assert_eq!(result, Err(InflateError::TooLong { limit: LIMIT }));
            assert_eq!(plain.len(), LIMIT + 1);
            assert!(block.starts_with(&plain));
            return;
        }
        assert_eq!(result, Ok(()));
        assert!(plain == block, "a block of {} bytes came out differently", block.len());
    }
}

/// Any bytes: both inflaters read them alike, or both refuse them.
pub fn as_zlib_does(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut part = choices.split();
    let bytes = stream(&mut choices);
    let mut plain = Vec::new();
    let mut inflater = Inflater::default();
    let ours = inflater.inflate(&bytes, &mut plain, LIMIT);

    let mut again = (Vec::new(), Inflater::default());
    let mut cut = Ok(());
    for part in part.cut(&bytes) {
        cut = cut.and_then(|()| again.1.inflate(part, &mut again.0, LIMIT));
    }
    assert_eq!((&cut, &again.0), (&ours, &plain), "another cut of {bytes:02x?}");

    let (theirs, read) = zlib(&bytes);
    match (ours, theirs) {
        (Err(InflateError::TooLong { .. }), _) => assert_eq!(plain.len(), LIMIT + 1),
        // At the end zlib may wait for a checksum.
        (Ok(()), Zlib::More) | (Err(InflateError::Ended), Zlib::End | Zlib::More) => {
            assert!(plain == read, "read differently: {bytes:02x?}");
        }
        // The ring that we inflate into has no beginning: what lies before it is zeros. That harms nobody.
        (Ok(()) | Err(InflateError::Ended), Zlib::TooFarBack) => {}
        (Err(_), Zlib::Refused(_) | Zlib::TooFarBack) => {}
        // zlib takes an empty code for the code lengths and finds only behind them that nothing ends the block.
        (Err(InflateError::Corrupt), Zlib::More) => {
            let (later, _) = zlib(&[&bytes[..], &[0; 64]].concat());
            assert!(matches!(later, Zlib::Refused(_)), "{later:?}: {bytes:02x?}");
        }
        (ours, theirs) => panic!("{ours:?}, and zlib says {theirs:?}: {bytes:02x?}"),
    }
}

/// A zlib stream, with a few changes; or none.
fn stream(choices: &mut Choices<'_>) -> Vec<u8> {
    if choices.once_in(3) {
        let mut bytes = vec![0x78, 0x01];
        bytes.extend(choices.rest());
        return bytes;
    }
    let mut packer = Packer::pick(choices);
    let mut bytes = packer.pack(&super::headers(choices));
    for _ in 0..choices.below(4) {
        bytes.extend(packer.pack(&super::headers(choices)));
    }
    while !choices.is_empty() {
        let at = choices.below(256) % bytes.len();
        bytes[at] ^= choices.byte();
    }
    bytes
}

#[derive(Debug, PartialEq, Eq)]
enum Zlib {
    More,
    End,
    TooFarBack,
    Refused(String),
}

/// What zlib-rs makes of the same bytes. It gets them one by one, because its fast path does not say what is wrong.
fn zlib(bytes: &[u8]) -> (Zlib, Vec<u8>) {
    let mut zlib = Decompress::new(true);
    let mut plain = Vec::new();
    for byte in bytes {
        let before = zlib.total_in();
        // Once for the byte, again for what a dictionary or a full buffer held up.
        for _ in 0..3 {
            plain.reserve(1024);
            let rest = if zlib.total_in() == before { std::slice::from_ref(byte) } else { &[] };
            match zlib.decompress_vec(rest, &mut plain, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return (Zlib::End, plain),
                Ok(_) if rest.is_empty() => break,
                Ok(_) => {}
                Err(error) if error.needs_dictionary() == Some(DICTIONARY_ID) => {
                    zlib.set_dictionary(DICTIONARY).expect("it asked for it");
                }
                Err(error) => {
                    let far = error.message().is_some_and(|text| text.contains("too far back"));
                    return (if far { Zlib::TooFarBack } else { Zlib::Refused(error.to_string()) }, plain);
                }
            }
        }
    }
    (Zlib::More, plain)
}
