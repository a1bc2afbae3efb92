//! A command interpreter that lives in the test, and how its commands end.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wsstream::remotecommand::{ExitCode, Failure, Outcome, Request, Streams};

use crate::common;

/// A shell of few words: `cat N` copies N bytes of input, or all; `exit N`; `fail`; `panic`; `both`.
pub(crate) async fn run(request: Request, mut streams: Streams) -> Result<ExitCode, Failure> {
    let words: Vec<&str> = request.command.iter().map(String::as_str).collect();
    match words[..] {
        ["cat", n] => {
            let stdin = streams.stdin.take().unwrap();
            let mut stdin = stdin.take(n.parse().unwrap());
            tokio::io::copy(&mut stdin, streams.stdout.as_mut().unwrap()).await.map_err(Failure::internal)?;
            Ok(ExitCode(0))
        }
        ["both"] => {
            let (mut stdout, mut stderr) = (streams.stdout.take().unwrap(), streams.stderr.take().unwrap());
            let data = common::pattern(300_000);
            let (one, two) = tokio::join!(stdout.write_all(&data), stderr.write_all(&data[1..]));
            one.and(two).map_err(Failure::internal)?;
            Ok(ExitCode(7))
        }
        ["exit", n] => Ok(ExitCode(n.parse().unwrap())),
        ["fail"] => Err(Failure::internal("no such file")),
        _ => panic!("the handler panics, as it should"),
    }
}

/// Why a command failed.
pub(crate) fn message(outcome: &Outcome) -> &str {
    match outcome {
        Outcome::Failed(status) => &status.message,
        other => panic!("no failure: {other:?}"),
    }
}
