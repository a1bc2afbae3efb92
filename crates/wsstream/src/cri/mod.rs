//! The streaming server of a container runtime, as the Container Runtime Interface (CRI) has it.
//!
//! A kubelet asks the runtime over gRPC for an exec, an attach or a port-forward, and is given a URL with a token that is
//! good once and for a minute; what the client then says goes to that URL. A runtime embeds a [`Server`]: its gRPC methods
//! call [`get_exec`](Server::get_exec), [`get_attach`](Server::get_attach) and
//! [`get_port_forward`](Server::get_port_forward), and any HTTP/1.1 server with upgrades answers the URLs by it.
//!
//! ```no_run
//! use wsstream::cri::{Config, ExecRequest, Runtime, Server};
//! # use wsstream::portforward::{ForwardError, PortStream};
//! # use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};
//! # struct Containers;
//! # impl Runtime for Containers {
//! #     async fn exec(&self, _: &str, _: Request, _: Streams) -> Result<ExitCode, Failure> { Ok(ExitCode(0)) }
//! #     async fn attach(&self, _: &str, _: Request, _: Streams) -> Result<(), Failure> { Ok(()) }
//! #     async fn forward(&self, _: &str, _: u16, _: PortStream) -> Result<(), ForwardError> { Ok(()) }
//! # }
//!
//! # async fn f() -> Result<(), Box<dyn std::error::Error>> {
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
//! let config = Config::new(&format!("http://{}/", listener.local_addr()?))?;
//! let server = Server::new(config, Containers);
//!
//! // In the gRPC method `Exec`:
//! let url = server.get_exec(ExecRequest {
//!     container_id: "c1".into(),
//!     cmd: vec!["date".into()],
//!     stdout: true,
//!     ..ExecRequest::default()
//! })?;
//!
//! // And in the HTTP server, here hyper's:
//! let (stream, _) = listener.accept().await?;
//! let io = hyper_util::rt::TokioIo::new(stream);
//! hyper::server::conn::http1::Builder::new().serve_connection(io, server.clone()).with_upgrades().await?;
//! # let _ = url;
//! # Ok(())
//! # }
//! ```
//!
//! # What it takes
//!
//! Everything that the rest of this crate takes: SPDY v1 to v4 and the WebSocket channels that kubelets send to
//! runtimes, and also v5 and the port-forward tunnel. Kubelets since 1.36 pass those on to a runtime that takes them, and
//! crictl speaks nothing else over WebSocket; a runtime with Go's server answers 403.
//!
//! # Tokens and answers
//!
//! | request | answer |
//! |---|---|
//! | a token that is unknown, used, older than [`Config::token_ttl`], or of another route | 404 |
//! | another method than GET or POST | 405; the token stays good |
//! | a good token, but no upgrade, or one to nothing that is served | 400 or 403; the token is used up |
//! | all else | 101 |
//!
//! What was asked for over gRPC counts, not what the URL's query says. The URL is a secret for as long as the token is
//! good: who knows it runs the command. Serve it on a loopback address or over TLS.

mod cache;
mod config;
mod error;
mod request;
mod runtime;
mod server;
mod service;

pub use config::{Config, ConfigError};
pub use error::Error;
pub use request::{AttachRequest, ExecRequest, PortForwardRequest};
pub use runtime::Runtime;
pub use server::{Drained, Server};
