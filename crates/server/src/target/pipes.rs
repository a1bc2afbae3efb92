//! An exec session without a terminal: three pipes and a process group.

use tokio_util::sync::CancellationToken;
use wsstream::remotecommand::Streams;

use super::{
    command::SessionOptions,
    descriptor::Descriptor,
    ending::{Ending, carry_out, due},
    pump::{aside, input, output},
    session::{SessionError, SessionResult, finish, forced},
    spawn::{Piped, Wanted, with_pipes},
};

/// Runs a command until it has ended and its output has been handed over, or until the disconnect policy or the end of
/// the server has ended it.
///
/// Dropping the future kills the process group.
pub(crate) async fn run(
    argv: &[String],
    options: &SessionOptions,
    streams: Streams,
    ending: &Ending,
) -> SessionResult {
    let wanted = Wanted {
        stdin: streams.stdin.is_some(),
        stdout: streams.stdout.is_some(),
        stderr: streams.stderr.is_some(),
    };
    let Piped { stdin, stdout, stderr, mut processes } = with_pipes(argv, &options.command, wanted).await?;
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
    // When the client is gone its input has ended and the pump above has closed the command's stdin; a command that
    // was only waiting for that ends by itself before the plan is due.
    let due = due(&options.disconnect, false, &exited, &streams.disconnect, ending);
    let mut relay = std::pin::pin!(relay);
    let mut feed = std::pin::pin!(feed);
    let plan = tokio::select! {
        exit = &mut relay => return finish(processes.group, exit, options.background),
        never = &mut feed => match never {},
        plan = due => plan,
    };
    // The group goes out of scope armed: whoever is left in it goes as well.
    forced(plan.why, carry_out(plan, &processes.group, relay, feed).await)
}
