//! `wsstream attach`: join the main process of a container.

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
  wsstream attach web                           watch what the container prints from now on
  wsstream attach -it calc                      type to it, on the terminal it was started with
  wsstream attach -i sink < file                send it a file

Where the container has a terminal the session is on that terminal, whatever the flags say. What was printed
before is in `wsstream logs`. The exit code is 0 when the session ended in order: it is not the container's.")]
pub(crate) struct AttachArgs {
    /// The pod: NAME or pod/NAME
    #[arg(value_parser = pod::parse_name)]
    pod: String,
    #[command(flatten)]
    session: SessionArgs,
}

/// Runs the verb.
pub(crate) async fn run(args: AttachArgs) -> Result<Exit, Failure> {
    session::run(args.session.plan(Verb::Attach, args.pod)).await
}
