//! An exec server on bare hyper, without a router: every request is an exec, and the "command" is a function.

use std::convert::Infallible;

use hyper::{Request as HttpRequest, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams, server::Exec};

async fn exec(mut request: HttpRequest<Incoming>) -> Result<Response<String>, Infallible> {
    let session = match Exec::accept(&mut request) {
        Ok(session) => session,
        // A Status as JSON, which kubectl prints as the cause.
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let response = session.response().map(|()| String::new());
    tokio::spawn(async move {
        let report = session.serve(shout).await;
        println!("{report}");
    });
    Ok(response)
}

/// Prints its input in capital letters; the exit code is the number of arguments.
async fn shout(request: Request, streams: Streams) -> Result<ExitCode, Failure> {
    let (Some(mut stdin), Some(mut stdout)) = (streams.stdin, streams.stdout) else {
        return Err(Failure::internal("this command needs -i"));
    };
    while let Some(chunk) = stdin.chunk().await.map_err(Failure::internal)? {
        stdout.send(chunk.to_ascii_uppercase().into()).await.map_err(Failure::internal)?;
    }
    Ok(ExitCode(u8::try_from(request.command.len() - 1).unwrap_or(u8::MAX)))
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    println!("http://{}/exec", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(async move {
            let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(exec));
            if let Err(error) = connection.with_upgrades().await {
                eprintln!("{error}");
            }
        });
    }
}
