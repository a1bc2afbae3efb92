//! How much of what: counts and sizes.

use super::{server::RawServer, source::Source};
use crate::{
    config::{Config, ConfigError},
    duration,
    limits::{bandwidth_or_off, buffer, count_or_off, message, patience, rate_or_off, request_head},
};
use serde::Deserialize;
use std::num::NonZeroUsize;
use toml::Spanned;

/// A number, or a word for it.
#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a number, or a word such as \"off\"")]
pub(super) enum Count {
    Number(u64),
    Word(String),
}

impl Count {
    fn into_word(self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Word(word) => word,
        }
    }
}

pub(super) fn read(raw: &mut RawServer, config: &mut Config, source: &Source<'_>) -> Result<(), ConfigError> {
    let limits = &mut config.limits;
    source.set("shared_buffer", raw.shared_buffer.take(), buffer, &mut limits.shared_buffer)?;
    let (count, rate) = (count_or_off, rate_or_off);
    let word = |typed: &mut Option<Spanned<Count>>| {
        typed.take().map(|typed| Spanned::new(typed.span(), typed.into_inner().into_word()))
    };
    if let Some(typed) = word(&mut raw.max_connections_per_address) {
        let mut most = None;
        source.set("max_connections_per_address", Some(typed), count, &mut most)?;
        limits.connections_per_address = Some(most.unwrap_or(usize::MAX));
    }
    let typed = word(&mut raw.max_sessions_per_user);
    source.set("max_sessions_per_user", typed, count, &mut limits.sessions_per_user)?;
    let typed = word(&mut raw.max_sessions_per_target);
    source.set("max_sessions_per_target", typed, count, &mut limits.sessions_per_target)?;
    let typed = word(&mut raw.max_streams_per_user);
    source.set("max_streams_per_user", typed, count, &mut limits.streams_per_user)?;
    source.set("session_rate", word(&mut raw.session_rate), rate, &mut limits.session_rate)?;
    let typed = word(&mut raw.session_rate_per_user);
    source.set("session_rate_per_user", typed, rate, &mut limits.session_rate_per_user)?;
    let typed = raw.session_bandwidth.take();
    source.set("session_bandwidth", typed, bandwidth_or_off, &mut limits.session_bandwidth)?;
    let clock = duration::parse_or_off;
    source.set("session_duration", raw.session_duration.take(), clock, &mut limits.session_duration)?;
    source.set("max_message", raw.max_message.take(), message, &mut limits.max_message)?;
    source.set("receive_buffer", raw.receive_buffer.take(), buffer, &mut limits.receive_buffer)?;
    source.set("max_request_head", raw.max_request_head.take(), request_head, &mut limits.header_bytes)?;
    source.set("request_head_timeout", raw.request_head_timeout.take(), patience, &mut limits.header_read)?;
    source.set(
        "tls_handshake_timeout",
        raw.tls_handshake_timeout.take(),
        patience,
        &mut limits.tls_handshake,
    )?;
    limits.sessions = raw.max_sessions.map(NonZeroUsize::get).or(limits.sessions);
    limits.streams = raw.max_streams.map(NonZeroUsize::get).or(limits.streams);
    limits.connections = raw.max_connections.map_or(limits.connections, NonZeroUsize::get);
    Ok(())
}
