//! `wsstream ps`: the sessions of a server, as a table or as JSON.

use super::{Client, Which};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::Output;
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::Value;
use std::fmt::Write as _;
use wsstream::proto::text::printable;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream ps                           who does what since when, and how much went over it
  wsstream ps -o json | jq '.sessions[] | select(.user == \"ann\")'
  wsstream ps --admin-socket /srv/web/admin.sock")]
pub(crate) struct PsArgs {
    /// The form: a `table` for people, or `json`, with more in it [default: table]
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        value_enum,
        default_value_t = Format::Table,
        hide_possible_values = true,
        hide_default_value = true
    )]
    output: Format,
    #[command(flatten)]
    which: Which,
}

/// The form of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people
    Table,
    /// As the server sends it
    Json,
}

/// Runs the verb.
pub(crate) async fn run(args: &PsArgs) -> Result<Exit, Failure> {
    let list = Client::find(&args.which).await?.ask(Method::GET, "/v1/sessions", false).await?;
    let text = match args.output {
        Format::Table => table(&list),
        Format::Json => format!("{list:#}\n"),
    };
    Output::Stdout.write(text.into()).await.map_err(|error| Output::Stdout.failed(&error))?;
    Ok(Exit::Success)
}

const HEADER: [&str; 8] = ["NUMBER", "KIND", "USER", "FROM", "TARGET", "AGE", "IN", "OUT"];

fn table(list: &Value) -> String {
    let sessions = list.get("sessions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut rows = vec![HEADER.map(str::to_owned)];
    rows.extend(sessions.iter().map(row));
    let mut widths = [0; HEADER.len()];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            // Writing to a String does not fail.
            let _ = write!(line, "{cell:<width$}   ");
        }
        let _ = writeln!(text, "{}", line.trim_end());
    }
    if list.pointer("/server/draining").and_then(Value::as_bool) == Some(true) {
        text.push_str("The server drains: it takes no new sessions, and ends with these.\n");
    }
    text
}

fn row(session: &Value) -> [String; HEADER.len()] {
    let word = |key: &str| {
        let word = session.get(key).and_then(Value::as_str).unwrap_or_default();
        // Names come from clients and files.
        if word.is_empty() { "-".to_owned() } else { printable(word).to_string() }
    };
    let bytes = |key: &str| session.pointer(key).and_then(Value::as_u64).unwrap_or_default();
    let ending = session.get("ending").and_then(Value::as_bool) == Some(true);
    let container = match word("container").as_str() {
        "-" => String::new(),
        container => format!("/{container}"),
    };
    [
        session.get("number").map_or_else(|| "-".to_owned(), ToString::to_string),
        word("kind") + if ending { " (ending)" } else { "" },
        word("user"),
        word("peer"),
        format!("{}/{}{container}", word("namespace"), word("pod")),
        age(session.get("seconds").and_then(Value::as_f64).unwrap_or_default()),
        size(bytes("/bytes/in")),
        size(bytes("/bytes/out").saturating_add(bytes("/bytes/err"))),
    ]
}

/// Two units at most, as kubectl has it.
fn age(seconds: f64) -> String {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "saturates, which is fine for an age"
    )]
    let seconds = seconds as u64;
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m{}s", seconds / 60, seconds % 60),
        7200..172_800 => format!("{}h{}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d{}h", seconds / 86400, seconds % 86400 / 3600),
    }
}

fn size(bytes: u64) -> String {
    let mut unit = "B";
    let mut shown = bytes;
    let mut rest = 0;
    for next in ["KiB", "MiB", "GiB", "TiB"] {
        if shown < 1024 {
            break;
        }
        (rest, shown, unit) = (shown % 1024 * 10 / 1024, shown / 1024, next);
    }
    if unit == "B" || shown >= 10 { format!("{shown}{unit}") } else { format!("{shown}.{rest}{unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_lines_up_and_shows_no_control_characters() {
        let list = json!({
            "server": {"draining": true},
            "sessions": [
                {
                    "number": 7, "kind": "exec", "user": "ann\u{1b}[2J", "peer": "192.0.2.1:5", "namespace": "default",
                    "pod": "host", "container": "host", "seconds": 125.0, "bytes": {"in": 5, "out": 4096, "err": 1},
                    "ending": true
                },
                {
                    "number": 12, "kind": "portforward", "user": "", "peer": "-", "namespace": "default", "pod": "web",
                    "container": "-", "seconds": 3.2, "bytes": {"in": 0, "out": 0, "err": 0}, "ending": false
                },
            ]
        });
        let text = table(&list);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        assert!(lines[0].starts_with("NUMBER   KIND"), "{text}");
        assert!(!text.contains('\u{1b}'));
        assert!(
            lines[1].contains("exec (ending)") && lines[1].contains("2m5s") && lines[1].ends_with("4.0KiB")
        );
        assert!(lines[2].contains("default/web  "), "{text}");
        let column = |line: &str| line.find("default/").unwrap();
        assert_eq!(column(lines[2]), lines[0].find("TARGET").unwrap());
        assert!(lines[3].contains("drains"));
    }

    #[test]
    fn ages_and_sizes_have_two_digits_at_most() {
        for (seconds, text) in
            [(0.9, "0s"), (119.0, "119s"), (7199.0, "119m59s"), (90000.0, "25h0m"), (864000.0, "10d0h")]
        {
            assert_eq!(age(seconds), text);
        }
        for (bytes, text) in
            [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (10 << 20, "10MiB"), (u64::MAX, "16777215TiB")]
        {
            assert_eq!(size(bytes), text);
        }
    }
}
