//! Captures of kubectl and Go's spdystream, decoded whole, piece by piece, byte by byte and in random cuts, and compared
//! with their transcripts, which an independent decoder wrote.
//!
//! `vectors/spdy/NAME.DIR.hex` has one line for each read or write that was seen; `NAME.DIR.messages.txt` has the
//! messages of a tunnel, empty ones included. Two streams end inside a frame, because one side had closed.

// Miri lets no file be read, and would take hours over every cut.
#![cfg(not(miri))]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::cast_possible_truncation,
    reason = "helpers of tests fail as tests do"
)]

mod spdy_peer;

use std::path::Path;

use bytes::BytesMut;
use proptest::prelude::*;
use wsstream_proto::spdy::decoder::{Decoder, Part};
use wsstream_proto::spdy::inflate::Inflater;
use wsstream_proto::spdy::{Event, Headers, Limits, Session, StreamId};

const CAPTURES: &[&str] = &[
    "attach-spdy",
    "exec-127-spdy",
    "exec-big-spdy",
    "exec-fail-spdy",
    "exec-hello-spdy",
    "exec-ping-spdy",
    "exec-stdin-spdy",
    "exec-tty-resize-spdy",
    "pf-127-spdy",
    "pf-idle-timeout-tunnel-ws",
    "pf-ping-tunnel-backend",
    "pf-refused-tunnel-ws",
    "pf-spdy",
    "pf-tunnel-backend",
    "pf-tunnel-ws",
];

/// Streams of bytes that end inside a frame.
const TORN: &[(&str, &str)] = &[("exec-big-spdy", "s2c"), ("attach-spdy", "c2s")];

fn file(name: &str) -> Option<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/spdy").join(name);
    std::fs::read_to_string(path).ok()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |byte: u8| char::from(byte).to_digit(16).unwrap() as u8;
    text.as_bytes().chunks(2).map(|pair| digit(pair[0]) << 4 | digit(pair[1])).collect()
}

/// One direction of a capture in the pieces in which it was seen.
fn pieces(name: &str, direction: &str) -> Vec<Vec<u8>> {
    if let Some(text) = file(&format!("{name}.{direction}.hex")) {
        return text.lines().map(unhex).collect();
    }
    // Opcode, FIN, payload; only binary messages belong to the stream.
    let text = file(&format!("{name}.{direction}.messages.txt")).unwrap();
    let messages = text.lines().filter_map(|line| line.strip_prefix("2 1 "));
    messages.map(|payload| if payload == "-" { Vec::new() } else { unhex(payload) }).collect()
}

/// The frames of one direction as the transcript has them, without what a session does not look at.
fn transcript(name: &str, direction: &str) -> Vec<String> {
    let text = file(&format!("{name}.transcript.txt")).unwrap();
    let frames = text.lines().filter_map(|line| line.split_once(&format!("ms {direction}        ")));
    frames
        .map(|(_, frame)| {
            let (start, rest) = frame.split_at(frame.find(['{', '\'', '"']).unwrap_or(frame.len()));
            let skipped = ["v3", "assoc=", "prio=", "slot=", "len="];
            let is_control = start.contains(" v3 ");
            let start: Vec<_> = start
                .split(' ')
                .filter(|word| !is_control || !skipped.iter().any(|skip| word.starts_with(skip)))
                .collect();
            format!("{}{}", start.join(" "), rest.split_once(" z=").map_or(rest, |(rest, _)| rest))
        })
        .collect()
}

/// How Python shows bytes.
fn python(bytes: &[u8]) -> String {
    let quote = if bytes.contains(&b'\'') && !bytes.contains(&b'"') { '"' } else { '\'' };
    let mut out = format!("b{quote}");
    for byte in bytes {
        match byte {
            b'\n' => out.push_str("\\n"),
            b'\r' => out.push_str("\\r"),
            b'\t' => out.push_str("\\t"),
            b'\\' => out.push_str("\\\\"),
            byte if char::from(*byte) == quote => out.extend(['\\', quote]),
            b' '..=b'~' => out.push(char::from(*byte)),
            byte => out.push_str(&format!("\\x{byte:02x}")),
        }
    }
    out.push(quote);
    out
}

fn shown(headers: &Headers) -> String {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let pairs: Vec<_> =
        headers.iter().map(|(name, value)| format!("{}='{}'", text(name), text(value))).collect();
    format!("{{{}}}", pairs.join(", "))
}

/// The frames that the decoder finds, in the words of the transcript, and what is left of the last.
fn decode(pieces: &[Vec<u8>]) -> (Vec<String>, bool) {
    let limits = Limits::default();
    let (mut decoder, mut inflater) = (Decoder::default(), Inflater::default());
    let (mut input, mut frames) = (BytesMut::new(), Vec::new());
    let (mut payload, mut plain, mut head) = (Vec::new(), Vec::new(), String::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(part) = decoder.decode(&mut input, &limits).unwrap() {
            match part {
                Part::Data { id, bytes, last, fin, empty } => {
                    assert!(!bytes.is_empty() || empty);
                    payload.extend_from_slice(&bytes);
                    if last {
                        let (flags, len) = (u8::from(fin), payload.len());
                        let start = python(&payload[..len.min(60)]);
                        frames.push(format!("DATA sid={id} flags={flags} len={len} {start}"));
                        payload.clear();
                    }
                }
                Part::SynStream { id, fin } => head = format!("SYN_STREAM flags={} sid={id}", u8::from(fin)),
                Part::SynReply { id, fin } => head = format!("SYN_REPLY flags={} sid={id}", u8::from(fin)),
                Part::Block { bytes, last } => {
                    inflater.inflate(&bytes, &mut plain, limits.max_header_block).unwrap();
                    if last {
                        let len = plain.len();
                        let headers = Headers::decode(std::mem::take(&mut plain), &limits).unwrap();
                        frames.push(format!("{head} {} plain={len}", shown(&headers)));
                    }
                }
                Part::RstStream { id, status } => {
                    frames.push(format!("RST_STREAM flags=0 sid={id} status={}", status.0));
                }
                Part::Ping(id) => frames.push(format!("PING flags=0 id={id}")),
                Part::GoAway { last, status } => {
                    frames.push(format!("GOAWAY flags=0 last={last} status={}", status.0));
                }
                other => panic!("Kubernetes does not send {other:?}"),
            }
        }
        assert!(input.len() < 18, "{} bytes wait for more", input.len());
    }
    (frames, decoder.inside_frame() || !input.is_empty())
}

fn each(mut check: impl FnMut(&str, &str, Vec<Vec<u8>>)) {
    for name in CAPTURES {
        for direction in ["c2s", "s2c"] {
            check(name, direction, pieces(name, direction));
        }
    }
}

#[test]
fn captures_decode_as_their_transcripts_say_in_every_cut() {
    let mut total = 0;
    each(|name, direction, pieces| {
        let expected = transcript(name, direction);
        assert!(!expected.is_empty(), "{name} {direction}");
        let whole = pieces.concat();
        let bytes: Vec<Vec<u8>> = whole.iter().map(|byte| vec![*byte]).collect();
        let torn = TORN.contains(&(name, direction));
        for (cut, pieces) in [("as seen", pieces), ("whole", vec![whole]), ("bytes", bytes)] {
            assert_eq!(decode(&pieces), (expected.clone(), torn), "{name} {direction} {cut}");
        }
        total += expected.len();
    });
    assert!(total > 200, "only {total} frames");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn captures_decode_alike_in_random_cuts(sizes in prop::collection::vec(1..400_usize, 1..20)) {
        each(|name, direction, pieces| {
            let whole = pieces.concat();
            let (mut rest, mut cut, mut sizes) = (&whole[..], Vec::new(), sizes.iter().cycle());
            while !rest.is_empty() {
                let (piece, more) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
                cut.push(piece.to_vec());
                rest = more;
            }
            assert_eq!(decode(&cut), decode(&[whole]), "{name} {direction}");
        });
    }
}

/// What each session reports, with the data of a stream joined.
fn run(session: &mut Session, pieces: &[Vec<u8>]) -> Vec<Event> {
    let (mut input, mut events) = (BytesMut::new(), Vec::<Event>::new());
    for piece in pieces {
        input.extend_from_slice(piece);
        while let Some(event) = session.handle_input(&mut input).unwrap() {
            match (events.last_mut(), event) {
                (Some(Event::Data { id, bytes }), Event::Data { id: same, bytes: more }) if *id == same => {
                    bytes.extend_from_slice(&more);
                }
                (_, event) => events.push(event),
            }
        }
    }
    events
}

/// The server's session reads what kubectl sent, and a client's session, which has opened the same streams, what Go's
/// server answered: nothing is dropped, and every stream's bytes come through.
#[test]
fn sessions_understand_both_ends_of_every_capture() {
    for name in CAPTURES {
        let sent = pieces(name, "c2s");
        let heard = run(&mut Session::server(Limits::default()), &sent);
        assert!(heard.len() > 1 || *name == "pf-ping-tunnel-backend", "{name}: {heard:?}");

        let mut client = Session::client(Limits::default());
        let mut opened: Vec<StreamId> = Vec::new();
        for event in &heard {
            match event {
                Event::StreamOpened { id, headers, fin: false } => {
                    assert!(headers.text("StreamType").is_some(), "{name}");
                    assert_eq!(client.open(headers, false), Ok(*id), "kubectl's numbers are ours");
                    opened.push(*id);
                }
                Event::Data { id, .. } | Event::Fin { id } | Event::Reset { id, .. } => {
                    assert!(opened.contains(id), "{name}: {event:?}");
                }
                Event::GoAway { last: 0, .. } => {}
                other => panic!("{name}: {other:?}"),
            }
        }
        for (cut, server_sent) in
            [("as seen", pieces(name, "s2c")), ("whole", vec![pieces(name, "s2c").concat()])]
        {
            let mut client = Session::client(Limits::default());
            for event in &heard {
                if let Event::StreamOpened { headers, .. } = event {
                    client.open(headers, false).unwrap();
                }
            }
            // kubectl's PINGs, so that their echoes mean something: 1, 3, 5...
            client.ping().unwrap();
            client.ping().unwrap();
            let answers = run(&mut client, &server_sent);
            let replied = answers.iter().filter(|event| matches!(event, Event::Replied { .. })).count();
            assert_eq!(replied, opened.len(), "{name} {cut}: {answers:?}");
            assert!(!answers.iter().any(|event| matches!(event, Event::Dropped(_))), "{name} {cut}");
            // No late data is there, except for the streams that the server ends as they are.
            assert_eq!(client.counts().discarded_bytes, 0, "{name} {cut}");
        }
    }
}
