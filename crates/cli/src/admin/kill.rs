//! `wsstream kill`: ends sessions of a server.

use super::{Client, Which};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::notice::print_line;
use crate::output::Output;
use clap::Args;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream ps                           shows the numbers
  wsstream kill 7 --reason 'maintenance at noon'
  wsstream kill 7 8 9

The command of a session gets SIGTERM (a terminal is hung up) and, 3 s later, SIGKILL; its client gets
the output so far, and is told that an operator ended it and why.")]
pub(crate) struct KillArgs {
    /// The numbers of the sessions, as `wsstream ps` shows them
    #[arg(required = true, value_name = "NUMBER")]
    numbers: Vec<u64>,
    /// What the clients are told; 256 characters at most
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    reason: String,
    #[command(flatten)]
    which: Which,
}

/// Runs the verb. All that can be ended are, also behind one that cannot.
pub(crate) async fn run(args: &KillArgs) -> Result<Exit, Failure> {
    let client = Client::find(&args.which).await?;
    let reason = utf8_percent_encode(&args.reason, NON_ALPHANUMERIC);
    let mut refused = None;
    for number in &args.numbers {
        let path = format!("/v1/sessions/{number}/end?reason={reason}");
        match client.ask(Method::POST, &path, false).await {
            Ok(_) => {
                let line = format!("session {number} is ending\n");
                Output::Stdout.write(line.into()).await.map_err(|error| Output::Stdout.failed(&error))?;
            }
            Err(failure) => {
                if let Some(before) = refused.replace(failure) {
                    print_line(&before.to_string());
                }
            }
        }
    }
    refused.map_or(Ok(Exit::Success), Err)
}
