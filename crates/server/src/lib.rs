//! A server that stock `kubectl` takes for a Kubernetes API server, with this machine, supervised commands or your own
//! [`Target`](target::Target)s as pods: `exec`, `attach`, `cp`, `logs`, `get pods`.
//!
//! # Embedding
//!
//! [`Api`] is an axum router; serve it over HTTP/1.1 as any other and wait for its sessions at the end:
//!
//! ```no_run
//! use std::{sync::Arc, time::Duration};
//! use wsstream_server::{Api, Container, Pod, Pods, auth::{BearerTokens, Token}, target::HostTarget};
//!
//! #[tokio::main]
//! async fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let pods = Pods::new();
//!     let host = HostTarget::new("host", "host", Default::default());
//!     pods.add(Pod::new("host").container(Container::new("host", Arc::new(host))))?;
//!     let token = Token::new(std::env::var("TOKEN")?).ok_or("TOKEN is empty")?;
//!     let api = Api::new(pods, BearerTokens::new([token]));
//!     let listener = tokio::net::TcpListener::bind("127.0.0.1:7443").await?;
//!     let interrupted = async { _ = tokio::signal::ctrl_c().await };
//!     axum::serve(listener, api.router()).with_graceful_shutdown(interrupted).await?;
//!     api.sessions().drain(Duration::from_secs(10)).await;
//!     Ok(())
//! }
//! ```
//!
//! [`Server`] adds what a program of its own needs: TLS with a generated certificate, a kubeconfig, limits on
//! connections and handshakes, and an orderly end. [`Config`] describes all of it in values that a file or flags can
//! fill.
//!
//! # What is logged
//!
//! `tracing` events; those of a session stand in a span `session` (session, kind, namespace, pod, container, user, peer,
//! protocol). At `info`: one line when a session starts and one when it has ended (outcome, report, and by whom it was ended
//! where it was), one for each request refused by authentication. At `warn`: sessions that were cut, the connection limit,
//! shortages, secrets that others can read. At `debug`: what a client did wrong below HTTP. Never: tokens, queries, commands.

pub mod admin;
pub mod api;
pub mod audit;
pub mod auth;
pub mod authz;
pub mod browser;
pub mod config;
mod dry;
pub mod duration;
pub mod kubeconfig;
mod kubelet;
pub mod limits;
pub mod metrics;
mod net;
pub mod pod;
pub mod rate;
mod readiness;
mod reload;
pub mod serve;
pub mod size;
mod strangers;
pub mod target;
pub mod tls;

pub use api::Api;
pub use config::{Config, ConfigError, ContainerSpec, Kind, PodSpec};
pub use limits::Limits;
pub use pod::{Container, Pod, PodError, Pods};
pub use rate::Rate;
pub use readiness::{Check, Readiness};
pub use serve::{Bound, ServeError, Server, ServerOptions, TlsSource, TokenSource};

/// Compiles the example of the README.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
