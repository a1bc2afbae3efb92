//! The parsers of what clients and servers write as text: sizes, request parameters, status, base64.

use wsstream_proto::channel::{ChannelId, MAX_BASE64_CHANNEL, base64_channel, decode_base64, encode_base64};
use wsstream_proto::remotecommand::{Request, Spelling};
use wsstream_proto::status::{ExitCode, Status, Verdict, is_complete_json};
use wsstream_proto::terminal_size::{Decoder, TerminalSize};

use super::{Choices, model};

/// Sizes decode alike however the stream is cut; every whole JSON object is a size or a drop; and whatever came, the
/// decoder finds a size again.
pub fn terminal_sizes(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut cuts = choices.split();
    let bytes = size_stream(&mut choices);
    let whole = sizes(&[&bytes]);
    assert_eq!(sizes(&bytes.chunks(1).collect::<Vec<_>>()), whole, "byte by byte");
    assert_eq!(sizes(&cuts.cut(&bytes)), whole, "in parts");
    if let Some(objects) = objects(&bytes) {
        assert_eq!(whole.0.len() as u64 + whole.1, objects, "every object is a size or a drop");
    }
    let again = TerminalSize::new(80, 24).expect("neither is 0");
    let more = [bytes, b"\n".to_vec(), again.encode(), again.encode()].concat();
    assert_eq!(sizes(&[&more]).0.last(), Some(&again), "the decoder recovers");
}

fn sizes(parts: &[&[u8]]) -> (Vec<TerminalSize>, u64) {
    let mut decoder = Decoder::new();
    let sizes = parts.iter().fold(Vec::new(), |mut sizes, part| {
        sizes.extend(decoder.push(part));
        sizes
    });
    (sizes, decoder.dropped())
}

/// Arbitrary bytes, or words that sizes are made of.
fn size_stream(choices: &mut Choices<'_>) -> Vec<u8> {
    const WORDS: [&str; 24] = [
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"Width\":",
        "\"height\":",
        "\"x\":",
        "80",
        "24",
        "0",
        "65535",
        "65536",
        "-1",
        "1e2",
        "null",
        "true",
        "\"\\u0057idth\":",
        "\"\"",
        "\n",
        " ",
        "{\"Width\":80,\"Height\":24}",
        "\"\\ud800\"",
    ];
    if choices.once_in(4) {
        return choices.rest().to_vec();
    }
    let mut bytes = Vec::new();
    while !choices.is_empty() {
        bytes.extend(choices.pick(&WORDS).as_bytes());
    }
    bytes
}

/// How many values the bytes are, if they are JSON objects of moderate depth and nothing else.
fn objects(bytes: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut depth = 0;
    for byte in text.bytes() {
        depth += u32::from(matches!(byte, b'{' | b'['));
    }
    if depth > 60 {
        return None;
    }
    let mut count = 0;
    for value in serde_json::Deserializer::from_str(text).into_iter::<serde_json::Value>() {
        value.ok().filter(serde_json::Value::is_object)?;
        count += 1;
    }
    Some(count)
}

/// What a query asks for survives being written and read again, in both spellings.
pub fn requests(input: &[u8]) {
    let query = String::from_utf8_lossy(input);
    for spelling in [Spelling::ApiServer, Spelling::Kubelet] {
        let Ok(request) = Request::parse(&query, spelling) else { continue };
        let written = request.to_query(spelling);
        assert_eq!(Request::parse(&written, spelling), Ok(request), "{written}");
    }
}

/// A status survives being written and read again, and only one that says so is a success.
pub fn statuses(input: &[u8]) {
    for json_status in [true, false] {
        let verdict = Verdict::from_channel(input, json_status);
        let success = Status::from_json(input).is_ok_and(|status| status.is_success());
        assert_eq!(verdict == Verdict::Exited(ExitCode::SUCCESS), success && json_status);
    }
    let complete = is_complete_json(input);
    if let Ok(status) = Status::from_json(input) {
        assert!(complete || std::str::from_utf8(input).is_err(), "a whole status is a whole object");
        let written = status.to_channel_json();
        assert!(is_complete_json(&written));
        assert_eq!(Status::from_json(&written).ok(), Some(status));
    }
}

/// Base64 decodes as Go decodes it, and what is encoded decodes to itself.
pub fn base64(input: &[u8]) {
    assert_eq!(decode_base64(input).ok(), model::go_base64(input));
    // The same with fewer letters: arbitrary bytes are hardly ever base64.
    let letters: Vec<u8> = input.iter().map(|byte| b"AQZagw09+/==\r\n"[usize::from(*byte) % 14]).collect();
    assert_eq!(decode_base64(&letters).ok(), model::go_base64(&letters));

    let channel = ChannelId(input.first().copied().unwrap_or(0) % (MAX_BASE64_CHANNEL.0 + 1));
    let text = encode_base64(Some(channel), input);
    let (first, rest) = text.as_bytes().split_first().expect("at least the channel");
    assert_eq!((base64_channel(*first), decode_base64(rest).ok()), (channel, Some(input.to_vec())));
    assert_eq!(decode_base64(encode_base64(None, input).as_bytes()).ok().as_deref(), Some(input));
}
