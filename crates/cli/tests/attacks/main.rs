//! The table of attacks: what somebody sends who should not get what they want, what they get, that nothing ran, and that
//! the server goes on. Against the real binary, over real sockets.
//!
//! `table.rs` has those that are one request. The others need a story: `files.rs` (names that others prepared), `secrets.rs`
//! (what can be read on this machine), `session.rs` (what is sent inside of a session), `strain.rs` (too much, too slow),
//! `tls.rs`, and `chromium.rs`, a real browser on another site's page.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod chromium;
mod files;
mod fixture;
mod secrets;
mod session;
mod strain;
#[path = "../cli/support.rs"]
#[allow(dead_code, reason = "shared with the other suite, which uses all of it")]
mod support;
mod table;
mod tls;
mod wire;
