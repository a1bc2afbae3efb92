//! Who may connect, and as whom: the flags, and where they go.

use clap::Args;
use std::path::PathBuf;
use wsstream_server::Config;

/// What was typed. What was not typed stays as the configuration file or the default has it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Access")]
pub(crate) struct AccessArgs {
    /// Users with hashed tokens and groups (TOML); read again when it changes. `wsstream token` makes a token. No
    /// random token is made then
    #[arg(long, value_name = "FILE")]
    pub(super) users: Option<PathBuf>,
    /// What users and groups may do (TOML); read again when it changes. What no rule allows is refused
    /// [default: everybody who has a token may do everything]
    #[arg(long, value_name = "FILE")]
    pub(super) policy: Option<PathBuf>,
}

impl AccessArgs {
    /// Puts what was typed over what the file said.
    pub(crate) fn apply(self, config: &mut Config) {
        let access = &mut config.access;
        set(self.users, &mut access.users);
        set(self.policy, &mut access.policy);
    }
}

fn set<T>(typed: Option<T>, to: &mut Option<T>) {
    if typed.is_some() {
        *to = typed;
    }
}
