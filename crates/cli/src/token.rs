//! `wsstream token`: make a token and the line that lets its bearer in.
//!
//! The token is made here and printed once. It is never an argument: those are seen by everybody on the machine, and kept
//! by shells.

use crate::exit::Exit;
use crate::failure::Failure;
use clap::Args;
use std::io::Write as _;
use wsstream_server::auth::Token;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream token --user ann             a token, and the lines for the file of `serve --users FILE`
  wsstream token --user ann --group ops the same, with a group

The first line is the token: give it to its user, it is not kept anywhere. The rest holds only its
hash and goes into the users file, which a running server reads again by itself.")]
pub(crate) struct TokenArgs {
    /// The user that the token is for
    #[arg(long, value_name = "NAME", default_value = "user", hide_default_value = true)]
    user: String,
    /// A group of the user. May be repeated
    #[arg(long, value_name = "NAME")]
    group: Vec<String>,
}

/// Runs the verb.
pub(crate) fn run(args: &TokenArgs) -> Result<Exit, Failure> {
    if args.user.is_empty() || args.user.chars().any(char::is_control) {
        return Err(Failure::usage("a user's name must not be empty or hold control characters"));
    }
    let token = Token::random();
    let text = format!("{}\n\n{}", token.expose(), lines(args, &token.hashed()));
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Ok(Exit::Success),
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(Exit::BROKEN_PIPE),
        Err(error) => Err(Failure::local(format!("cannot print the token: {error}"))),
    }
}

/// JSON strings and lists of them are TOML as well.
fn lines(args: &TokenArgs, hashed: &str) -> String {
    let quoted = |value: serde_json::Value| value.to_string();
    let groups = match args.group.as_slice() {
        [] => String::new(),
        groups => format!("groups = {}\n", quoted(groups.into())),
    };
    format!("[[user]]\nname = {}\n{groups}tokens = [\"{hashed}\"]\n", quoted(args.user.as_str().into()))
}

#[cfg(test)]
mod tests {
    use super::{TokenArgs, lines};

    #[test]
    fn the_lines_can_be_pasted() {
        let args = TokenArgs { user: "an\"n".into(), group: vec!["ops".into(), "dev".into()] };
        let expected = "[[user]]\nname = \"an\\\"n\"\ngroups = [\"ops\",\"dev\"]\ntokens = [\"sha256:00\"]\n";
        assert_eq!(lines(&args, "sha256:00"), expected);
    }
}
