//! Port-forward: TCP connections through a streaming server, as server and as client.
//!
//! A server implements [`PortForwarder`] (a closure does too), or takes the ready-made [`Routes`], and hands it to
//! [`server::PortForward`]. A client takes one of [`client::attempts`], gets a [`client::Forward`] and connects as often as it
//! likes.
//! A connection is a [`PortStream`], whatever carries it.
//!
//! | file | what it holds |
//! |---|---|
//! | `stream` | a connection as a stream of bytes |
//! | `channel`, `pair` | what carries it: a channel, or a pair of SPDY streams |
//! | `relay` | bytes between a connection and a socket |
//! | `handler`, `routes` | what a server implements, and a ready-made one |
//! | [`server`], [`client`] | the two roles |

mod channel;
#[cfg(feature = "client")]
pub mod client;
mod error;
#[cfg(feature = "server")]
mod handler;
mod pair;
mod relay;
#[cfg(feature = "server")]
mod routes;
#[cfg(feature = "server")]
pub mod server;
mod stream;

pub use crate::session_end::SessionEnd;
pub use error::ForwardError;
#[cfg(feature = "server")]
pub use handler::PortForwarder;
#[cfg(feature = "net")]
pub use relay::relay_tcp;
pub use relay::{RelayOptions, Relayed, relay};
#[cfg(feature = "server")]
pub use routes::{Route, Routes};
pub use stream::{PortReader, PortStream, PortWriter};
