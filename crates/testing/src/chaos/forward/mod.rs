//! Forwarded connections with known contents in both directions, over every wire of port-forward, and their judge.
//!
//! - [`script`]: a session and its connections; [`party`]: what the program at each end does and has seen.
//! - [`session`]: runs one through the library's own server and [`client`], [`judge`] says what it was worth.
//!
//! A connection is *complete* when both ends got all of it, each with a clean end, or it is *reported*: an end was reset,
//! or the client was told what went wrong. A clean end behind which something is missing is a **lie**, on either side:
//! the program behind the port takes FIN for the whole as much as the client does.
//!
//! # What channels cannot say
//!
//! Over SPDY each direction of each connection ends by a FIN of its own or by RST_STREAM. The channels of
//! `v4.channel.k8s.io` have neither. There
//!
//! - a client ends all its directions at once, by the Close of the session; so it counts what it got, and closes when
//!   every connection has had its due;
//! - a server ends a connection by the Close as well, behind the last one, and tells of a failure by a text on the
//!   connection's error channel; so a target that ends its direction first ends both, and what it reads is cut off there
//!   (`PortReader::is_cut`): it must not see an end in good order;
//! - a client has no way to break off one connection: it stops sending, and when it closes the session in good order for
//!   the sake of the others, the server has to take that for the end of that one, too. Such sessions are counted as
//!   [*mute*](super::Verdict::Mute). Upstream has the same gap: `websocketStreamHandler` in cri-streaming's
//!   `pkg/streaming/portforward/websocket.go` hands each pair of channels to the runtime, whose reads end (`io.EOF`) when
//!   the socket does, in whatever way (`Conn.handle` in streaming's `pkg/httpstream/wsstream/conn.go` closes all its pipes).

mod brief;
pub mod client;
pub mod judge;
pub mod party;
pub mod script;
pub mod session;

pub use script::{Conversation, Forwarding};
