//! Who may connect, and as whom: what the operator says about it.

use std::path::PathBuf;

/// The settings of authentication, authorisation and browsers. All fields may be assigned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccessOptions {
    /// Users with hashed tokens; see [`Users`](crate::auth::Users). Read again when it changes.
    pub users: Option<PathBuf>,
    /// What they may do; see [`Policy`](crate::authz::Policy). `None`: everything. Read again when it changes.
    pub policy: Option<PathBuf>,
}
