//! Who may connect, and as whom: what the operator says about it.

use crate::{browser::Origin, tls::TlsSettings};
use std::path::PathBuf;

/// The settings of authentication, authorisation and browsers. All fields may be assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessOptions {
    /// Users with hashed tokens; see [`Users`](crate::auth::Users). Read again when it changes.
    pub users: Option<PathBuf>,
    /// What they may do; see [`Policy`](crate::authz::Policy). `None`: everything. Read again when it changes.
    pub policy: Option<PathBuf>,
    /// Names by which clients call the server, as [`parse_host`](crate::browser::parse_host) returns them, beside
    /// `localhost`, the addresses it listens on and the names in its certificate.
    pub allowed_hosts: Vec<String>,
    /// Origins whose pages may use the server beside its own.
    pub allowed_origins: Vec<Origin>,
    /// What is asked of clients before they are heard.
    pub tls: TlsSettings,
    /// Unix sockets to listen on. Who is at the other end is `unix:` and the name of its user, with `unix:` and its group as
    /// the group; no token is needed.
    pub listen_unix: Vec<PathBuf>,
    /// The users (numbers) that may connect to them beside root and the server's own.
    pub allow_uids: Vec<u32>,
    /// Listen beyond loopback in plain HTTP all the same. Tokens and sessions can be read on the way; said in the log at
    /// every start.
    pub insecure_listen: bool,
}

/// Reads `optional` or `required`: whether clients must have a certificate.
///
/// # Errors
/// Says which words there are.
pub fn client_auth(typed: &str) -> Result<bool, String> {
    match typed {
        "optional" => Ok(false),
        "required" => Ok(true),
        _ => Err(format!("{typed:?} is neither optional nor required")),
    }
}
