//! `wsstream link`: a one-time link for a browser.

use super::{Client, Which};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use clap::Args;
use http::Method;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::Value;
use std::fmt::Write as _;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream link --user ann              a page may act as ann
  wsstream link --user kiosk --group ops  one whom the users file does not name, with what the policy
                                        allows the group

The link is good once and for a minute; what it is traded for is good for an hour, or until the user
is removed from the users file, which also says the groups of whom it names. It is a credential: send it to nobody. The server has no page
of its own to open; yours takes the part behind #, which browsers do not send, as CODE: POST
/auth/exchange with {\"code\": CODE} answers with the token.")]
pub(crate) struct LinkArgs {
    /// Who the browser is taken for; the policy has to allow them what they are to do
    #[arg(long, value_name = "NAME", default_value = "operator")]
    user: String,
    /// A group of that user, if the users file does not name them. May be repeated
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
    #[command(flatten)]
    which: Which,
}

/// Runs the verb.
pub(crate) async fn run(args: &LinkArgs) -> Result<Exit, Failure> {
    let encode = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
    let mut path = format!("/v1/links?user={}", encode(&args.user));
    for group in &args.group {
        // Writing to a String does not fail.
        let _ = write!(path, "&group={}", encode(group));
    }
    let answer = Client::find(&args.which).await?.ask(Method::POST, &path, false).await?;
    let url = answer.get("url").and_then(Value::as_str).unwrap_or_default();
    Output::Stdout.write(format!("{url}\n").into()).await.map_err(|error| Output::Stdout.failed(&error))?;
    Ok(Exit::Success)
}
