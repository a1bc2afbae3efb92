//! Who may connect, and as whom: the flags, and where they go.

use super::typed::set;
use clap::Args;
use std::path::PathBuf;
use wsstream_server::Config;
use wsstream_server::browser::{Origin, parse_host};
use wsstream_server::config::client_auth;
use wsstream_server::tls::MinVersion;

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
    /// The authorities whose client certificates name a user (PEM): the subject's common name is the user, its
    /// organizations are the groups. No random token is made then
    #[arg(long, value_name = "FILE")]
    pub(super) client_ca: Option<PathBuf>,
    /// Whether clients must have such a certificate: `optional` or `required` [default: optional]
    #[arg(long, value_name = "WHETHER", value_parser = client_auth)]
    pub(super) client_auth: Option<bool>,
    /// The oldest TLS version to speak: 1.2 or 1.3 [default: 1.2]
    #[arg(long, value_name = "VERSION")]
    tls_min_version: Option<MinVersion>,
    /// With --insecure-http, listen beyond loopback all the same. Whoever is on the way reads tokens and sessions; a
    /// warning says so at every start
    #[arg(long)]
    insecure_listen: bool,
    /// A user, by number, who may connect to the unix sockets as well. May be repeated
    #[arg(long, value_name = "UID")]
    allow_uid: Vec<u32>,
    /// A name by which clients call this server, beside localhost, the addresses it listens on and the names in its
    /// certificate; requests under other names are refused. May be repeated
    #[arg(long, value_name = "NAME", value_parser = parse_host)]
    allowed_host: Vec<String>,
    /// An origin whose pages may use this server from a browser, such as `https://console.example`, beside its own.
    /// May be repeated
    #[arg(long, value_name = "ORIGIN")]
    allowed_origin: Vec<Origin>,
}

impl AccessArgs {
    /// Puts what was typed over what the file said.
    pub(crate) fn apply(self, config: &mut Config) {
        let access = &mut config.access;
        access.users = self.users.or(access.users.take());
        access.policy = self.policy.or(access.policy.take());
        access.tls.client_ca = self.client_ca.or(access.tls.client_ca.take());
        set(self.client_auth, &mut access.tls.client_required);
        set(self.tls_min_version, &mut access.tls.min_version);
        if !self.allow_uid.is_empty() {
            access.allow_uids = self.allow_uid;
        }
        access.insecure_listen |= self.insecure_listen;
        if !self.allowed_host.is_empty() {
            access.allowed_hosts = self.allowed_host;
        }
        if !self.allowed_origin.is_empty() {
            access.allowed_origins = self.allowed_origin;
        }
    }
}
