//! Runs a command on a server without TLS: `client http://HOST:PORT/exec COMMAND…`. Its exit code is the remote one.

use std::process::ExitCode;

use anyhow::Context as _;
use tokio::{io, net::TcpStream};
use wsstream::http::Uri;
use wsstream::remotecommand::{Outcome, Request, client};

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let endpoint: Uri = arguments.next().context("usage: client URL COMMAND…")?.parse()?;
    let stream = TcpStream::connect(endpoint.authority().context("the URL has no host")?.as_str()).await?;
    stream.set_nodelay(true)?;

    let command = client::exec(Request::command(arguments).stdin(true).stdout(true).stderr(true));
    let mut process = command.connect(stream, command.request(&endpoint)?).await?;
    let (mut stdin, mut stdout, mut stderr) =
        (process.stdin.take(), process.stdout.take(), process.stderr.take());

    let input = async {
        if let Some(to) = &mut stdin {
            io::copy(&mut io::stdin(), to).await?;
            to.close()?;
        }
        // The session goes on when the input has ended.
        std::future::pending::<io::Result<()>>().await
    };
    let output = async {
        let (mut terminal_out, mut terminal_err) = (io::stdout(), io::stderr());
        let out = async {
            io::copy(stdout.as_mut().context("no stdout")?, &mut terminal_out).await.map_err(Into::into)
        };
        let err = async {
            io::copy(stderr.as_mut().context("no stderr")?, &mut terminal_err).await.map_err(Into::into)
        };
        // An error ends the session, and the outcome says so.
        let _: (anyhow::Result<u64>, anyhow::Result<u64>) = tokio::join!(out, err);
    };
    let session = async { tokio::join!(output, process.wait()).1 };
    let outcome = tokio::select! {
        outcome = session => outcome,
        Err(error) = input => return Err(error).context("sending stdin"),
    };
    // Not `return`: the runtime would wait for the thread that reads our stdin.
    std::process::exit(match outcome {
        Outcome::Exited(code) => i32::from(code.get()),
        other => {
            eprintln!("{other}");
            1
        }
    })
}
