//! `wsstream logs`: print a container's log.

use crate::connection::{Connection, cause, encode};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::kubeconfig::ServerArgs;
use crate::notice::Notices;
use crate::output::{Output, reader_gone};
use crate::pod::{self, Described};
use crate::signals::Interrupts;
use clap::Args;
use http_body_util::BodyExt as _;
use std::fmt::Write as _;

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream logs web                      what the container printed so far
  wsstream logs -f --tail 20 web         the last 20 lines, then what follows
  wsstream logs --since 10m --timestamps web")]
pub(crate) struct LogsArgs {
    /// The pod: NAME or pod/NAME
    #[arg(value_parser = pod::parse_name)]
    pod: String,
    /// The container [default: the one the pod names as its default, else its first]
    #[arg(short, long, value_name = "NAME")]
    container: Option<String>,
    /// Go on printing as more is written
    #[arg(short, long)]
    follow: bool,
    /// Only the last N lines; -1 for all [default: -1]
    #[arg(long, value_name = "N", default_value_t = -1, allow_negative_numbers = true, hide_default_value = true)]
    tail: i64,
    /// Only what is newer than this, such as 5s, 2m or 3h
    #[arg(long, value_name = "DURATION", value_parser = parse_seconds, conflicts_with = "since_time")]
    since: Option<u64>,
    /// Only what is newer than this time (RFC 3339), such as 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    since_time: Option<String>,
    /// Begin each line with its time
    #[arg(long)]
    timestamps: bool,
    /// The log of the previous run of the container
    #[arg(short, long)]
    previous: bool,
    /// At most N bytes
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    limit_bytes: Option<u64>,
    /// Print nothing but the log
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the verb.
pub(crate) async fn run(args: LogsArgs) -> Result<Exit, Failure> {
    let notices = Notices::new(args.quiet);
    let query = args.query();
    let LogsArgs { pod, container, server, .. } = args;
    let mut interrupts = Interrupts::listen().map_err(|error| Failure::local(format!("signals: {error}")))?;
    let print = async {
        let connection = Connection::open(server.resolve().await?)?;
        let container = match container {
            Some(name) => Some(name),
            None => Described::fetch(&connection, &pod).await?.and_then(|described| {
                let (name, notice) = described.default_container()?;
                notices.print(notice);
                Some(name)
            }),
        };
        let container = container.map(|name| format!("container={}&", encode(&name))).unwrap_or_default();
        print(&connection, &format!("{}/log?{container}{query}", connection.pod_path(&pod))).await
    };
    tokio::select! {
        result = print => result,
        interrupt = interrupts.next() => Err(Failure::signal(interrupt.number, interrupt.name)),
        () = reader_gone() => Err(Failure::broken_pipe()),
    }
}

async fn print(connection: &Connection, path: &str) -> Result<Exit, Failure> {
    let mut body = connection.get(path).await?.into_body();
    let mut printed: u64 = 0;
    while let Some(frame) = body.frame().await {
        // The end of the body is marked (a last chunk, or a length), so a cut is an error and never passes for
        // the end of the log.
        let frame = frame.map_err(|error| {
            Failure::lost(format!("the log ended after {printed} bytes: {}", cause(&error)))
        })?;
        let Ok(data) = frame.into_data() else { continue };
        printed = printed.saturating_add(data.len() as u64);
        Output::Stdout.write(data).await.map_err(|error| Output::Stdout.failed(&error))?;
    }
    Ok(Exit::Success)
}

impl LogsArgs {
    fn query(&self) -> String {
        let mut query = format!("follow={}", self.follow);
        let mut add = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                // Writing to a String does not fail.
                let _ = write!(query, "&{name}={value}");
            }
        };
        add("tailLines", u64::try_from(self.tail).ok().map(|lines| lines.to_string()));
        add("sinceSeconds", self.since.map(|seconds| seconds.to_string()));
        add("sinceTime", self.since_time.as_deref().map(|time| encode(time).to_string()));
        add("timestamps", self.timestamps.then(|| "true".to_owned()));
        add("previous", self.previous.then(|| "true".to_owned()));
        add("limitBytes", self.limit_bytes.map(|bytes| bytes.to_string()));
        query
    }
}

/// `90`, `90s`, `1m30s`, `1.5h`, `250ms`: seconds, rounded up, as the server counts in whole ones.
fn parse_seconds(typed: &str) -> Result<u64, String> {
    let wrong = || format!("`{typed}` is not a duration; write for example 30s, 5m or 1h30m");
    if typed.is_empty() {
        return Err(wrong());
    }
    let mut rest = typed;
    let mut seconds = 0.0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(digits);
        let unit_length = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_length);
        let scale = match unit {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            // A bare number is seconds only if it stands alone.
            "" if rest.len() == typed.len() => 1.0,
            _ => return Err(wrong()),
        };
        seconds += number.parse::<f64>().map_err(|_| wrong())? * scale;
        rest = after;
    }
    let rounded = seconds.ceil();
    if !(1.0..1e12).contains(&rounded) {
        return Err(format!("`{typed}` is out of range; at least one second"));
    }
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was checked")]
    Ok(rounded as u64)
}

#[cfg(test)]
mod tests {
    use super::{LogsArgs, parse_seconds};
    use clap::Parser;

    #[derive(Parser)]
    struct Command {
        #[command(flatten)]
        args: LogsArgs,
    }

    fn query(words: &[&str]) -> String {
        let words = std::iter::once("logs").chain(words.iter().copied());
        Command::try_parse_from(words).map(|command| command.args.query()).unwrap_or_else(|e| panic!("{e}"))
    }

    #[test]
    fn flags_become_query_parameters() {
        assert_eq!(query(&["web"]), "follow=false");
        assert_eq!(
            query(&["-f", "--tail=5", "--since=2m", "--timestamps", "-p", "--limit-bytes=10", "web"]),
            "follow=true&tailLines=5&sinceSeconds=120&timestamps=true&previous=true&limitBytes=10"
        );
        assert_eq!(query(&["--tail", "-1", "web"]), "follow=false");
        assert_eq!(query(&["--tail", "0", "web"]), "follow=false&tailLines=0");
        assert_eq!(
            query(&["--since-time", "2026-01-31T12:00:00+01:00", "web"]),
            "follow=false&sinceTime=2026-01-31T12%3A00%3A00%2B01%3A00"
        );
    }

    #[test]
    fn durations_are_gos() {
        let table = [
            ("90", 90),
            ("90s", 90),
            ("1m30s", 90),
            ("1.5h", 5400),
            ("250ms", 1),
            ("1h0m0s", 3600),
            ("1500ms", 2),
        ];
        for (typed, seconds) in table {
            assert_eq!(parse_seconds(typed), Ok(seconds), "{typed}");
        }
        for typed in ["", "s", "5x", "1m30", "-5s", "0s", "1..5s", "5 s", "99999999999999h"] {
            parse_seconds(typed).expect_err(typed);
        }
    }
}
