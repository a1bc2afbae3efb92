//! `wsstream drain`: lets a server finish its sessions, and ends it.

use super::{Client, Which};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use clap::Args;
use http::Method;
use serde_json::Value;
use std::time::Duration;
use wsstream_server::duration;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream drain                        waits for as long as sessions take
  wsstream drain --timeout 1h           after an hour the rest is ended, as by SIGTERM

From now on the server answers new sessions with 503, and /readyz too, so that a balancer sends them
elsewhere. Watches and followed logs end. When the last session has ended, so does the server; this
command waits for that. Interrupting it leaves the server draining.")]
pub(crate) struct DrainArgs {
    /// How long sessions may go on; then the server is stopped, which gives them --shutdown-grace more
    /// [default: as long as they take]
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    timeout: Option<Duration>,
    #[command(flatten)]
    which: Which,
}

/// Runs the verb.
pub(crate) async fn run(args: &DrainArgs) -> Result<Exit, Failure> {
    let client = Client::find(&args.which).await?;
    let path = match args.timeout {
        None => "/v1/drain".to_owned(),
        Some(limit) => format!("/v1/drain?timeout={}ms", limit.as_millis()),
    };
    let drained = client.ask(Method::POST, &path, true).await?;
    let number = |key: &str| drained.get(key).and_then(Value::as_u64).unwrap_or_default();
    let line = match (number("ended"), number("cut")) {
        (0, _) => "the server has ended; all sessions ended by themselves\n".to_owned(),
        (ended, 0) => format!("the server has ended; {ended} sessions were ended, and their clients told\n"),
        (ended, cut) => {
            format!(
                "the server has ended; {ended} sessions were ended, {cut} of them without their clients knowing why\n"
            )
        }
    };
    Output::Stdout.write(line.into()).await.map_err(|error| Output::Stdout.failed(&error))?;
    Ok(Exit::Success)
}
