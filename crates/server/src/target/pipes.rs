//! An exec session without a terminal: three pipes and a process group.

use rustix::process::Signal;
use tokio_util::sync::CancellationToken;
use wsstream::remotecommand::Streams;

use super::{
    command::SessionOptions,
    descriptor::{Descriptor, sleep},
    pump::{aside, input, output},
    session::{SessionError, SessionResult},
    spawn::{Piped, Wanted, with_pipes},
};

/// Runs a command until it has ended and its output has been handed over, or until the disconnect policy has ended it.
///
/// Dropping the future kills the process group.
pub(crate) async fn run(argv: &[String], options: &SessionOptions, streams: Streams) -> SessionResult {
    let wanted = Wanted {
        stdin: streams.stdin.is_some(),
        stdout: streams.stdout.is_some(),
        stderr: streams.stderr.is_some(),
    };
    let Piped { stdin, stdout, stderr, mut processes } = with_pipes(argv, &options.command, wanted)?;
    let leader = &mut processes.leader;
    let exited = CancellationToken::new();
    let relay = async {
        let exit = async {
            let exit = leader.exited().await;
            exited.cancel();
            exit.map_err(SessionError::Wait)
        };
        let drain = |from: Option<Descriptor>, to| {
            let exited = &exited;
            async move {
                if let Some(from) = from {
                    output(&from, to, exited, options.drain).await;
                }
            }
        };
        let (exit, (), ()) = tokio::join!(exit, drain(stdout, streams.stdout), drain(stderr, streams.stderr));
        exit
    };
    let feed = aside(async {
        if let (Some(from), Some(to)) = (streams.stdin, stdin) {
            input(from, to).await;
        }
    });
    // The client is gone, so its input has ended and the pump above has closed the command's stdin; a command that
    // was only waiting for that ends now by itself.
    let patience = async {
        streams.disconnect.wait().await;
        sleep(options.disconnect.finish).await;
    };
    let mut relay = std::pin::pin!(relay);
    let mut feed = std::pin::pin!(feed);
    let early = tokio::select! {
        exit = &mut relay => Some(exit),
        never = &mut feed => match never {},
        () = patience => None,
    };
    if let Some(exit) = early {
        processes.group.release();
        return exit;
    }

    tracing::debug!("the client is gone and its command still runs: SIGTERM");
    processes.group.signal(Signal::TERM);
    let warned = tokio::time::Instant::now();
    let timely = tokio::select! {
        exit = &mut relay => Some(exit),
        never = &mut feed => match never {},
        () = sleep(options.disconnect.kill) => None,
    };
    let exit = match timely {
        Some(exit) => {
            // The command has ended; what it left in the background has the rest of the time.
            processes.group.gone(options.disconnect.kill.saturating_sub(warned.elapsed())).await;
            exit
        }
        None => {
            tracing::debug!("SIGTERM was not enough: SIGKILL");
            processes.group.signal(Signal::KILL);
            tokio::select! {
                exit = &mut relay => exit,
                never = &mut feed => match never {},
            }
        }
    };
    // The group goes out of scope armed: whoever is left in it goes as well.
    exit
}
