//! The library over a wire in memory, on one thread: locks, wakers, queues and the driver, and no system calls.

use std::future::Future;

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use tokio::runtime::Builder;
use tokio::task::JoinHandle;
use wsstream::spdy::{Builder as Spdy, Headers};
use wsstream::{ChannelId, Connection, Subprotocol};

use crate::channels::{MODES, stdin};
use crate::payload;

/// What the wire holds: about what a socket does.
const WIRE: usize = 128 << 10;

pub(crate) fn incoming(len: usize, rounds: u32) -> Result<()> {
    alone(async move {
        let (connection, mut peer, driver) = serve();
        let mut reader = connection.reader(ChannelId::STDIN).context("no reader")?;
        let message = stdin(len);
        let sender = tokio::spawn(async move {
            for _ in 0..rounds {
                peer.write_all(&message).await?;
            }
            anyhow::Ok(peer)
        });
        let mut left = len * rounds as usize;
        while left > 0 {
            let chunk = reader.chunk().await?.context("the input ended")?;
            left = left.checked_sub(chunk.len()).context("too much came")?;
        }
        drop(sender.await??);
        driver.abort();
        Ok(())
    })
}

pub(crate) fn outgoing(len: usize, rounds: u32) -> Result<()> {
    alone(async move {
        let (connection, mut peer, driver) = serve();
        let mut writer = connection.writer(ChannelId::STDOUT).context("no writer")?;
        let body = payload(len);
        let header = if len + 1 > 125 { 4 } else { 2 };
        let mut left = (header + 1 + len) * rounds as usize;
        let receiver = tokio::spawn(async move {
            let mut buffer = vec![0; 64 << 10];
            while left > 0 {
                let read = peer.read(&mut buffer).await?;
                ensure!(read > 0, "the wire ended");
                left = left.checked_sub(read).context("too much came")?;
            }
            anyhow::Ok(peer)
        });
        for _ in 0..rounds {
            writer.send(body.clone()).await?;
        }
        drop(receiver.await??);
        driver.abort();
        Ok(())
    })
}

pub(crate) fn echo(rounds: u32) -> Result<()> {
    alone(async move {
        let (connection, mut peer, driver) = serve();
        let mut reader = connection.reader(ChannelId::STDIN).context("no reader")?;
        let mut writer = connection.writer(ChannelId::STDOUT).context("no writer")?;
        let echo: JoinHandle<Result<()>> = tokio::spawn(async move {
            while let Some(chunk) = reader.chunk().await? {
                writer.send(chunk).await?;
            }
            Ok(())
        });
        let message = stdin(16);
        let mut answer = [0; 2 + 1 + 16];
        for _ in 0..rounds {
            peer.write_all(&message).await?;
            peer.read_exact(&mut answer).await?;
        }
        ensure!(answer[3..] == payload(16)[..], "not what was sent");
        echo.abort();
        driver.abort();
        Ok(())
    })
}

pub(crate) fn spdy(rounds: u32) -> Result<()> {
    alone(async move {
        let (near, far) = duplex(WIRE);
        let (client, driver) = Spdy::client().start(near);
        let client_driver = tokio::spawn(driver);
        let (server, driver) = Spdy::server().start(far);
        let server_driver = tokio::spawn(driver);
        let (mut sender, incoming) = tokio::try_join!(
            async { client.open(&Headers::default(), false).await.context("open") },
            async { server.accept().await.context("no stream came") }
        )?;
        let mut receiver = incoming.accept();
        sender.replied().await?;
        let body: Bytes = payload(32 << 10);
        let mut left = body.len() * rounds as usize;
        let sending = tokio::spawn(async move {
            for _ in 0..rounds {
                sender.writer().send(body.clone()).await?;
            }
            anyhow::Ok(sender)
        });
        while left > 0 {
            let chunk = receiver.reader().chunk().await?.context("the stream ended")?;
            left = left.checked_sub(chunk.len()).context("too much came")?;
        }
        drop(sending.await??);
        client_driver.abort();
        server_driver.abort();
        Ok(())
    })
}

/// A server's connection of v5, and the other end of its wire.
fn serve() -> (Connection, DuplexStream, JoinHandle<wsstream::connection::End>) {
    let (near, far) = duplex(WIRE);
    let (connection, driver) = Connection::builder(Subprotocol::V5).channels(MODES).server(near);
    (connection, far, tokio::spawn(driver))
}

/// One thread: which task goes first is the same every time.
fn alone(work: impl Future<Output = Result<()>>) -> Result<()> {
    Builder::new_current_thread().enable_time().build()?.block_on(work)
}
