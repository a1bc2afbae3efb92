//! Our server for Go's client: the services of interop/go/spdystream, in Rust.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, bail, ensure};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    process::Command,
    task::JoinSet,
    time::sleep,
};
use wsstream::spdy::{Builder, Connection, End, GoAwayStatus, ReadError, ResetStatus, Stream};

use super::until_error;
use crate::{
    interop::{
        Env,
        case::{Case, Runner},
        client::SHORT,
        scripted,
    },
    payload::hex,
};

/// How each connection of Go's client ended here, and the service it asked for first.
type Ends = Arc<Mutex<Vec<(String, End)>>>;

/// Go's client asks for our services; then every connection must have ended in good order.
pub(super) async fn against_client(env: &Env, program: &Path, runner: &mut Runner<'_>) -> Result<()> {
    let group = "go spdystream client";
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?.to_string();
    let ends = Ends::default();
    let serving = tokio::spawn(serve_all(listener, Arc::clone(&ends)));
    let mut command = Command::new(program);
    command.args(["client", &address]);
    scripted::run(env, group, command, runner).await;
    let case = Case::new("every connection ended in good order", in_order);
    runner.group(group, &ends, vec![case]).await;
    serving.abort();
    Ok(())
}

async fn in_order(ends: &Ends) -> Result<()> {
    let started = Instant::now();
    loop {
        let ends = ends.lock().map_err(|_| anyhow!("poisoned"))?.clone();
        let bad = ends.iter().find(|(_, end)| !matches!(end, End::Closed { status: GoAwayStatus::OK, .. }));
        ensure!(bad.is_none(), "one ended by {bad:?}");
        if !ends.is_empty() {
            return Ok(());
        }
        ensure!(started.elapsed() < SHORT, "none has ended");
        sleep(Duration::from_millis(20)).await;
    }
}

async fn serve_all(listener: TcpListener, ends: Ends) -> std::io::Result<()> {
    let mut sessions = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        let ends = Arc::clone(&ends);
        sessions.spawn(async move {
            let end = serve(socket).await;
            if let Ok(mut ends) = ends.lock() {
                ends.push(end);
            }
        });
    }
}

async fn serve(socket: TcpStream) -> (String, End) {
    let mut first = None;
    let (connection, driver) = Builder::server().start(socket);
    let ended = Arc::new(AtomicU64::new(0));
    let mut services = JoinSet::new();
    let accept = async {
        while let Some(incoming) = connection.accept().await {
            let service = incoming.headers().text("do").unwrap_or_default().to_owned();
            first.get_or_insert_with(|| service.clone());
            if service == "refuse" {
                incoming.reject(ResetStatus::REFUSED_STREAM);
                continue;
            }
            let (stream, connection, ended) = (incoming.accept(), connection.clone(), Arc::clone(&ended));
            services.spawn(async move {
                if let Err(error) = answer(&service, stream, &connection, &ended).await {
                    println!("    {service}: {error:#}");
                }
            });
        }
    };
    let (end, ()) = tokio::join!(driver, accept);
    (first.unwrap_or_default(), end)
}

async fn answer(service: &str, stream: Stream, connection: &Connection, ended: &AtomicU64) -> Result<()> {
    let (mut reader, mut writer) = stream.split();
    match service {
        "echo" => {
            while let Some(chunk) = reader.chunk().await? {
                writer.send(chunk).await?;
            }
        }
        "digest" => {
            let (mut hasher, mut count) = (Sha256::new(), 0);
            while let Some(chunk) = reader.chunk().await? {
                hasher.update(&chunk);
                count += chunk.len();
            }
            let digest = hex(&hasher.finalize());
            writer.write_all(format!("{count} {digest}").as_bytes()).await?;
        }
        "reset" => {
            writer.write_all(b"before").await?;
            writer.reset_after_data(ResetStatus::CANCEL);
            return Ok(());
        }
        "watch" => {
            let end = until_error(&mut reader, &mut Vec::new()).await?;
            ensure!(end == Some(ReadError::Reset(ResetStatus::CANCEL)), "a reset expected, got {end:?}");
            ended.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        "watched" => {
            // Left unread, its end would be answered by a reset, which can meet a socket that Go has closed by then.
            while reader.chunk().await?.is_some() {}
            writer.write_all(ended.load(Ordering::Relaxed).to_string().as_bytes()).await?;
        }
        "goaway" => {
            writer.close()?;
            connection.shutdown(GoAwayStatus::OK);
            return Ok(());
        }
        other => bail!("no service {other:?}"),
    }
    writer.close()?;
    Ok(())
}
