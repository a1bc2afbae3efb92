//! How much of what: counts and sizes.

use super::{server::RawServer, source::Source};
use crate::{
    config::{Config, ConfigError},
    size,
};
use std::num::NonZeroUsize;

pub(super) fn read(raw: &mut RawServer, config: &mut Config, source: &Source<'_>) -> Result<(), ConfigError> {
    let limits = &mut config.limits;
    source.set("shared_buffer", raw.shared_buffer.take(), size::parse, &mut limits.shared_buffer)?;
    limits.connections = raw.max_connections.map_or(limits.connections, NonZeroUsize::get);
    Ok(())
}
