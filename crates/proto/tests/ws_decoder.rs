//! Cases of the frame decoder that were wrong once, by name.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use bytes::BytesMut;
use wsstream_proto::ws::{Decoder, Frame, ProtocolError};

/// What comes of `parts`, arriving one after the other from a server.
fn decode(parts: &[&[u8]]) -> Result<Vec<Frame>, ProtocolError> {
    let mut decoder = Decoder::new(false, 1 << 20);
    let mut input = BytesMut::new();
    let mut frames = Vec::new();
    for part in parts {
        input.extend_from_slice(part);
        while let Some(frame) = decoder.decode(&mut input)? {
            frames.push(frame);
        }
    }
    Ok(frames)
}

/// A ping whose short length stood in the 2-byte form was taken whole, and refused when it came in two reads.
#[test]
fn a_control_frame_with_a_long_form_length_was_taken_or_refused_by_the_cut() {
    for bytes in
        [&[0x89, 126, 0, 0][..], &[0x89, 127, 0, 0, 0, 0, 0, 0, 0, 1, b'x'], &[0x88, 126, 0, 2, 3, 0xe8]]
    {
        let byte_by_byte: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(decode(&[bytes]), Err(ProtocolError::LongControl), "{bytes:?}");
        assert_eq!(decode(&byte_by_byte), Err(ProtocolError::LongControl), "{bytes:?}");
    }
}

/// A fragmented ping that was too long as well had two errors, and the cut chose which.
#[test]
fn a_control_frame_with_two_faults_had_its_error_chosen_by_the_cut() {
    assert_eq!(decode(&[&[0x09, 126, 0, 126]]), Err(ProtocolError::FragmentedControl));
    assert_eq!(decode(&[&[0x09, 126], &[0, 126]]), Err(ProtocolError::FragmentedControl));
}

/// It was reported as a piece that is neither first nor last and holds nothing, which the contract excludes.
#[test]
fn an_empty_fragment_inside_a_message_was_reported() {
    let frames = decode(&[&[0x02, 1, b'a', 0x00, 0, 0x00, 0, 0x80, 1, b'b']]).unwrap();
    let pieces: Vec<_> = frames
        .iter()
        .map(|frame| match frame {
            Frame::Data { first, last, payload, .. } => (*first, *last, &payload[..]),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(pieces, [(true, false, &b"a"[..]), (false, true, &b"b"[..])]);
}

/// What a run is gathered from is told as it is without it: where messages begin and end, and nothing behind a fault.
#[test]
fn a_run_that_was_gathered_had_its_last_message_begin_again() {
    let bytes = [0x82, 2, 1, b'a', 0x82, 3, 1, b'b', b'c', 0x82, 2, 2, b'd', 0xc2, 0];
    for cut in 1..bytes.len() {
        let (mut decoder, mut input, mut begun, mut got) =
            (Decoder::new(false, 64), BytesMut::new(), 0, Vec::new());
        let mut fault = None;
        for part in [&bytes[..cut], &bytes[cut..]] {
            input.extend_from_slice(part);
            loop {
                match decoder.decode(&mut input) {
                    Ok(Some(Frame::Data { first, last, mut payload, .. })) => {
                        let ones = payload.starts_with(&[1]) && first;
                        begun += usize::from(first);
                        if ones && last {
                            // The first message and those behind it that begin with 1, which is left out of them.
                            let before = payload.len();
                            decoder.gather(&mut payload, &mut input, Some(1));
                            begun += usize::from(payload.len() > before);
                        }
                        got.extend_from_slice(&payload);
                    }
                    Ok(Some(other)) => panic!("{other:?}"),
                    Ok(None) => break,
                    Err(error) => {
                        fault = Some(error);
                        let mut none = BytesMut::new();
                        let mut more = BytesMut::from(&[0x82, 2, 1, b'x'][..]);
                        decoder.gather(&mut none, &mut more, Some(1));
                        assert!(none.is_empty() && more.len() == 4, "nothing comes behind a fault");
                        break;
                    }
                }
            }
        }
        assert_eq!(begun, 3, "cut at {cut}");
        let letters: Vec<u8> = got.into_iter().filter(u8::is_ascii_alphabetic).collect();
        assert_eq!(letters, b"abcd", "cut at {cut}");
        assert_eq!(fault, Some(ProtocolError::ReservedBits(4)), "cut at {cut}");
    }
}
