//! One local connection from its arrival to its end.

use super::ports::PortPair;
use super::say;
use super::session::Sessions;
use crate::notice::{Notices, print_line, quoted};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use wsstream::portforward::{ForwardError, RelayOptions, relay_tcp};

/// How long the server gets to say why it has reset a connection.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Relays it, and says what went wrong if something did.
pub(super) async fn handle(mut socket: TcpStream, pair: PortPair, sessions: Arc<Sessions>, notices: Notices) {
    if !notices.is_quiet() {
        say(&format!("Handling connection for {}", pair.local));
    }
    if let Err(Some(why)) = forward(&mut socket, pair, &sessions).await {
        print_line(&format!(
            "wsstream: an error occurred forwarding {} -> {}: {}",
            pair.local,
            pair.remote,
            quoted(&why)
        ));
    }
}

/// `Err` when the connection was not whole; without a text when it was the local client who broke it off.
async fn forward(socket: &mut TcpStream, pair: PortPair, sessions: &Sessions) -> Result<(), Option<String>> {
    let connected = sessions.connect(pair.remote).await.map_err(Some)?;
    // Held to the end: over channels it is the session itself.
    let (mut report, _session) = (connected.report, connected.session);
    let options = RelayOptions::default();
    let relaying = relay_tcp(connected.stream, socket, &options);
    tokio::pin!(relaying);
    let mut silent = false;
    let relayed = loop {
        tokio::select! {
            // The relay first: what has ended whole did so, whatever else the server has to say of it.
            biased;
            relayed = &mut relaying => break relayed,
            text = report.wait(), if !silent => match text {
                Some(text) => return Err(Some(text)),
                None => silent = true,
            },
        }
    };
    match relayed {
        Ok(moved) => {
            tracing::debug!(?moved, port = pair.remote, "a connection ended");
            Ok(())
        }
        // To the relay a socket is the port and a stream is the client: here the socket is the local client's.
        Err(ForwardError::Target(error)) => {
            tracing::debug!(%error, "the local client broke a connection off");
            Err(None)
        }
        Err(error) => {
            let text = if silent {
                None
            } else {
                tokio::time::timeout(LAST_WORD, report.wait()).await.ok().flatten()
            };
            Err(Some(text.unwrap_or_else(|| match error {
                ForwardError::Client(error) if error.kind() == std::io::ErrorKind::ConnectionReset => format!(
                    "the server broke the connection off; nothing may be listening on port {}, or the server does not forward it",
                    pair.remote
                ),
                ForwardError::Client(error) => format!("the session was lost: {error}"),
                error => error.to_string(),
            })))
        }
    }
}
