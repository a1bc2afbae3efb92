//! A container runtime's streaming server, beside so much of a CRI service that `crictl` drives it:
//!
//! ```text
//! cri_streaming /tmp/cri.sock cat &
//! crictl -r unix:///tmp/cri.sock exec --transport websocket -i app1 sh
//! ```
//!
//! No authentication: who reaches the socket, or has one of its URLs for a minute, runs commands. `exec`, `attach` and
//! `port-forward` of other kinds of containers are another `cri::Runtime`.

use anyhow::{Context as _, Result};
use axum::Router;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;
use wsstream::cri::{Config, Server};
use wsstream_examples::cri::{Containers, Cri, Images};

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let socket = arguments.next().context("usage: cri_streaming SOCKET COMMAND [ARGUMENT]...")?;
    let containers = Containers::start(arguments.collect());

    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let streaming = Server::new(Config::listening_on(listener.local_addr()?)?, containers);
    let routes = Router::new().fallback_service(streaming.clone());
    let service = tonic::transport::Server::builder().add_service(Cri::new(streaming)).add_service(Images);

    let socket_listener = UnixListener::bind(&socket).with_context(|| format!("cannot bind {socket}"))?;
    println!("unix://{socket}");
    tokio::select! {
        done = axum::serve(listener, routes) => done?,
        done = service.serve_with_incoming(UnixListenerStream::new(socket_listener)) => done?,
    }
    Ok(())
}
