//! How sessions and their commands run and end, and what port-forward reaches.

use super::{server::RawServer, source::Source};
use crate::{
    config::{Config, ConfigError, ForwardPorts},
    duration,
    target::Background,
};
use serde::Deserialize;
use wsstream::portforward::server::Errors;

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawErrors {
    Reset,
    Report,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(super) enum RawBackground {
    Keep,
    Kill,
}

/// Disconnects, graces and clocks.
pub(super) fn read(raw: &mut RawServer, config: &mut Config, source: &Source<'_>) -> Result<(), ConfigError> {
    let (limits, session) = (&mut config.limits, &mut config.session);
    let policy = &mut session.disconnect;
    source.set("on_disconnect", raw.on_disconnect.take(), str::parse, &mut policy.action)?;
    source.set("finish_grace", raw.finish_grace.take(), duration::parse, &mut policy.finish)?;
    source.set("kill_grace", raw.kill_grace.take(), duration::parse, &mut policy.kill)?;
    source.set("output_grace", raw.output_grace.take(), duration::parse, &mut session.drain.0)?;
    source.set("shutdown_grace", raw.shutdown_grace.take(), duration::parse, &mut limits.drain)?;
    let clock = duration::parse_or_off;
    source.set("ping_interval", raw.ping_interval.take(), clock, &mut limits.ping_interval)?;
    source.set("dead_peer_timeout", raw.dead_peer_timeout.take(), clock, &mut limits.dead_peer)?;
    source.set("idle_timeout", raw.idle_timeout.take(), clock, &mut limits.idle)?;
    config.forward_errors = match raw.port_forward_errors {
        None | Some(RawErrors::Reset) => Errors::Reset,
        Some(RawErrors::Report) => Errors::Report,
    };
    session.background = match raw.background {
        None | Some(RawBackground::Keep) => Background::Keep,
        Some(RawBackground::Kill) => Background::Kill,
    };
    if let Some(typed) = raw.forward_ports.take() {
        let mut ports = ForwardPorts::default();
        source.set("forward_ports", Some(typed), str::parse, &mut ports)?;
        config.forward_ports = Some(ports);
    }
    config.no_keeper = raw.no_keeper;
    Ok(())
}
