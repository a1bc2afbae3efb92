//! The tunnel: a stream of bytes in, the same stream out, whatever the messages between look like.

use std::io::IoSlice;

use bytes::{Buf as _, Bytes, BytesMut};
use wsstream_proto::connection::Role;
use wsstream_proto::tunnel::{Event, Tunnel, Violation, is_end};
use wsstream_proto::ws::{CloseCode, CloseReason, MAX_CONTROL, MAX_HEADER, Opcode};

use crate::peer::{RawFrame, opcode};

use super::frames;
use super::{Choices, mask_key};

/// Empty messages that these tunnels take.
const MAX_EMPTY: u32 = 20;

/// How a story ends.
#[derive(Debug, PartialEq, Eq)]
enum Ending {
    Open,
    Closed(CloseReason),
    Broken(Violation),
}

/// What came out of a tunnel.
#[derive(Debug, PartialEq, Eq)]
struct Story {
    stream: Vec<u8>,
    ending: Ending,
    outbox: Vec<u8>,
}

fn role(is_client: bool) -> Role {
    if is_client { Role::Client { mask: mask_key } } else { Role::Server }
}

fn tell(is_client: bool, parts: &[&[u8]]) -> Story {
    let mut tunnel = Tunnel::new(role(is_client), MAX_EMPTY);
    let mut input = BytesMut::new();
    let (mut stream, mut ending) = (Vec::new(), Ending::Open);
    for part in parts {
        input.extend_from_slice(part);
        loop {
            match tunnel.handle_input(&mut input) {
                Ok(Some(Event::Data(data))) => {
                    assert!(!data.is_empty(), "data is never empty");
                    assert_eq!(ending, Ending::Open, "nothing comes behind the end");
                    stream.extend_from_slice(&data);
                }
                Ok(Some(Event::Closed(reason))) => {
                    assert!(tunnel.received_close());
                    ending = Ending::Closed(reason);
                }
                Ok(None) => break,
                Err(violation) => {
                    assert_eq!(tunnel.handle_input(&mut input), Err(violation.clone()), "it repeats itself");
                    assert!(tunnel.sent_close());
                    ending = Ending::Broken(violation);
                    break;
                }
                other => panic!("an unknown event: {other:?}"),
            }
        }
        assert!(
            input.len() <= MAX_HEADER + MAX_CONTROL || ending != Ending::Open,
            "input is taken as it comes"
        );
        // One pong and one Close at most.
        assert!(tunnel.outbox().len() <= 2 * (MAX_HEADER + MAX_CONTROL));
    }
    let outbox = tunnel.outbox();
    Story { stream, ending, outbox: outbox.copy_to_bytes(outbox.remaining()).to_vec() }
}

/// Anything at all means the same in any cut.
pub fn any_cut(input: &[u8]) {
    let mut choices = Choices::new(input);
    let is_client = choices.once_in(2);
    let mut cuts = choices.split();
    let bytes = if choices.once_in(3) {
        choices.rest().to_vec()
    } else {
        let list = frames::legal(&mut choices, !is_client, true);
        frames::spoil(&list, &mut cuts)
    };
    let whole = tell(is_client, &[&bytes]);
    let parts = cuts.cut(&bytes);
    let cut = tell(is_client, &parts);
    // A broken frame is found as soon as it can be, so more or less of the bytes before it may be out by then.
    if matches!(whole.ending, Ending::Broken(_)) {
        assert_eq!(cut.ending, whole.ending);
        assert!(whole.stream.starts_with(&cut.stream) || cut.stream.starts_with(&whole.stream));
    } else {
        assert_eq!(cut, whole);
    }
}

/// Legal frames mean what a model of ten lines says.
pub fn as_the_model_says(input: &[u8]) {
    let mut choices = Choices::new(input);
    let is_client = choices.once_in(2);
    let with_text = choices.once_in(6);
    let mut cuts = choices.split();
    let mut list = frames::legal(&mut choices, !is_client, true);
    if !with_text {
        list.iter_mut()
            .filter(|frame| frame.opcode == opcode::TEXT)
            .for_each(|frame| frame.opcode = opcode::BINARY);
    }
    let bytes: Vec<u8> = list.iter().flat_map(RawFrame::encode).collect();
    let story = tell(is_client, &cuts.cut(&bytes));

    let mut expected = Story { stream: Vec::new(), ending: Ending::Open, outbox: Vec::new() };
    let (mut empty, mut says_nothing, mut pong) = (0, true, None);
    for frame in &list {
        match frame.opcode {
            opcode::TEXT => expected.ending = Ending::Broken(Violation::Text),
            opcode::BINARY | opcode::CONTINUATION => {
                says_nothing = frame.payload.is_empty() && (says_nothing || frame.opcode == opcode::BINARY);
                expected.stream.extend_from_slice(&frame.payload);
                empty += u32::from(frame.fin && says_nothing);
                if empty > MAX_EMPTY {
                    expected.ending = Ending::Broken(Violation::EmptyMessages);
                }
            }
            opcode::PING => pong = Some(frame.payload.clone()),
            opcode::CLOSE => {
                let reason = match &frame.payload[..] {
                    [] => CloseReason::default(),
                    [high, low, text @ ..] => CloseReason::new(
                        CloseCode::new(u16::from_be_bytes([*high, *low])).expect("a legal code"),
                        String::from_utf8(text.to_vec()).expect("legal text"),
                    ),
                    other => panic!("{other:?} is no legal Close"),
                };
                expected.ending = Ending::Closed(reason);
            }
            _ => {}
        }
        if expected.ending != Ending::Open {
            break;
        }
    }
    assert_eq!((story.stream, &story.ending), (expected.stream, &expected.ending));
    // The last ping is answered, a violation with Close, and nothing else is said.
    let (sent, rest) = RawFrame::decode_all(&story.outbox);
    assert!(rest.is_empty() && sent.iter().all(|frame| frame.mask.is_some() == is_client));
    let said: Vec<_> = sent.into_iter().map(|frame| (frame.opcode, frame.payload)).collect();
    let mut answers: Vec<_> = pong.into_iter().map(|payload| (opcode::PONG, payload)).collect();
    if let Ending::Broken(violation) = &expected.ending {
        let close = CloseReason::new(violation.close_code(), violation.to_string());
        answers.push((opcode::CLOSE, close.encode()));
    }
    assert_eq!(said, answers);
}

/// One end of a linked pair.
struct End {
    tunnel: Tunnel,
    input: BytesMut,
    /// What was given to it to send, and what came from the other.
    sent: Vec<u8>,
    got: Vec<u8>,
    close: Option<CloseReason>,
    got_close: Option<CloseReason>,
}

/// Two tunnels joined by random deliveries: each byte arrives once and in order, and then the Close.
pub fn each_byte_arrives_once(input: &[u8]) {
    let mut choices = Choices::new(input);
    let end = |is_client| End {
        tunnel: Tunnel::new(role(is_client), MAX_EMPTY),
        input: BytesMut::new(),
        sent: Vec::new(),
        got: Vec::new(),
        close: None,
        got_close: None,
    };
    let mut ends = [end(false), end(true)];
    let mut steps = 0;
    while !choices.is_empty() && steps < 400 {
        steps += 1;
        let who = choices.below(2);
        match choices.below(12) {
            0..=3 => send(&mut ends[who], &mut choices),
            4 => {
                let mask = (who == 1).then(mask_key);
                if ends[who].close.is_none() {
                    ends[who].tunnel.outbox().control(Opcode::Ping, b"alive?", mask);
                }
            }
            5 if choices.once_in(12) => {
                let code = choices.pick(&[CloseCode::NORMAL, CloseCode::GOING_AWAY, CloseCode::INTERNAL]);
                close(&mut ends[who], CloseReason::new(code, "bye"));
            }
            6..=8 => deliver(&mut ends, who, choices.below(16)),
            _ => deliver(&mut ends, who, usize::from(choices.word()) % 9000),
        }
    }
    for end in &mut ends {
        close(end, CloseReason::code(CloseCode::NORMAL));
    }
    deliver(&mut ends, 0, usize::MAX);
    deliver(&mut ends, 1, usize::MAX);
    let [a, b] = &ends;
    for (from, to) in [(a, b), (b, a)] {
        assert!(from.sent == to.got, "{} of {} bytes", to.got.len(), from.sent.len());
        assert_eq!(from.close, to.got_close);
        assert!(
            to.got_close
                .as_ref()
                .is_some_and(|reason| is_end(reason) != (reason.code == Some(CloseCode::INTERNAL)))
        );
    }
}

fn send(end: &mut End, choices: &mut Choices<'_>) {
    let parts: Vec<Vec<u8>> = (0..1 + choices.below(4)).map(|_| choices.payload()).collect();
    let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
    let max = choices.pick(&[1, 100, 4096, 64 << 10]);
    let all = parts.concat();
    let (before, taken) = (end.tunnel.outbox().len(), end.tunnel.send(&slices, max));
    assert_eq!(taken, if end.close.is_some() { 0 } else { all.len().min(max) });
    assert!(end.tunnel.outbox().len() <= before + taken + MAX_HEADER);
    end.sent.extend_from_slice(&all[..taken]);
}

fn close(end: &mut End, reason: CloseReason) {
    end.tunnel.close(&reason);
    let answer = end.got_close.as_ref().map(|first| CloseReason { code: first.code, reason: String::new() });
    end.close.get_or_insert(answer.unwrap_or(reason));
    assert!(end.tunnel.sent_close());
}

fn deliver(ends: &mut [End; 2], from: usize, n: usize) {
    let outbox = ends[from].tunnel.outbox();
    let bytes: Bytes = outbox.copy_to_bytes(n.min(outbox.remaining()));
    let to = &mut ends[1 - from];
    to.input.extend_from_slice(&bytes);
    while let Some(event) = to.tunnel.handle_input(&mut to.input).expect("both ends are conforming") {
        assert_eq!(to.got_close, None, "{event:?} behind Close");
        match event {
            Event::Data(data) => to.got.extend_from_slice(&data),
            Event::Closed(reason) => to.got_close = Some(reason),
            other => panic!("an unknown event: {other:?}"),
        }
    }
}
