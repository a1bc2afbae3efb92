//! Kubernetes' streaming layer: the channels that `kubectl exec`, `attach` and `logs` live on, over WebSockets.
//!
//! - [`remotecommand`]: run and serve remote commands; most programs need only this.
//! - [`connection`]: channels for protocols of your own, as Go's `wsstream` package has them.
//! - [`reader`]: one-way streams such as logs.
//! - [`spdy`]: SPDY/3.1 connections and their streams, over a socket or through a [`tunnel`].
//!
//! # Serving a command in ten lines
//!
//! ```no_run
//! # #[cfg(feature = "axum")] mod m {
//! use axum::{Router, extract::Request, response::Response, routing::any};
//! use wsstream::remotecommand::{ExitCode, Failure, Streams, server::Exec};
//! use wsstream::upgrade::Rejection;
//!
//! async fn exec(mut request: Request) -> Result<Response, Rejection> {
//!     let session = Exec::accept(&mut request)?;
//!     let response = session.response().map(Into::into);
//!     tokio::spawn(session.serve(|request: wsstream::remotecommand::Request, mut streams: Streams| async move {
//!         let text = format!("you asked for {:?}\n", request.command);
//!         if let Some(stdout) = &mut streams.stdout {
//!             stdout.send(text.into()).await.map_err(Failure::internal)?;
//!         }
//!         Ok(ExitCode(0))
//!     }));
//!     Ok(response)
//! }
//!
//! pub fn router() -> Router {
//!     Router::new().route("/api/v1/namespaces/{ns}/pods/{pod}/exec", any(exec))
//! }
//! # }
//! ```
//!
//! # Features
//!
//! - `client` (default): ask a server for an upgrade ([`client`]) and run commands there.
//! - `server` (default): accept an upgrade on a hyper server ([`server`]) and serve commands.
//! - `axum`: [`Rejection`](upgrade::Rejection) as an axum response.
//! - `cri`: the streaming server of a container runtime ([`cri`]): URLs with tokens that are good once.
//! - `net`: [`TcpSocket`](tcp::TcpSocket), which knows what is still unsent; part of `client` and `server`.
//!
//! Without features there is [`connection`] and [`reader`] over any stream whose upgrade is done. TLS, HTTP routing and
//! authentication are the embedder's: everything here works on `AsyncRead + AsyncWrite`.
//!
//! # Runtime
//!
//! tokio, with its time driver on. No task is ever spawned: every future is yours to poll. The one exception is
//! `cri::Server`, which owns the tasks of its sessions.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "client")]
pub mod client;
pub mod connection;
#[cfg(feature = "cri")]
pub mod cri;
#[cfg(any(feature = "client", feature = "server"))]
mod gather;
pub mod limits;
#[cfg(any(feature = "client", feature = "server"))]
mod meter;
mod patience;
#[cfg(any(feature = "client", feature = "server"))]
pub mod portforward;
pub mod reader;
#[cfg(any(feature = "client", feature = "server"))]
pub mod remotecommand;
#[cfg(feature = "server")]
pub mod server;
#[cfg(any(feature = "client", feature = "server"))]
mod session_end;
pub mod spdy;
#[cfg(feature = "net")]
pub mod tcp;
pub mod transport;
pub mod tunnel;
pub mod upgrade;
#[cfg(any(feature = "client", feature = "server"))]
mod upgraded;

pub use bytes;
pub use connection::{Connection, Driver};
pub use http;
pub use limits::{Limits, MemoryBudget, Timeouts};
#[cfg(any(feature = "client", feature = "server"))]
pub use meter::{Meter, Metered};
pub use wsstream_proto as proto;
pub use wsstream_proto::channel::{ChannelId, ChannelMode};
pub use wsstream_proto::subprotocol::Subprotocol;

/// Compiles the example of the README.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../README.md")]
struct Readme;
