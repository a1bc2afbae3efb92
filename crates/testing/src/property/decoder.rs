//! The frame decoder: however the input is cut, it says the same, and it never keeps what it need not.

use bytes::BytesMut;
use wsstream_proto::ws::{Decoder, Frame, MAX_CONTROL, MAX_HEADER, Opcode, ProtocolError};

use super::frames::{self, Item};
use super::{Choices, engines};

/// What the decoder said about some bytes: whole messages and control frames, then an error or none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decoded {
    /// In order.
    pub items: Vec<Item>,
    /// The message that has begun and not ended, as far as it has come.
    pub unfinished: Option<Item>,
    /// What ended it.
    pub error: Option<ProtocolError>,
}

/// Decodes `parts` as they arrive one after the other, and checks the contract of the decoder on the way.
#[must_use]
pub fn decode(parts: &[&[u8]], peer_is_client: bool, max_message: u64) -> Decoded {
    let mut decoder = Decoder::new(peer_is_client, max_message);
    let mut decoded = Decoded::default();
    let mut input = BytesMut::new();
    for part in parts {
        input.extend_from_slice(part);
        loop {
            match decoder.decode(&mut input) {
                Ok(Some(frame)) => take(&mut decoded, frame),
                Ok(None) => {
                    assert!(input.len() < MAX_HEADER + MAX_CONTROL, "{} bytes are kept back", input.len());
                    break;
                }
                Err(error) => {
                    assert_eq!(decoder.decode(&mut input), Err(error.clone()), "an error repeats itself");
                    decoded.error = Some(error);
                    return decoded;
                }
            }
            if matches!(decoded.items.last(), Some(Item::Close(_))) {
                return decoded;
            }
        }
    }
    decoded
}

fn take(decoded: &mut Decoded, frame: Frame) {
    let item = match frame {
        Frame::Data { opcode, first, last, payload } => {
            assert!(!payload.is_empty() || first || last, "a piece that says nothing");
            assert_eq!(first, decoded.unfinished.is_none(), "first");
            let mut all = match decoded.unfinished.take() {
                Some(Item::Data { text, payload }) => {
                    assert_eq!(text, opcode == Opcode::Text, "the opcode is the message's");
                    payload
                }
                _ => Vec::new(),
            };
            all.extend_from_slice(&payload);
            let item = Item::Data { text: opcode == Opcode::Text, payload: all };
            if !last {
                decoded.unfinished = Some(item);
                return;
            }
            item
        }
        Frame::Ping(payload) => Item::Ping(payload.to_vec()),
        Frame::Pong(payload) => Item::Pong(payload.to_vec()),
        Frame::Close(close) => Item::Close(close.code.map(|code| (code.get(), close.reason))),
    };
    decoded.items.push(item);
}

/// Any legal list of frames, masked or not, cut anywhere, gives the same messages.
pub fn legal_frames(input: &[u8]) {
    let mut choices = Choices::new(input);
    let peer_is_client = choices.once_in(2);
    let mut cuts = choices.split();
    let frames = frames::legal(&mut choices, peer_is_client, true);
    let bytes = frames::encode(&frames);
    let decoded = decode(&cuts.cut(&bytes), peer_is_client, 1 << 20);
    assert_eq!(decoded.error, None);
    assert_eq!(decoded.items, frames::items(&frames));
}

/// Arbitrary bytes, and frames with something wrong, say the same however they are cut.
pub fn any_cut(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (bytes, peer_is_client) = some_bytes(&mut choices);
    let limit = choices.pick(&[1 << 20, 0, 1, 200]);
    let whole = decode(&[&bytes], peer_is_client, limit);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(decode(&single, peer_is_client, limit), whole, "byte by byte");
    assert_eq!(decode(&choices.cut(&bytes), peer_is_client, limit), whole, "in parts");
    for item in &whole.items {
        if let Item::Data { payload, .. } = item {
            assert!(payload.len() as u64 <= limit);
        }
    }
}

/// Three engines read the same bytes; where they disagree, the difference is a documented one.
pub fn differential(input: &[u8]) {
    let mut choices = Choices::new(input);
    let (bytes, peer_is_client) = some_bytes(&mut choices);
    engines::compare(&bytes, peer_is_client);
}

/// Legal frames are read alike by three engines.
pub fn differential_legal(input: &[u8]) {
    let mut choices = Choices::new(input);
    let peer_is_client = choices.once_in(2);
    let frames = frames::legal(&mut choices, peer_is_client, false);
    let bytes = frames::encode(&frames);
    let expected = frames::items(&frames);
    for engine in engines::OTHERS {
        let theirs = engine.decode(&bytes, peer_is_client);
        let allowed = engines::known_close_codes(engine, &expected);
        assert_eq!(theirs.items, allowed, "{engine:?}");
        assert!(!theirs.refused, "{engine:?}");
    }
    assert_eq!(decode(&[&bytes], peer_is_client, engines::LIMIT).items, expected);
}

fn some_bytes(choices: &mut Choices<'_>) -> (Vec<u8>, bool) {
    let peer_is_client = choices.once_in(2);
    if choices.once_in(4) {
        let n = usize::from(choices.byte());
        return (choices.bytes(n).to_vec(), peer_is_client);
    }
    let mut faults = choices.split();
    let frames = frames::legal(&mut choices.split(), peer_is_client, true);
    (frames::spoil(&frames, &mut faults), peer_is_client)
}
