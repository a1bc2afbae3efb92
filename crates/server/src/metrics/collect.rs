//! What is asked for when somebody looks, rather than counted.

use crate::api::{Api, Totals};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use std::fmt;

/// The values of one look.
#[derive(Debug)]
pub(super) struct Collect {
    connections: u64,
    files: Vec<(&'static str, bool)>,
    totals: Totals,
    shared_buffer: u64,
    audit_lost: u64,
}

impl Collect {
    pub(super) fn new(connections: u64, files: Vec<(&'static str, bool)>, api: &Api) -> Self {
        Self {
            connections,
            files,
            totals: api.sessions().registry().totals(),
            shared_buffer: api.shared_buffer().available() as u64,
            audit_lost: api.sessions().audit().map_or(0, crate::audit::Audit::lost),
        }
    }
}

impl Collector for Collect {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let gauge = MetricType::Gauge;
        let help = "Connections that are open, those that carry a session included";
        let metric = encoder.encode_descriptor("connections_open", help, None, gauge)?;
        ConstGauge::new(self.connections).encode(metric)?;

        let help =
            "Whether a changed file cannot be used, so that what was read before is in force, by what it is";
        let mut metric = encoder.encode_descriptor("file_stale", help, None, gauge)?;
        for (file, stale) in &self.files {
            ConstGauge::new(u64::from(*stale)).encode(metric.encode_family(&[("file", *file)])?)?;
        }

        let help = "What is left of the buffer that all sessions share";
        let metric = encoder.encode_descriptor("shared_buffer_free", help, Some(&Unit::Bytes), gauge)?;
        ConstGauge::new(self.shared_buffer).encode(metric)?;

        let help = "Sessions that run now, by kind";
        let mut metric = encoder.encode_descriptor("sessions_running", help, None, gauge)?;
        for (kind, running, _) in self.totals.by_kind() {
            ConstGauge::new(running).encode(metric.encode_family(&[("kind", kind)])?)?;
        }

        let help = "Bytes of sessions, those that run now included, by kind and channel";
        let unit = Some(&Unit::Bytes);
        let mut metric = encoder.encode_descriptor("session", help, unit, MetricType::Counter)?;
        for (kind, _, bytes) in self.totals.by_kind() {
            for (channel, bytes) in [("in", bytes.input), ("out", bytes.output), ("err", bytes.errors)] {
                let labels = [("kind", kind), ("channel", channel)];
                ConstCounter::new(bytes).encode(metric.encode_family(&labels)?)?;
            }
        }

        let help = "Lines of the audit log that were lost";
        let metric = encoder.encode_descriptor("audit_lines_lost", help, None, MetricType::Counter)?;
        ConstCounter::new(self.audit_lost).encode(metric)
    }
}
