//! The shared tools of this workspace's tests: nobody ships this crate.
//!
//! - [`wire`]: a byte stream that splits, stalls, fails and ends where a test says so.
//! - [`peer`]: the other end of a WebSocket, scripted line by line like a transcript, with its own frame code.
//! - [`http`]: the HTTP/1.1 upgrade by hand, for servers behind a real socket.
//! - [`property`]: what holds for any input, as functions that proptest and a fuzzer share; two other WebSocket engines as
//!   judges of ours.
//! - [`chaos`]: sessions with known contents over wires that break, and a judge of what the client was told (feature
//!   `chaos`, on by default).
//!
//! A new case should be ten lines that read like what went over the wire.

#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "these are the tools of tests: they fail as tests do, with a text that says what was expected"
)]

#[cfg(feature = "chaos")]
pub mod chaos;
pub mod http;
pub mod peer;
pub mod property;
pub mod wire;

pub use peer::{Message, Peer};
pub use wire::{Awkward, Plan, Stall, Transcript, awkward_pair};
