//! The library as one embeds it: hyper, one request handler, commands by tokio.

use std::process::Stdio;

use anyhow::Result;
use bytes::BytesMut;
use hyper::body::Incoming;
use hyper::{Request as HttpRequest, Response};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::process::Command;
use wsstream::bytes::Bytes;
use wsstream::portforward::{Routes, server::PortForward};
use wsstream::remotecommand::{ExitCode, Failure, Output, Request, Streams};

const READ: usize = 32 << 10;

pub(super) async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        super::answer_all(socket, answer);
    }
}

fn answer(mut request: HttpRequest<Incoming>) -> Response<String> {
    if !request.uri().path().ends_with("/portforward") {
        return super::accept_exec(request, None, run);
    }
    match PortForward::accept(&mut request) {
        Ok(session) => {
            let response = session.response().map(|()| String::new());
            tokio::spawn(session.serve(Routes::loopback()));
            response
        }
        Err(rejection) => rejection.into_response(),
    }
}

/// A command; or, behind an @, a function, where no process should be in the way.
async fn run(request: Request, streams: Streams) -> Result<ExitCode, Failure> {
    let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
    match words[..] {
        ["@echo"] => echo(streams).await,
        ["@hold"] => {
            streams.disconnect.wait().await;
            Ok(())
        }
        ["@zeros", bytes, size] => {
            let number = |word: &str| word.parse().map_err(Failure::internal);
            zeros(streams, number(bytes)?, number(size)?).await
        }
        _ => return command(&words, streams).await,
    }
    .map(|()| ExitCode(0))
    .map_err(Failure::internal)
}

async fn echo(streams: Streams) -> std::io::Result<()> {
    let (Some(mut stdin), Some(mut stdout)) = (streams.stdin, streams.stdout) else { return Ok(()) };
    while let Some(chunk) = stdin.chunk().await? {
        stdout.send(chunk).await?;
    }
    Ok(())
}

/// As many of these share a thread, each lets the others run now and then.
const TURN: usize = 32;

async fn zeros(streams: Streams, mut left: usize, size: usize) -> std::io::Result<()> {
    let Some(mut stdout) = streams.stdout else { return Ok(()) };
    let block = Bytes::from(vec![0; size]);
    while left > 0 {
        for _ in 0..TURN {
            let part = block.slice(..left.min(size));
            left -= part.len();
            stdout.send(part).await?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn command(words: &[&str], streams: Streams) -> Result<ExitCode, Failure> {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]).stdout(Stdio::piped());
    command.stdin(if streams.stdin.is_some() { Stdio::piped() } else { Stdio::null() });
    let mut child = command.spawn().map_err(Failure::internal)?;
    let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
    let feed = async {
        if let (Some(mut from), Some(mut to)) = (streams.stdin, stdin) {
            let _ = from.hand_on(&mut to).await;
        }
        std::future::pending::<()>().await;
    };
    let drain = async {
        if let (Some(from), Some(to)) = (stdout, streams.stdout) {
            let _ = output(from, to).await;
        }
        child.wait().await
    };
    let status = tokio::select! {
        status = drain => status.map_err(Failure::internal)?,
        () = feed => return Err(Failure::internal("unreachable")),
    };
    Ok(ExitCode(u8::try_from(status.code().unwrap_or(255)).unwrap_or(255)))
}

async fn output(mut from: tokio::process::ChildStdout, mut to: Output) -> std::io::Result<()> {
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ);
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        to.send(buffer.split().freeze()).await?;
    }
}
