//! Terminal sizes on channel 4: the bytes sent, and a decoder that no input stops.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod cases;

use proptest::prelude::*;
use wsstream_proto::terminal_size::{Decoder, TerminalSize};

fn size(width: u16, height: u16) -> TerminalSize {
    TerminalSize::new(width, height).unwrap()
}

/// The sizes and the number of drops when the messages are pushed one after the other.
fn decode<'a>(messages: impl IntoIterator<Item = &'a [u8]>) -> (Vec<TerminalSize>, u64) {
    let mut decoder = Decoder::new();
    let mut sizes = Vec::new();
    for message in messages {
        sizes.extend(decoder.push(message));
    }
    (sizes, decoder.dropped())
}

/// What kubectl sends after the channel byte.
#[test]
fn encoded_as_go_does() {
    let bytes = [
        0x7b, 0x22, 0x57, 0x69, 0x64, 0x74, 0x68, 0x22, 0x3a, 0x38, 0x30, 0x2c, 0x22, 0x48, 0x65, 0x69, 0x67,
        0x68, 0x74, 0x22, 0x3a, 0x32, 0x34, 0x7d, 0x0a,
    ];
    assert_eq!(size(80, 24).encode(), bytes);
    assert_eq!(decode([&bytes[..]]), (vec![size(80, 24)], 0));
}

#[test]
fn a_size_has_no_zero() {
    assert_eq!(TerminalSize::new(0, 24), None);
    assert_eq!(TerminalSize::new(80, 0), None);
    assert_eq!(size(65535, 1).to_string(), "65535x1");
}

/// What real clients send, and what JSON allows besides.
#[test]
fn sizes_are_found() {
    let rows: &[(&str, &str)] = &[
        ("kubectl", "{\"Width\":80,\"Height\":24}\n"),
        ("client-node", r#"{"height":24,"width":80}"#),
        ("Java", "{ \"width\": 80, \"height\": 24 }\n"),
        ("fabric8", r#"{"Height":24,"Width":80}"#),
        ("any case", r#"{"WIDTH":80,"hEIGHT":24}"#),
        ("pretty-printed", "{\r\n\t\"Width\" : 80 ,\n\t\"Height\" : 24\n}\n"),
        ("escaped keys", r#"{"\u0057idth":80,"\u0048\u0065ight":24}"#),
        ("unknown keys", r#"{"a":1,"Width":80,"b":null,"Height":24,"":true,"widths":false,"\n":-0.5e+7}"#),
        ("nested values", r#"{"x":{"Width":1,"y":[{"Height":2},[],{}]},"Width":80,"Height":24,"z":["{",1]}"#),
        ("braces and quotes in a string", r#"{"x":"\"}{\\","Width":80,"Height":24}"#),
        ("the last of equal keys", r#"{"Width":1,"Width":80,"Height":"x","height":24}"#),
        ("null leaves it alone", r#"{"Width":80,"Width":null,"Height":24}"#),
    ];
    for (what, json) in rows {
        assert_eq!(decode([json.as_bytes()]), (vec![size(80, 24)], 0), "{what}");
    }
}

#[test]
fn several_in_one_message() {
    let all =
        decode([&br#"{"Width":1,"Height":2}{"Width":3,"Height":4} {"Width":65535,"Height":65535}"#[..]]);
    assert_eq!(all, (vec![size(1, 2), size(3, 4), size(65535, 65535)], 0));
}

#[test]
fn what_is_no_size_is_dropped_and_counted() {
    let values = [
        "{}",
        r#"{"Width":80}"#,
        r#"{"Height":24}"#,
        r#"{"x":80,"y":24}"#,
        r#"{"Width":0,"Height":5}"#,
        r#"{"Width":5,"Height":0}"#,
        r#"{"Width":65536,"Height":5}"#,
        r#"{"Width":5,"Height":99999999999999999999999999}"#,
        r#"{"Width":-1,"Height":5}"#,
        r#"{"Width":-0,"Height":5}"#,
        r#"{"Width":80.0,"Height":5}"#,
        r#"{"Width":8e1,"Height":5}"#,
        r#"{"Width":"80","Height":5}"#,
        r#"{"Width":true,"Height":5}"#,
        r#"{"Width":null,"Height":5}"#,
        r#"{"Width":[80],"Height":5}"#,
        r#"{"Width":{"Width":80,"Height":24},"Height":5}"#,
        r#"{"Width":80,"Width":0,"Height":5}"#,
        r#"{"x":{"Width":80,"Height":24}}"#,
        r#"{"Width\u0000":80,"Height":5}"#,
        r#"[{"Width":80,"Height":24}]"#,
        "[80,24]",
        r#""{\"Width\":80,\"Height\":24}""#,
        "null",
        "80",
        "[]",
    ];
    for value in values {
        let (sizes, dropped) = decode([format!("{value}\n{{\"Width\":80,\"Height\":24}}\n").as_bytes()]);
        assert_eq!((sizes, dropped), (vec![size(80, 24)], 1), "{value}");
    }
}

#[test]
fn decoding_goes_on_after_malformed_json() {
    let malformed = [
        "garbage",
        "{garbage}",
        "\u{feff}",
        "\u{1b}[8;24;80t",
        "}",
        "]",
        "{",
        "{\"Width\"",
        "{\"Width\":\"a\"",
        "{\"Width\":80",
        "{\"Width\":80,",
        "{\"Width\":-",
        "{\"Width\":01,\"Height\":5}",
        "{\"Width\":+1,\"Height\":5}",
        "{\"Width\":1.,\"Height\":5}",
        "{\"Width\":0x50,\"Height\":5}",
        "{\"Width\":80,\"Height\":24,}",
        "{\"Width\":80 \"Height\":24}",
        "{\"Width\":80,\"Height\":24]",
        "{'Width':80,'Height':24}",
        "{Width:80,Height:24}",
        "{\"Width\":nul,\"Height\":24}",
        "{\"\\x\":1}",
        "{\"\\u00zz\":1}",
        "[1,2}",
        "\"unterminated",
        "{\"unterminated",
    ];
    for run in malformed {
        // With the newline that kubectl sends and without one, as client-node.
        for end in ["\n", ""] {
            let bytes =
                format!("{run}{end}{{\"Width\":1,\"Height\":2}}{end}{{\"Width\":80,\"Height\":24}}{end}");
            let (sizes, dropped) = decode([bytes.as_bytes()]);
            assert_eq!(sizes.last(), Some(&size(80, 24)), "{bytes:?}");
            assert!(dropped >= 1, "{bytes:?}");
            if end == "\n" {
                assert_eq!(sizes.first(), Some(&size(1, 2)), "{bytes:?}");
                assert_eq!(dropped, 1, "{bytes:?}");
            }
        }
    }
}

/// The price of the rule, written down: a value cut off where another may nest takes the next size with it.
#[test]
fn an_unterminated_value_takes_at_most_one_size() {
    for cut in ["{\"Width\":", "[", "{\"x\":[[[", "{\"x\":\""] {
        let (sizes, _) = decode([cut.as_bytes(), &size(1, 2).encode(), &size(3, 4).encode()]);
        assert_eq!(sizes, [size(3, 4)], "{cut}");
    }
}

#[test]
fn deep_nesting_is_malformed_not_fatal() {
    let depth = if cfg!(miri) { 500 } else { 100_000 };
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}\n", open.repeat(depth), close.repeat(depth));
        let (sizes, dropped) = decode([deep.as_bytes(), &size(80, 24).encode()]);
        assert_eq!(sizes, [size(80, 24)]);
        assert!(dropped > 0);
    }
    // Up to 64 levels are within bounds.
    let nested = format!("{{\"x\":{}{},\"Width\":80,\"Height\":24}}", "[".repeat(63), "]".repeat(63));
    assert_eq!(decode([nested.as_bytes()]), (vec![size(80, 24)], 0));
}

/// A size behind a value of 16 MiB, and no text is kept on the way.
#[test]
fn a_huge_value_costs_no_memory() {
    assert!(size_of::<Decoder>() <= 96, "{}", size_of::<Decoder>());
    let mebibyte = if cfg!(miri) { 1 << 8 } else { 1 << 20 };
    let huge = format!("{{\"{}\":\"{}\",", "k".repeat(mebibyte), "v".repeat(15 * mebibyte));
    assert_eq!(decode([huge.as_bytes(), br#""Width":80,"Height":24}"#]), (vec![size(80, 24)], 0));
}

#[test]
fn a_dropped_iterator_still_advances_the_stream() {
    let mut decoder = Decoder::new();
    assert_eq!(
        decoder.push(br#"{"Width":1,"Height":2}{"Width":3,"Height":4}{"Wid"#).next(),
        Some(size(1, 2))
    );
    assert_eq!(decoder.push(br#"th":5,"Height":6}"#).last(), Some(size(5, 6)));
    assert_eq!(decoder.dropped(), 0);
}

/// Pieces of a stream: sizes, values that are none, malformed runs.
fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        (1u16.., 1u16..).prop_map(|(w, h)| String::from_utf8(size(w, h).encode()).unwrap()),
        (1u16.., 1u16..).prop_map(|(w, h)| format!("{{\"height\":{h},\"width\":{w}}}")),
        (any::<i64>(), any::<f64>()).prop_map(|(w, h)| format!("{{\"Width\":{w},\"Height\":{h}}}")),
        "[\\[\\]{}\",:0-9.eE+\\-\\\\ \\n]{0,12}",
        "[a-z]{0,6}",
        Just("{\"Width\":\"a\"\n".to_owned()),
    ]
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn any_cutting_yields_the_same(pieces in prop::collection::vec(piece(), 0..12), cut in 1usize..9) {
        let stream = pieces.concat().into_bytes();
        let whole = decode([&stream[..]]);
        prop_assert_eq!(&decode(stream.chunks(cut)), &whole);
        prop_assert_eq!(&decode(stream.chunks(1)), &whole);
        for at in (0..stream.len()).step_by(if cfg!(miri) { 13 } else { 1 }) {
            let (head, tail) = stream.split_at(at);
            prop_assert_eq!(&decode([head, tail]), &whole);
        }
    }

    #[test]
    fn well_formed_sizes_all_arrive(sizes in prop::collection::vec((1u16.., 1u16..), 0..20), cut in 1usize..40) {
        let sizes: Vec<_> = sizes.into_iter().map(|(w, h)| size(w, h)).collect();
        let stream: Vec<u8> = sizes.iter().flat_map(|size| size.encode()).collect();
        prop_assert_eq!(decode(stream.chunks(cut)), (sizes, 0));
    }

    #[test]
    fn after_any_bytes_the_second_size_arrives(bytes: Vec<u8>, pieces in prop::collection::vec(piece(), 0..6), newline: bool) {
        for noise in [bytes.as_slice(), pieces.concat().as_bytes()] {
            let mut decoder = Decoder::new();
            let _ = decoder.push(noise).count();
            let mut last = Vec::new();
            for size in [size(11, 12), size(13, 14)] {
                let encoded = size.encode();
                let end = encoded.len() - usize::from(!newline);
                last = decoder.push(&encoded[..end]).collect();
            }
            prop_assert_eq!(last, [size(13, 14)]);
        }
    }

    /// What the decoder delivers from one JSON value is what a general JSON parser sees in it.
    #[test]
    fn agrees_with_a_general_parser(width in number(), height in number(), extra in "[a-zA-Z0-9\\\\\"\\[{ ]{0,10}") {
        let extra = serde_json::to_string(&extra).unwrap();
        let json = format!("{{\"Width\":{width},{extra}:[{extra},{{{extra}:1}}],\"Height\":{height}}}");
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        let field = |name: &str| value[name].as_u64().and_then(|n| u16::try_from(n).ok()).unwrap_or(0);
        let expected: Vec<_> = TerminalSize::new(field("Width"), field("Height")).into_iter().collect();
        let dropped = u64::from(expected.is_empty());
        prop_assert_eq!(decode([json.as_bytes()]), (expected, dropped));
    }
}

fn number() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<u16>().prop_map(|n| n.to_string()),
        (65530u32..65545).prop_map(|n| n.to_string()),
        any::<i32>().prop_map(|n| n.to_string()),
        (any::<u16>(), any::<u8>()).prop_map(|(n, f)| format!("{n}.{f}")),
        any::<u8>().prop_map(|n| format!("{n}E0")),
        Just("\"80\"".to_owned()),
        Just("null".to_owned()),
    ]
}
