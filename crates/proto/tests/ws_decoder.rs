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
