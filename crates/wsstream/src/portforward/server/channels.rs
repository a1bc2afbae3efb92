//! Port-forward over channels: the ports of the URL, each one connection for the life of the session.

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join;
use futures_util::stream::FuturesUnordered;
use wsstream_proto::portforward::{channel_modes, channels_of, preamble};
use wsstream_proto::ws::{CloseCode, CloseReason};

use super::super::channel;
use super::{Forwarded, Options, PortForwarder, Report, SessionEnd, forwarded, left_alone, text};
use crate::connection::Connection;
use crate::server::Upgrade;

pub(super) async fn serve<F: PortForwarder>(
    upgrade: Upgrade,
    ports: &[u16],
    forwarder: &F,
    options: &Options,
    report: &mut Report,
) {
    let opened = upgrade.open(|builder| {
        builder
            .channels(channel_modes(ports.len()))
            .limits(options.limits.clone())
            .timeouts(options.timeouts.clone())
            .given_probe(options.unsent_probe.clone())
    });
    let (connection, driver) = match opened.await {
        Ok(opened) => opened,
        Err(error) => {
            tracing::debug!(%error, "the client left before the session began");
            return;
        }
    };
    let conversation = async {
        let last = run(&connection, ports, forwarder, report).await;
        // When all have ended, so has the session: behind everything that was sent. Its end is that of the data of the last
        // connection, for most clients the only one.
        connection.shutdown(&match last {
            Err(error) if !error.is_clients() => CloseReason::new(CloseCode::INTERNAL, channel::FAILED),
            // A port that has given its whole answer is none that failed, whatever the client had more to say.
            _ => CloseReason::code(CloseCode::NORMAL),
        });
    };
    let (end, ()) = join(driver, conversation).await;
    report.end = Some(SessionEnd::WebSocket(end));
}

/// All connections until the last one has ended, or the client is lost and they have had their time to notice. How the last
/// one has ended.
async fn run<F: PortForwarder>(
    connection: &Connection,
    ports: &[u16],
    forwarder: &F,
    report: &mut Report,
) -> Forwarded {
    let mut running = FuturesUnordered::new();
    let mut last = Ok(());
    for (index, port) in ports.iter().enumerate() {
        running.push(port_of(connection, index, *port, forwarder));
    }
    let all = async {
        while let Some(done) = running.next().await {
            report.count(&done);
            last = done;
        }
    };
    let gone = async {
        connection.disconnected().await;
        left_alone(|| connection.stats().waiting).await;
    };
    tokio::select! {
        () = all => {}
        () = gone => {}
    }
    last
}

/// One port: what it says first, its connection, and why that failed if it did.
async fn port_of<F: PortForwarder>(
    connection: &Connection,
    index: usize,
    port: u16,
    forwarder: &F,
) -> Forwarded {
    let Some((data, error)) = channels_of(index) else { return Ok(()) };
    let (Some(reader), Some(mut writer), Some(mut errors)) =
        (connection.reader(data), connection.writer(data), connection.writer(error))
    else {
        return Ok(());
    };
    let said = async {
        writer.send(Bytes::copy_from_slice(&preamble(port))).await?;
        errors.send(Bytes::copy_from_slice(&preamble(port))).await
    };
    if said.await.is_err() {
        // The client is gone.
        return Ok(());
    }
    let stream = channel::of_server(reader, writer);
    let result = forwarded(port, forwarder.forward(port, stream)).await;
    // However long it takes: a client that is not told sees an end in good order, where one over SPDY sees a reset. It keeps
    // nothing but the session, whose Close would wait behind the same bytes, and whose clocks bound it (`Timeouts`).
    if let Err(error) = &result
        && !error.is_clients()
        && let Err(error) = errors.send(text(port, error).into()).await
    {
        tracing::debug!(port, %error, "the client could not be told");
    }
    result
}
