//! Both ends of port-forward. `port_forward serve ADDRESS` leads to the ports of this machine's loopback;
//! `port_forward http://HOST:PORT/portforward REMOTE` listens on a free port and leads each connection there.

use anyhow::Context as _;
use axum::{Router, extract::Request, response::Response, routing::any};
use tokio::net::{TcpListener, TcpStream};
use wsstream::http::Uri;
use wsstream::portforward::server::{PortForward, Rejection};
use wsstream::portforward::{RelayOptions, Routes, client, relay_tcp};

async fn portforward(mut request: Request) -> Result<Response, Rejection> {
    let session = PortForward::accept(&mut request)?; // Channels, SPDY, or both: the request says which.
    let response = session.response().map(Into::into);
    tokio::spawn(session.serve(Routes::loopback()));
    Ok(response)
}

async fn serve(address: &str) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address).await?;
    println!("http://{}/portforward", listener.local_addr()?);
    Ok(axum::serve(listener, Router::new().route("/portforward", any(portforward))).await?)
}

async fn forward(endpoint: Uri, remote: u16) -> anyhow::Result<()> {
    let server = TcpStream::connect(endpoint.authority().context("the URL has no host")?.as_str()).await?;
    server.set_nodelay(true)?;
    let attempt = client::tunnel();
    let (session, driver) = attempt.connect(server, attempt.request(&endpoint)?).await?;
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("Forwarding from {} -> {remote}", listener.local_addr()?);
    let connections = async {
        loop {
            let ((mut socket, _), session) = (listener.accept().await?, session.clone());
            tokio::spawn(async move {
                let forwarded = async {
                    // Not even an empty answer, which an end in good order would be. `relay_tcp` sees to the rest.
                    let opened =
                        session.connect(remote).await.inspect_err(|_| drop(socket.set_zero_linger()))?;
                    anyhow::Ok(relay_tcp(opened.stream, &mut socket, &RelayOptions::default()).await?)
                };
                forwarded.await.inspect_err(|error| eprintln!("a connection to {remote} failed: {error}"))
            });
        }
    };
    tokio::select! {
        end = driver => anyhow::bail!("the session has ended: {end}"),
        failed = connections => failed,
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", address] => serve(address).await,
        [url, port] => forward(url.parse()?, port.parse()?).await,
        _ => anyhow::bail!("usage: port_forward serve ADDRESS, or port_forward URL PORT"),
    }
}
