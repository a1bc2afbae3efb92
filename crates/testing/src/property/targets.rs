//! The fuzz targets: which bodies each of them runs.
//!
//! Here and not in `fuzz/`, so that the committed corpora run through the same bodies on the stable toolchain, without
//! a fuzzer (`tests/corpus.rs`). A new target is a function and a row here, a file and a `[[bin]]` there.

use super::{connection, decoder, linked, outbox, spdy, spdy_tunnel as tunnel, text};

/// A target: what happens to one input. It panics when a property does not hold.
pub type Target = fn(&[u8]);

/// Every target by the name of its program in `fuzz/`.
pub const TARGETS: [(&str, Target); 13] = [
    ("base64", base64),
    ("connection", connection),
    ("decoder", decoder),
    ("linked", linked),
    ("outbox", outbox),
    ("request", request),
    ("spdy_frames", spdy_frames),
    ("spdy_inflate", spdy_inflate),
    ("spdy_linked", spdy_linked),
    ("spdy_session", spdy_session),
    ("spdy_tunnel", spdy_tunnel),
    ("status", status),
    ("terminal_size", terminal_size),
];

/// Frames in any cut, legal and not, and against two other engines.
pub fn decoder(input: &[u8]) {
    decoder::any_cut(input);
    decoder::legal_frames(input);
    decoder::differential(input);
    decoder::differential_legal(input);
}

/// Whole frames on the wire, and other engines that read them.
pub fn outbox(input: &[u8]) {
    outbox::frames_stay_whole(input);
    outbox::understood_by_others(input);
}

/// The machine of one connection under anything a peer may send.
pub fn connection(input: &[u8]) {
    connection::any_cut(input);
    connection::as_the_model_says(input);
}

/// Two machines joined by random deliveries.
pub fn linked(input: &[u8]) {
    linked::each_byte_arrives_once(input);
}

/// The stream of terminal sizes.
pub fn terminal_size(input: &[u8]) {
    text::terminal_sizes(input);
}

/// Query strings of exec and attach.
pub fn request(input: &[u8]) {
    text::requests(input);
}

/// The status at the end of a session.
pub fn status(input: &[u8]) {
    text::statuses(input);
}

/// The payloads of the base64 protocols.
pub fn base64(input: &[u8]) {
    text::base64(input);
}

/// SPDY frames in any cut.
pub fn spdy_frames(input: &[u8]) {
    spdy::frames::legal_frames(input);
    spdy::frames::any_cut(input);
}

/// Header blocks, beside zlib.
pub fn spdy_inflate(input: &[u8]) {
    spdy::inflate::round_trip(input);
    spdy::inflate::as_zlib_does(input);
}

/// One SPDY session under anything a peer may send.
pub fn spdy_session(input: &[u8]) {
    spdy::session::any_cut(input);
}

/// Two SPDY sessions joined by random deliveries.
pub fn spdy_linked(input: &[u8]) {
    spdy::linked::each_byte_arrives_once(input);
}

/// The stream of bytes inside a WebSocket.
pub fn spdy_tunnel(input: &[u8]) {
    tunnel::any_cut(input);
    tunnel::as_the_model_says(input);
    tunnel::each_byte_arrives_once(input);
}
