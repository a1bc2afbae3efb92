//! Tables, the server-side columns that kubectl prints. Without them it would show NAME and AGE only.

use super::{accept::TableVersion, object};
use crate::pod::PodSnapshot;
use jiff::Timestamp;
use serde_json::{Value, json};

/// What to put beside the cells of a row (`includeObject`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RowObject {
    /// Nothing.
    None,
    /// The metadata: what kubectl needs for `-A` and `--show-labels`.
    Metadata,
    /// The whole object: `kubectl get --sort-by`.
    Whole,
}

impl RowObject {
    pub(crate) fn parse(text: Option<&str>) -> Self {
        match text {
            Some("None") => Self::None,
            Some("Object") => Self::Whole,
            _ => Self::Metadata,
        }
    }
}

/// A table; `columns` may be empty in all but the first event of a watch, as upstream has it.
pub(crate) fn table(version: TableVersion, metadata: &Value, columns: &Value, rows: &[Value]) -> Value {
    json!({
        "kind": "Table",
        "apiVersion": version.api_version(),
        "metadata": metadata,
        "columnDefinitions": columns,
        "rows": rows,
    })
}

fn column(name: &str, format: &str, priority: u8, description: &str) -> Value {
    json!({"name": name, "type": "string", "format": format, "description": description, "priority": priority})
}

pub(crate) fn pod_columns() -> Value {
    json!([
        column("Name", "name", 0, "The name of the pod."),
        column("Ready", "", 0, "Containers that are running, of all."),
        column("Status", "", 0, "What the pod is doing."),
        column("Restarts", "", 0, "How often its commands were started again."),
        column("Age", "", 0, "Time since the pod was declared."),
        column("IP", "", 1, "The address of the pod."),
        column("Node", "", 1, "The machine."),
        column("Nominated Node", "", 1, "Always none."),
        column("Readiness Gates", "", 1, "Always none."),
    ])
}

pub(crate) fn pod_row(pod: &PodSnapshot, now: Timestamp, version: TableVersion, with: RowObject) -> Value {
    let none = "<none>";
    let cells = json!([
        pod.name,
        format!("{}/{}", pod.ready(), pod.containers.len()),
        pod.status_word(),
        restarts(pod, now),
        age(pod.created, now),
        none,
        pod.node,
        none,
        none,
    ]);
    row(&cells, version, with, &object::metadata(pod), || object::pod(pod))
}

pub(crate) fn namespace_columns() -> Value {
    json!([
        column("Name", "name", 0, "The name of the namespace."),
        column("Status", "", 0, "Always Active."),
        column("Age", "", 0, "Time since its first pod was declared."),
    ])
}

pub(crate) fn namespace_row(
    name: &str,
    created: Option<Timestamp>,
    now: Timestamp,
    version: TableVersion,
    with: RowObject,
) -> Value {
    let namespace = object::namespace(name, created);
    let cells = json!([name, "Active", created.map_or_else(|| "<unknown>".to_owned(), |at| age(at, now))]);
    let metadata = namespace.get("metadata").cloned().unwrap_or_default();
    row(&cells, version, with, &metadata, || namespace.clone())
}

fn row(
    cells: &Value,
    version: TableVersion,
    with: RowObject,
    metadata: &Value,
    whole: impl FnOnce() -> Value,
) -> Value {
    let object = match with {
        RowObject::None => return json!({"cells": cells}),
        RowObject::Metadata => {
            json!({"kind": "PartialObjectMetadata", "apiVersion": version.api_version(), "metadata": metadata})
        }
        RowObject::Whole => whole(),
    };
    json!({"cells": cells, "object": object})
}

/// `3 (5m ago)`, as upstream's printer: the count and the end of the latest run.
fn restarts(pod: &PodSnapshot, now: Timestamp) -> String {
    let count = pod.restarts();
    let last = pod.containers.iter().filter_map(|c| c.last_run.as_ref()).map(|run| run.finished_at).max();
    match last {
        Some(at) if count > 0 => format!("{count} ({} ago)", age(at, now)),
        _ => count.to_string(),
    }
}

/// A duration in at most two units, as `duration.HumanDuration` of apimachinery words it. Clocks that differ by a little
/// yield `0s`, by more `<invalid>`.
fn age(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(since.as_second());
    let minutes = seconds / 60;
    let hours = seconds / 3600;
    let days = hours / 24;
    let pair = |big: i64, unit: char, small: i64, small_unit: char| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        i64::MIN..=-2 => "<invalid>".to_owned(),
        -1..=0 => "0s".to_owned(),
        1..=119 => format!("{seconds}s"),
        120..=599 => pair(minutes, 'm', seconds % 60, 's'),
        600..=10_799 => format!("{minutes}m"),
        10_800..=28_799 => pair(hours, 'h', minutes % 60, 'm'),
        28_800..=172_799 => format!("{hours}h"),
        172_800..=691_199 => pair(days, 'd', hours % 24, 'h'),
        691_200..=63_071_999 => format!("{days}d"),
        63_072_000..=252_287_999 => pair(days / 365, 'y', days % 365, 'd'),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The rows of upstream's TestHumanDuration.
    #[test]
    fn ages_are_worded_as_upstream_words_them() {
        let (minute, hour, day) = (60, 3600, 86_400);
        for (seconds, expected) in [
            (-2, "<invalid>"),
            (-1, "0s"),
            (0, "0s"),
            (1, "1s"),
            (70, "70s"),
            (190, "3m10s"),
            (70 * minute, "70m"),
            (47 * hour, "47h"),
            (49 * hour, "2d1h"),
            (8 * day + 2 * hour, "8d"),
            (367 * day, "367d"),
            (365 * 2 * day + 25 * day, "2y25d"),
            (365 * 8 * day + 2 * day, "8y"),
            (180, "3m"),
            (3 * hour, "3h"),
            (3 * hour + 5 * minute, "3h5m"),
        ] {
            let now = Timestamp::from_second(1_700_000_000).unwrap();
            let since = Timestamp::from_second(1_700_000_000 - seconds).unwrap();
            assert_eq!(age(since, now), expected, "{seconds}");
        }
    }
}
