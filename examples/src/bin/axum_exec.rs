//! An exec server on axum: `kubectl exec` reaches whatever `run` does, here a process on this host.
//! No authentication: listen on loopback only, or put your own layer in front.

use std::{process::Stdio, time::Duration};

use axum::{Router, extract::Request as HttpRequest, response::Response, routing::any};
use tokio::{io, net::TcpListener, process::Command, time::sleep, try_join};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams, server::Exec};
use wsstream::upgrade::Rejection;

const GRACE: Duration = Duration::from_secs(10);

async fn exec(mut request: HttpRequest) -> Result<Response, Rejection> {
    let session = Exec::accept(&mut request)?;
    let response = session.response().map(Into::into);
    tokio::spawn(session.serve(run));
    Ok(response)
}

async fn run(request: Request, mut streams: Streams) -> Result<ExitCode, Failure> {
    let mut child = Command::new(request.command.first().map_or("", String::as_str))
        .args(request.command.iter().skip(1))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::internal(format!("{:?}: {error}", request.command)))?;
    if let (Some(mut from), Some(mut to)) = (streams.stdin.take(), child.stdin.take()) {
        // Ends with the input, or when the command stops reading it.
        tokio::spawn(async move { io::copy(&mut from, &mut to).await });
    }
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let copies = async { try_join!(copy(out, streams.stdout), copy(err, streams.stderr)) };
    tokio::select! {
        copied = copies => copied.map_err(Failure::internal)?,
        // Its input has ended by then; a command that does not end of it is killed.
        () = async { sleep((streams.disconnect.wait().await, GRACE).1).await } => return Err(Failure::internal("left")),
    };
    let status = child.wait().await.map_err(Failure::internal)?;
    Ok(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(137).into())
}

async fn copy(
    from: Option<impl io::AsyncRead + Unpin>,
    to: Option<impl io::AsyncWrite + Unpin>,
) -> io::Result<()> {
    match (from, to) {
        (Some(mut from), Some(mut to)) => io::copy(&mut from, &mut to).await.map(drop),
        _ => Ok(()),
    }
}

#[tokio::main]
async fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/exec", listener.local_addr()?);
    axum::serve(listener, Router::new().route("/exec", any(exec))).await
}
