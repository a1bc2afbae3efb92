//! The command line as it is typed: the verbs and what they share. Each verb's own flags are in its file.

use crate::admin::drain::{self, DrainArgs};
use crate::admin::kill::{self, KillArgs};
use crate::admin::link::{self, LinkArgs};
use crate::admin::ps::{self, PsArgs};
use crate::attach::{self, AttachArgs};
use crate::exec::{self, ExecArgs};
use crate::exit::{self, Exit};
use crate::failure::Failure;
use crate::generate::{self, CompletionsArgs, ManArgs};
use crate::logs::{self, LogsArgs};
use crate::port_forward::{self, PortForwardArgs};
use crate::serve::{self, ServeArgs};
use crate::token::{self, TokenArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Make any Linux host reachable by stock kubectl, and run commands on any Kubernetes-style server.
#[derive(Debug, Parser)]
#[command(name = "wsstream", version, max_term_width = 100, after_help = exit::HELP)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) log: LogArgs,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// What is logged, and how.
#[derive(Debug, Args)]
#[command(next_help_heading = "Log")]
pub(crate) struct LogArgs {
    /// What to log on standard error: a level, or directives such as `wsstream=debug`
    /// [default: $RUST_LOG, else info for serve and warn otherwise]
    #[arg(long, global = true, value_name = "FILTER", env = "RUST_LOG", hide_env = true)]
    pub(crate) log: Option<String>,
    /// The form of the log: `text`, or `json` for one object a line [default: text]
    #[arg(
        long,
        global = true,
        value_name = "FORMAT",
        value_enum,
        default_value_t = LogFormat::Text,
        hide_possible_values = true,
        hide_default_value = true
    )]
    pub(crate) log_format: LogFormat,
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    Text,
    /// One JSON object a line
    Json,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// Make this machine, or a command, reachable by kubectl
    Serve(Box<ServeArgs>),
    /// Run a command in a pod
    Exec(ExecArgs),
    /// Join the main process of a container
    Attach(AttachArgs),
    /// Print a container's log
    Logs(LogsArgs),
    /// Lead local ports to ports of a pod
    PortForward(PortForwardArgs),
    /// Make a token for a user of `serve --users`
    Token(TokenArgs),
    /// List the sessions of a server on this machine
    Ps(PsArgs),
    /// End sessions of a server on this machine
    Kill(KillArgs),
    /// Make a one-time link that lets a browser in
    Link(LinkArgs),
    /// Let a server on this machine finish its sessions, and end it
    Drain(DrainArgs),
    /// Print what makes a shell complete the words of wsstream
    Completions(CompletionsArgs),
    /// Write the man pages, one for each verb
    #[command(hide = true)]
    Man(ManArgs),
}

impl Verb {
    /// What is logged unless `--log` says otherwise.
    pub(crate) fn log_level(&self) -> &'static str {
        match self {
            Self::Serve(_) => "info",
            _ => "warn",
        }
    }

    /// Takes over what a service manager handed us. Call it before there are threads.
    pub(crate) fn inherit(&mut self) -> Result<(), Failure> {
        match self {
            Self::Serve(args) => args.inherit(),
            _ => Ok(()),
        }
    }

    /// Does it.
    pub(crate) async fn run(self) -> Result<Exit, Failure> {
        match self {
            Self::Serve(args) => serve::run(*args).await,
            Self::Exec(args) => exec::run(args).await,
            Self::Attach(args) => attach::run(args).await,
            Self::Logs(args) => logs::run(args).await,
            Self::PortForward(args) => port_forward::run(args).await,
            Self::Token(args) => token::run(&args),
            Self::Ps(args) => ps::run(&args).await,
            Self::Kill(args) => kill::run(&args).await,
            Self::Link(args) => link::run(&args).await,
            Self::Drain(args) => drain::run(&args).await,
            Self::Completions(args) => generate::completions(&args).await,
            Self::Man(args) => generate::man(&args),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Cli;
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
