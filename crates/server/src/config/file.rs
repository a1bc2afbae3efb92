//! The configuration file as it is typed. Each error names the line that has to be changed.
//!
//! A key of `[server]` is a line in `server`, and is read in the file of its room: `access`, `sessions`, `limits`.

mod access;
mod audit;
mod keys;
mod limits;
mod pod;
mod server;
mod sessions;
mod source;
#[cfg(test)]
mod tests;

use super::{Config, ConfigError, PodSpec, spec};
use pod::RawPod;
use serde::Deserialize;
use server::RawServer;
use source::Source;
use std::path::Path;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    server: RawServer,
    #[serde(default)]
    pod: Vec<Spanned<RawPod>>,
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let source = Source { text, path };
    let mut raw: RawFile =
        toml::from_str(text).map_err(|error| source.error(error.span().unwrap_or(0..0), error.message()))?;
    let mut config = Config::default();
    access::read(&mut raw.server, &mut config, &source)?;
    sessions::read(&mut raw.server, &mut config, &source)?;
    limits::read(&mut raw.server, &mut config, &source)?;
    audit::read(&mut raw.server, &mut config, &source)?;
    for pod in raw.pod {
        let span = pod.span();
        config.pods.push(pod::read(pod.into_inner(), config.forward_ports.as_ref(), &source)?);
        let checked = config.pods.last().map_or(Ok(()), PodSpec::check);
        checked.map_err(|error| source.error(span.clone(), error.to_string()))?;
        spec::check_unique(&config.pods).map_err(|error| source.error(span, error.to_string()))?;
    }
    Ok(config)
}

/// The keys of `[server]`.
pub(super) fn server_keys() -> &'static [&'static str] {
    keys::of::<RawServer>()
}
