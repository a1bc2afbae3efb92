//! The documented differences between our engine and two others, each met once, and that there are no more kinds.

use std::collections::BTreeSet;

use wsstream_testing::peer::{RawFrame, opcode};
use wsstream_testing::property::engines::{Difference, Engine, compare};
use wsstream_testing::property::frames::long_form;

fn server_sends(frames: &[RawFrame]) -> Vec<u8> {
    frames.iter().flat_map(RawFrame::encode).collect()
}

#[test]
fn each_documented_difference_exists() {
    use Difference::*;
    use Engine::*;
    let text = RawFrame::new(true, opcode::TEXT, b"\xff");
    let close = |code: u16| RawFrame::new(true, opcode::CLOSE, &code.to_be_bytes());
    let binary = RawFrame::new(true, opcode::BINARY, b"x");
    let ping = RawFrame::new(true, opcode::PING, b"x");
    type Row = (&'static str, Vec<u8>, &'static [(Engine, Difference)]);
    let rows: [Row; 9] = [
        ("nothing odd", server_sends(&[binary.clone(), ping.clone(), close(1000)]), &[]),
        (
            "text",
            server_sends(&[text]),
            &[(Tungstenite, TextThatIsNotUtf8), (TokioWebsockets, TextThatIsNotUtf8)],
        ),
        ("a long length", long_form(&binary, false), &[(TokioWebsockets, LongLength)]),
        ("a long length of a ping", long_form(&ping, true), &[(Tungstenite, LongLength)]),
        ("a code that nobody may send", server_sends(&[close(1006)]), &[(Tungstenite, CloseCode)]),
        ("bad gateway", server_sends(&[close(1014)]), &[(Tungstenite, CloseCode)]),
        ("a refusal by the header", vec![0xc2, 5], &[(Tungstenite, EarlyRefusal)]),
        ("a refusal by half a header", vec![0x00, 126], &[(TokioWebsockets, EarlyRefusal)]),
        ("reserved opcode", vec![0x83, 0], &[]),
    ];
    for (what, bytes, expected) in rows {
        assert_eq!(compare(&bytes, false), expected, "{what}");
    }
}

/// The faults of RFC 6455 on which all three agree, in frames of a client and of a server.
#[test]
fn the_rules_that_nobody_relaxes() {
    let frame = |fin, opcode, payload: &[u8]| RawFrame::new(fin, opcode, payload);
    let mut reserved = frame(true, opcode::BINARY, b"x");
    reserved.reserved = 4;
    let rows = [
        vec![reserved],
        vec![frame(true, 3, b"")],
        vec![frame(true, 11, b"")],
        vec![frame(false, opcode::PING, b"")],
        vec![frame(true, opcode::PING, &[0; 126])],
        vec![frame(true, opcode::CONTINUATION, b"")],
        vec![frame(false, opcode::BINARY, b""), frame(true, opcode::TEXT, b"")],
        vec![frame(true, opcode::CLOSE, &[3])],
        vec![frame(true, opcode::CLOSE, &[3, 0xe8, 0xff])],
    ];
    for frames in rows {
        for masked in [true, false] {
            let with =
                |frame: &RawFrame| if masked { frame.clone().masked([1, 2, 3, 4]) } else { frame.clone() };
            let good: Vec<u8> = frames.iter().map(with).flat_map(|frame| frame.encode()).collect();
            assert_eq!(compare(&good, masked), [], "{frames:?}");
            // And the mask the other way round.
            let bad: Vec<u8> = server_sends(&[with(&frame(true, opcode::BINARY, b"abc"))]);
            assert_eq!(compare(&bad, !masked), []);
        }
    }
}

#[test]
fn long_forms_are_what_they_say() {
    let frame = RawFrame::new(true, opcode::BINARY, &[7; 130]).masked([1, 2, 3, 4]);
    let forms: BTreeSet<usize> = [false, true].map(|eight| long_form(&frame, eight).len()).into();
    assert_eq!(forms, BTreeSet::from([138, 144]));
    for eight in [false, true] {
        assert_eq!(RawFrame::parse(&long_form(&frame, eight)).unwrap().0, frame);
    }
}
