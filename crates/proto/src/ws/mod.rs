//! WebSocket frames (RFC 6455), as far as a channel multiplexer needs them.
//!
//! Our own engine rather than a crate, because three things are needed at once that no crate gives: parts of
//! a frame are handed on as they arrive (a 16 MiB message never sits in memory), an idle connection holds no
//! buffer, and text is taken as bytes (the Python client sends text on binary channels). The price is proof:
//! differential tests against two other engines and the Autobahn cases, see ARCHITECTURE.md.

mod close;
mod decoder;
mod frame;
mod outbox;

pub use close::{CloseCode, CloseReason};
pub use decoder::{Decoder, Frame, ProtocolError};
pub use frame::{MAX_CONTROL, MAX_HEADER, Opcode, apply_mask, encode_header};
pub use outbox::Outbox;
