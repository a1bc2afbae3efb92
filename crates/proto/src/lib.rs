//! What the bytes of Kubernetes' streaming protocols mean, without doing any IO.
//!
//! This crate holds the rules: [subprotocols](subprotocol) and their negotiation, [WebSocket frames](ws)
//! (RFC 6455), [channels](channel) and the [state machine of one connection](connection), [SPDY](spdy), the
//! [`Status`](status::Status) that ends a remote command, [terminal sizes](terminal_size) and the parameters of
//! [exec and attach](remotecommand) and of [port-forward](portforward). It opens no socket, starts no task, reads
//! no clock and writes no log, so the same code serves an async server, a browser and a fuzz target. The crate
//! `wsstream` moves the bytes.
//!
//! # Panics
//!
//! Nothing here panics on input. The lints of the workspace deny `unwrap`, `expect`, indexing and `panic`
//! outside tests, and property tests feed every parser arbitrary bytes in arbitrary cuts.

pub mod channel;
pub mod connection;
pub mod portforward;
pub mod remotecommand;
pub mod spdy;
pub mod status;
pub mod stream_type;
pub mod subprotocol;
pub mod terminal_size;
pub mod text;
pub mod tunnel;
pub mod ws;

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
