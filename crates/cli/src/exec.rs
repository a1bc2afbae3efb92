//! `wsstream exec`: run a command in a pod.

use crate::exit::Exit;
use crate::failure::Failure;
use crate::pod;
use crate::remote::{SessionArgs, Verb};
use crate::session;
use clap::Args;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream exec web -- uname -a                 outputs apart, the exit code is the command's
  tar c src | wsstream exec -i web -- tar x     standard input too, and its end
  wsstream exec -it web -- sh                   a shell on a terminal
  wsstream exec web -c app -- env               in a container of your choice
  wsstream exec web -- sh -c 'echo $HOME'       a shell there expands what is quoted here")]
pub(crate) struct ExecArgs {
    /// The pod: NAME or pod/NAME
    #[arg(value_parser = pod::parse_name)]
    pod: String,
    /// The command and its arguments, after `--`
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<String>,
    #[command(flatten)]
    session: SessionArgs,
}

/// Runs the verb.
pub(crate) async fn run(args: ExecArgs) -> Result<Exit, Failure> {
    session::run(args.session.plan(Verb::Exec(args.command), args.pod)).await
}
