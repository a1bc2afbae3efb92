//! The binary against itself: real processes, real sockets, a real terminal.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

mod access;
mod admin;
mod attach;
mod exec;
mod generate;
mod help;
mod logs;
mod orphans;
mod port_forward;
mod serve;
mod service;
mod support;
mod terminal;
mod vanish;
