//! The record of sessions, and where the metrics are.

use super::{server::RawServer, source::Source};
use crate::{
    audit::{AuditTo, file_size},
    config::{Config, ConfigError},
};
use std::num::NonZeroUsize;

pub(super) fn read(raw: &mut RawServer, config: &mut Config, source: &Source<'_>) -> Result<(), ConfigError> {
    let audit = &mut config.audit;
    audit.to = raw.audit_log.take().map(|path| match path.as_os_str() {
        dash if dash == "-" => AuditTo::Stdout,
        _ => AuditTo::File(source.resolve(path)),
    });
    source.set("audit_argv", raw.audit_argv.take(), str::parse, &mut audit.argv)?;
    source.set("audit_fail", raw.audit_fail.take(), |text| text.parse().map(Some), &mut audit.fail)?;
    source.set("audit_max_size", raw.audit_max_size.take(), file_size, &mut audit.max_size)?;
    audit.keep = raw.audit_keep.map_or(audit.keep, NonZeroUsize::get);
    let address = |text: &str| {
        let wrong = |_| format!("{text:?} is not ADDRESS:PORT, such as 127.0.0.1:9443");
        text.parse().map(Some).map_err(wrong)
    };
    source.set("metrics_listen", raw.metrics_listen.take(), address, &mut config.metrics_listen)
}
