//! The frame decoder: legal frames come out as they went in, and any bytes mean the same however they are cut.

use bytes::BytesMut;
use wsstream_proto::spdy::decoder::{Decoder, Part};
use wsstream_proto::spdy::{Limits, Violation};

use super::Frame;
use crate::property::Choices;

/// What the decoder said: whole frames, the one that was not finished, and what ended it.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    frames: Vec<Frame>,
    open: Option<Frame>,
    error: Option<Violation>,
}

/// Legal frames, in any cut.
pub fn legal_frames(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut part = choices.split();
    let frames = super::legal(&mut choices);
    let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
    let decoded = decode(&part.cut(&bytes));
    let expected: Vec<Frame> = frames.into_iter().map(without_payload).collect();
    for (read, written) in decoded.frames.iter().zip(&expected) {
        assert_eq!(read, written);
    }
    assert_eq!((decoded.frames.len(), decoded.open, decoded.error), (expected.len(), None, None));
}

/// Any bytes, in any cut.
pub fn any_cut(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut part = choices.split();
    let bytes = super::wild(&mut choices);
    let whole = decode(&[&bytes]);
    let cut = decode(&part.cut(&bytes));
    assert_eq!(whole, cut, "{bytes:02x?}");
}

/// What nobody needs is not handed on.
fn without_payload(frame: Frame) -> Frame {
    match frame {
        Frame::Unused { kind, .. } => Frame::Unused { kind, bytes: Vec::new() },
        other => other,
    }
}

fn decode(parts: &[&[u8]]) -> Decoded {
    let limits = Limits::default();
    let mut decoder = Decoder::default();
    let mut decoded = Decoded::default();
    let mut input = BytesMut::new();
    for part in parts {
        input.extend_from_slice(part);
        loop {
            match decoder.decode(&mut input, &limits) {
                Ok(Some(part)) => take(&mut decoded, part),
                Ok(None) => {
                    assert!(input.len() < 18, "{} bytes are kept back", input.len());
                    assert!(decoder.inside_frame() || (input.is_empty() && decoded.open.is_none()));
                    break;
                }
                Err(error) => {
                    decoded.error = Some(error);
                    return decoded;
                }
            }
        }
    }
    decoded
}

fn take(decoded: &mut Decoded, part: Part) {
    let begin = |kind, id: u32, fin| Some(Frame::Block { kind, id, fin, block: Vec::new() });
    let frame = match part {
        Part::Data { id, bytes, last, fin, empty } => {
            assert!(!bytes.is_empty() || (empty && last), "a piece that says nothing");
            let open = decoded.open.take();
            let mut open = open.unwrap_or(Frame::Data { id: id.get(), bytes: Vec::new(), fin });
            let Frame::Data { id: begun, bytes: all, fin: flag } = &mut open else {
                panic!("DATA inside {open:?}")
            };
            assert_eq!((*begun, *flag), (id.get(), fin));
            all.extend_from_slice(&bytes);
            if !last {
                decoded.open = Some(open);
                return;
            }
            open
        }
        Part::Block { bytes, last } => {
            assert!(!bytes.is_empty(), "a piece that says nothing");
            let Some(Frame::Block { block, .. }) = &mut decoded.open else { panic!("a block of nothing") };
            block.extend_from_slice(&bytes);
            if !last {
                return;
            }
            decoded.open.take().expect("it was there")
        }
        other => {
            assert_eq!(decoded.open, None, "{other:?} inside a frame");
            match other {
                Part::SynStream { id, fin } => return decoded.open = begin(1, id.get(), fin),
                Part::SynReply { id, fin } => return decoded.open = begin(2, id.get(), fin),
                Part::Headers { id, fin } => return decoded.open = begin(8, id.get(), fin),
                Part::RstStream { id, status } => Frame::Reset { id: id.get(), status: status.0 },
                Part::Ping(id) => Frame::Ping(id),
                Part::GoAway { last, status } => Frame::GoAway { last, status: status.0 },
                Part::Unused(kind) => Frame::Unused { kind: kind.number(), bytes: Vec::new() },
                Part::Data { .. } | Part::Block { .. } => unreachable!("matched above"),
            }
        }
    };
    decoded.frames.push(frame);
}
