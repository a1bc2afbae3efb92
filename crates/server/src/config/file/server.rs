//! `[server]`: one key for each flag of `wsstream serve`, of the same name with `_` for `-`. What a key means stands in the
//! file of its room beside this one.

use super::{
    access::{OneOrMany, OneOrManyUids, Words},
    limits::Count,
    sessions::{RawBackground, RawErrors},
};
use serde::Deserialize;
use std::{num::NonZeroUsize, path::PathBuf};
use toml::Spanned;

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
pub(super) struct RawServer {
    // access
    pub(super) listen: Option<Spanned<OneOrMany>>,
    pub(super) tls_cert: Option<Spanned<PathBuf>>,
    pub(super) tls_key: Option<Spanned<PathBuf>>,
    pub(super) token_file: Option<PathBuf>,
    pub(super) users: Option<PathBuf>,
    pub(super) policy: Option<PathBuf>,
    pub(super) allow_uid: Option<OneOrManyUids>,
    pub(super) client_ca: Option<Spanned<PathBuf>>,
    pub(super) client_auth: Option<Spanned<String>>,
    pub(super) tls_min_version: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) insecure_listen: bool,
    pub(super) allowed_host: Option<Spanned<Words>>,
    pub(super) allowed_origin: Option<Spanned<Words>>,
    pub(super) kubeconfig: Option<PathBuf>,
    #[serde(default)]
    pub(super) insecure_http: bool,
    pub(super) admin_socket: Option<PathBuf>,
    // sessions
    pub(super) on_disconnect: Option<Spanned<String>>,
    pub(super) background: Option<RawBackground>,
    pub(super) finish_grace: Option<Spanned<String>>,
    pub(super) kill_grace: Option<Spanned<String>>,
    pub(super) output_grace: Option<Spanned<String>>,
    pub(super) shutdown_grace: Option<Spanned<String>>,
    pub(super) ping_interval: Option<Spanned<String>>,
    pub(super) dead_peer_timeout: Option<Spanned<String>>,
    pub(super) idle_timeout: Option<Spanned<String>>,
    pub(super) forward_ports: Option<Spanned<String>>,
    pub(super) port_forward_errors: Option<RawErrors>,
    #[serde(default)]
    pub(super) no_keeper: bool,
    // limits
    pub(super) max_connections: Option<NonZeroUsize>,
    pub(super) max_connections_per_address: Option<Spanned<Count>>,
    pub(super) shared_buffer: Option<Spanned<String>>,
    pub(super) max_sessions: Option<NonZeroUsize>,
    pub(super) max_sessions_per_user: Option<Spanned<Count>>,
    pub(super) max_sessions_per_target: Option<Spanned<Count>>,
    pub(super) max_streams: Option<NonZeroUsize>,
    pub(super) max_streams_per_user: Option<Spanned<Count>>,
    pub(super) session_rate: Option<Spanned<Count>>,
    pub(super) session_rate_per_user: Option<Spanned<Count>>,
    pub(super) session_bandwidth: Option<Spanned<String>>,
    pub(super) session_duration: Option<Spanned<String>>,
    pub(super) max_message: Option<Spanned<String>>,
    pub(super) receive_buffer: Option<Spanned<String>>,
    pub(super) max_request_head: Option<Spanned<String>>,
    pub(super) request_head_timeout: Option<Spanned<String>>,
    pub(super) tls_handshake_timeout: Option<Spanned<String>>,
    // audit
    pub(super) audit_log: Option<PathBuf>,
    pub(super) audit_argv: Option<Spanned<String>>,
    pub(super) audit_fail: Option<Spanned<String>>,
    pub(super) audit_max_size: Option<Spanned<String>>,
    pub(super) audit_keep: Option<NonZeroUsize>,
    // metrics
    pub(super) metrics_listen: Option<Spanned<String>>,
}
