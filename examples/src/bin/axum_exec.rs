//! An exec server on axum: `kubectl exec` reaches whatever `run` does, here a process on this host.
//! No authentication: listen on loopback only, or put your own layer in front.

use std::{future, os::unix::process::ExitStatusExt as _, process, time::Duration};

use axum::{Router, extract::Request as HttpRequest, response::Response, routing::any};
use tokio::io::{self, AsyncRead, AsyncWrite};
use tokio::{net::TcpListener, process::Command, time::sleep, try_join};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams, server::Exec};
use wsstream::upgrade::Rejection;

async fn exec(mut request: HttpRequest) -> Result<Response, Rejection> {
    let session = Exec::accept(&mut request)?;
    let response = session.response().map(Into::into);
    tokio::spawn(session.serve(run));
    Ok(response)
}

async fn run(request: Request, streams: Streams) -> Result<ExitCode, Failure> {
    let mut child = Command::new(request.command.first().map_or("", String::as_str))
        .args(request.command.iter().skip(1))
        .stdin(process::Stdio::piped())
        .stdout(process::Stdio::piped())
        .stderr(process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| Failure::internal(format!("{:?}: {error}", request.command)))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let work = async {
        try_join!(copy(stdout, streams.stdout), copy(stderr, streams.stderr))?;
        child.wait().await
    };
    // The session ends with the command, not with its input, which it need not read.
    let feed = async { (copy(streams.stdin, stdin).await, future::pending().await).1 };
    let status: io::Result<process::ExitStatus> = tokio::select! {
        status = work => status,
        status = feed => status,
        // Its input has ended by then; a command that does not end of it is killed.
        () = async { sleep((streams.disconnect.wait().await, Duration::from_secs(10)).1).await } => Err(io::ErrorKind::TimedOut.into()),
    };
    let status = status.map_err(Failure::internal)?;
    let code = status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0));
    Ok(u8::try_from(code).unwrap_or(255).into())
}

async fn copy(from: Option<impl AsyncRead + Unpin>, to: Option<impl AsyncWrite + Unpin>) -> io::Result<()> {
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
