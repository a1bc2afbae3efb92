//! The log: on standard error, so that standard output carries nothing but what was asked for.

use crate::args::{LogArgs, LogFormat, Verb};
use crate::failure::Failure;
use std::io::IsTerminal as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::SubscriberInitExt as _;

/// Starts logging.
pub(crate) fn start(args: &LogArgs, verb: &Verb) -> Result<(), Failure> {
    let default = verb.log_level();
    let filter = args.log.as_deref().filter(|filter| !filter.is_empty()).unwrap_or(default);
    let filter = EnvFilter::try_new(filter).map_err(|error| {
        Failure::usage(format!("--log {filter}: {error}"))
            .next("write a level, such as debug, or wsstream=debug")
    })?;
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let started = match args.log_format {
        LogFormat::Text => lines.finish().try_init(),
        LogFormat::Json => lines.json().finish().try_init(),
    };
    started.map_err(|error| Failure::local(format!("cannot start the log: {error}")))
}
