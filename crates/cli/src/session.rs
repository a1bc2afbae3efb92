//! A session from the upgrade to its outcome: our streams, the terminal and the signals around one `Process`.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::notice::Notices;
use crate::output::Output;
use crate::remote::{Plan, Verb};
use crate::signals::{Interrupts, Moved};
use crate::status;
use crate::stdin::Stdin;
use crate::terminal::{self, RawMode};
use std::future::pending;
use std::io;
use tokio::io::AsyncWriteExt as _;
use wsstream::connection::Loss;
use wsstream::proto::terminal_size::TerminalSize;
use wsstream::remotecommand::client::{self, OutputReader, Process, ResizeSender};
use wsstream::remotecommand::{LostSession, LostWhy, Outcome};

/// Opens the session that is planned, runs it, and says how it ended.
pub(crate) async fn run(mut plan: Plan) -> Result<Exit, Failure> {
    // Before the terminal is touched: from here on a signal ends the session instead of the process.
    let mut interrupts = Interrupts::listen().map_err(|error| Failure::local(format!("signals: {error}")))?;
    let process = tokio::select! {
        process = plan.open() => process?,
        interrupt = interrupts.next() => return Err(Failure::signal(interrupt.number, interrupt.name)),
    };
    // Raw only now: until the session is there, Ctrl-C is ours. A terminal that is merely watched stays as it is.
    let raw = if plan.tty && plan.stdin && terminal::stdin_is_terminal() {
        // Before it is raw: whatever ends us must put it back first.
        interrupts.listen_to_all().map_err(|error| Failure::local(format!("signals: {error}")))?;
        let raw = RawMode::enter();
        Some(raw.map_err(|error| Failure::local(format!("cannot set up the terminal: {error}")))?)
    } else {
        None
    };
    if raw.is_some() && plan.verb == Verb::Attach {
        // kubectl's words: the prompt was printed before we came.
        plan.notices.print("If you don't see a command prompt, try pressing enter.".to_owned());
    }
    // Dropping the pump closes the connection, and the server ends the command as its policy says.
    tokio::select! {
        ended = pump(process, &plan, raw.as_ref()) => ended,
        interrupt = interrupts.next() => Err(Failure::signal(interrupt.number, interrupt.name)),
    }
}

/// Moves the bytes until the session is over and all that it printed is written.
async fn pump(mut process: Process, plan: &Plan, raw: Option<&RawMode>) -> Result<Exit, Failure> {
    let protocol = process.subprotocol().name().to_owned();
    let (stdout, stderr) = (process.stdout.take(), process.stderr.take());
    let input = copy_in(process.stdin.take(), &protocol, plan.notices);
    let sizes = follow_size(process.resize.take(), raw, plan.verb == Verb::Attach);
    let session = async {
        // Nothing arrives unless `wait` is polled; it may be done while a slow terminal still prints.
        tokio::try_join!(
            async { Ok::<_, Failure>(process.wait().await) },
            copy_out(stdout, Output::Stdout),
            copy_out(stderr, Output::Stderr),
        )
    };
    let outcome = tokio::select! {
        ended = session => ended?.0,
        failure = input => return Err(failure),
        never = sizes => match never {},
    };
    judge(outcome, &protocol)
}

/// Remote to local. The end of the stream says nothing about the session: that is the outcome's part.
async fn copy_out(reader: Option<OutputReader>, output: Output) -> Result<(), Failure> {
    let Some(mut reader) = reader else { return Ok(()) };
    while let Ok(Some(chunk)) = reader.chunk().await {
        output.write(chunk).await.map_err(|error| output.failed(&error))?;
    }
    Ok(())
}

/// Local to remote. Resolves only when the session must not go on: an input that cannot be read to its end is not
/// to be taken for a complete one.
async fn copy_in(stdin: Option<client::Stdin>, protocol: &str, notices: Notices) -> Failure {
    let Some(mut remote) = stdin else { return pending().await };
    let mut local = match Stdin::open() {
        Ok(local) => local,
        Err(error) => return cannot_read(&error),
    };
    loop {
        match local.chunk().await {
            Ok([]) => break,
            Ok(bytes) => {
                // The session is ending, and its outcome says how; what follows on our input is not ours to take.
                if remote.write_all(bytes).await.is_err() {
                    drop(local);
                    return pending().await;
                }
            }
            Err(error) => return cannot_read(&error),
        }
    }
    match remote.close() {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => notices.warn(&format!(
            "the end of input cannot be signalled over {}; a command that waits for it goes on waiting",
            if protocol.is_empty() { "an unnamed protocol" } else { protocol }
        )),
        _ => {}
    }
    pending().await
}

fn cannot_read(error: &io::Error) -> Failure {
    Failure::local(format!("cannot read standard input: {error}"))
        .next("the command was not told that its input ended; the session was cut")
}

/// Tells the remote side the size of our terminal, now and whenever it changes.
async fn follow_size(
    resize: Option<ResizeSender>,
    raw: Option<&RawMode>,
    redraw: bool,
) -> std::convert::Infallible {
    let (Some(mut remote), Some(raw)) = (resize, raw) else { return pending().await };
    // First the signal, then the size: a change in between is not missed.
    let Ok(mut moved) = Moved::listen() else { return pending().await };
    if redraw && let Some((width, height)) = terminal::size() {
        // A program redraws when its size changes. It may have our size already, so it gets another one first.
        let _ = send_size(&mut remote, width.saturating_add(1), height.saturating_add(1)).await;
    }
    loop {
        if let Some((width, height)) = terminal::size()
            && send_size(&mut remote, width, height).await.is_err()
        {
            return pending().await;
        }
        if moved.next().await {
            // We were stopped and go on: the shell had its own settings in between.
            let _ = raw.apply();
        }
    }
}

async fn send_size(remote: &mut ResizeSender, width: u16, height: u16) -> io::Result<()> {
    match TerminalSize::new(width, height) {
        Some(size) => remote.send(size).await,
        None => Ok(()),
    }
}

/// From the outcome to the exit code.
fn judge(outcome: Outcome, protocol: &str) -> Result<Exit, Failure> {
    match outcome {
        Outcome::Exited(code) => Ok(Exit::Remote(code.get())),
        Outcome::Failed(status) => Err(Failure::refused(status::line(&status.reason, &status.message))),
        Outcome::Ended => Err(Failure::no_status(format!(
            "no exit code: {} carries none",
            if protocol.is_empty() { "an unnamed protocol" } else { protocol }
        ))),
        Outcome::Lost(LostSession { why, stdout, stderr, stdin, .. }) => {
            Err(Failure::lost(format!("{}; whether the command succeeded is unknown", cause(&why))).next(
                format!(
                    "{stdout} bytes of output and {stderr} of errors had arrived, {stdin} of input were sent"
                ),
            ))
        }
        // `Outcome` may grow; what we do not know is not a success.
        other => Err(Failure::lost(other)),
    }
}

/// Why a session is lost. A server that is gone is one case to a person, with TLS and without.
fn cause(why: &LostWhy) -> String {
    match why {
        LostWhy::Connection(Loss::Eof | Loss::Io(io::ErrorKind::UnexpectedEof, _)) => {
            "the server or something on the way to it broke the connection off".to_owned()
        }
        why => why.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::judge;
    use crate::exit::Exit;
    use wsstream::proto::status::{ExitCode, Status};
    use wsstream::remotecommand::Outcome;

    #[test]
    fn outcomes_have_distinct_codes() {
        let exit = |outcome| judge(outcome, "v3.channel.k8s.io").unwrap_or_else(|failure| failure.exit());
        assert_eq!(exit(Outcome::Exited(ExitCode(7))), Exit::Remote(7));
        assert_eq!(exit(Outcome::Ended), Exit::NoStatus);
        assert_eq!(exit(Outcome::Failed(Box::new(Status::internal("x")))), Exit::Refused);
        let failure = judge(Outcome::Failed(Box::new(Status::not_found("pods", "x"))), "").unwrap_err();
        assert_eq!(failure.to_string(), r#"Error from server (NotFound): pods "x" not found"#);
    }
}
