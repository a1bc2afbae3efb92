//! Watch: the changes of pods as a stream of JSON lines.
//!
//! The stream holds a position in the registry's history and nothing else; it is pulled by the socket, so a client that
//! does not read costs no memory. One that falls further behind than the history reaches gets upstream's 410 `Expired`
//! event, which tells it to list again.

use super::{
    Api,
    accept::Representation,
    answer::{Refusal, with_type},
    object,
    query::Query,
    selector::Selector,
    streams::StreamPlace,
    table::{self, RowObject},
};
use crate::limits::WATCH;
use crate::pod::{Change, ChangeKind, PodSnapshot, Pods, TooOld};
use axum::{body::Body, response::Response};
use bytes::Bytes;
use futures_util::stream;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};
use std::{collections::VecDeque, convert::Infallible, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use wsstream::proto::status::Status;

pub(crate) fn start(
    api: &Api,
    place: StreamPlace,
    selector: Selector,
    query: &Query<'_>,
    representation: Representation,
) -> Result<Response, Refusal> {
    let with = RowObject::parse(query.text("includeObject"));
    let mut render = Render { representation, with, columns_sent: false };
    let asked = query.number("timeoutSeconds")?.filter(|seconds| *seconds > 0).map(Duration::from_secs);
    let streaming_list = query.flag("sendInitialEvents");
    let mut lines = VecDeque::new();
    // No version, or 0: what there is comes first, as if it had just been added.
    let position = match query.text("resourceVersion").filter(|version| *version != "0") {
        Some(text) if !streaming_list => {
            let parsed = text.parse::<u64>();
            parsed.map_err(|_| Refusal::bad_request(format!("invalid resource version {text:?}")))?
        }
        _ => {
            let (all, version) = api.pods().list();
            let selected = all.iter().filter(|pod| selector.matches(pod));
            lines.extend(selected.map(|pod| render.event("ADDED", pod)));
            // WatchList (KEP-3157): the client waits for this mark before it trusts its list.
            if streaming_list && query.flag("allowWatchBookmarks") {
                lines.push_back(render.initial_events_end(version));
            }
            version
        }
    };
    let newest = api.pods().list().1;
    let events = Events {
        pods: api.pods().clone(),
        selector,
        render,
        position,
        lines,
        ended: false,
        deadline: Instant::now().checked_add(asked.unwrap_or_else(unasked)),
        place,
        closing: api.sessions().closing(),
    };
    // A version from the future is one of another server, or of this one before its clock was set back.
    let events = if position > newest { events.expired(TooOld { position, oldest: newest }) } else { events };
    let body = Body::from_stream(stream::unfold(events, Events::next));
    Ok(with_type(StatusCode::OK, "application/json", body))
}

struct Events {
    pods: Pods,
    selector: Selector,
    render: Render,
    position: u64,
    /// At most the initial list or one batch of changes.
    lines: VecDeque<Bytes>,
    ended: bool,
    deadline: Option<Instant>,
    closing: CancellationToken,
    place: StreamPlace,
}

/// How long a watch lasts whose client does not say. At random, so that those that began together do not come back together.
fn unasked() -> Duration {
    WATCH.mul_f64(rand::random_range(1.0..2.0))
}

impl Events {
    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Self)> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some((Ok(line), self));
            }
            if self.ended {
                return None;
            }
            let timeout = async {
                match self.deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            let changes = tokio::select! {
                biased;
                () = self.closing.cancelled() => return None,
                () = self.place.end().cancelled() => return None,
                () = timeout => return None,
                changes = self.pods.changes_after(self.position) => changes,
            };
            match changes {
                Ok(changes) => {
                    for change in &changes {
                        self.position = change.version();
                        self.lines.extend(self.render.change(change, &self.selector));
                    }
                }
                Err(gap) => self = self.expired(gap),
            }
        }
    }

    fn expired(mut self, gap: TooOld) -> Self {
        let message = format!("too old resource version: {} ({})", gap.position, gap.oldest);
        let status = Status::failure(410, "Expired", message);
        self.lines.push_back(line("ERROR", &json!(status)));
        self.ended = true;
        self
    }
}

struct Render {
    representation: Representation,
    with: RowObject,
    columns_sent: bool,
}

impl Render {
    /// A change of phase can move a pod into the selection or out of it: to this client it is then a new pod or a
    /// deleted one.
    fn change(&mut self, change: &Change, selector: &Selector) -> Option<Bytes> {
        let is = selector.matches(&change.now);
        let was = change.before.as_ref().map_or(is, |before| selector.matches(before));
        let kind = match (change.kind, was, is) {
            (_, false, false) => return None,
            (ChangeKind::Added, ..) | (ChangeKind::Modified, false, true) => "ADDED",
            (ChangeKind::Deleted, ..) | (ChangeKind::Modified, true, false) => "DELETED",
            (ChangeKind::Modified, true, true) => "MODIFIED",
        };
        Some(self.event(kind, &change.now))
    }

    fn event(&mut self, kind: &str, pod: &PodSnapshot) -> Bytes {
        let object = match self.representation {
            Representation::Object => object::pod(pod),
            Representation::Table(form) => {
                let row = table::pod_row(pod, Timestamp::now(), form, self.with);
                let metadata = json!({"resourceVersion": pod.resource_version.to_string()});
                table::table(form, &metadata, &self.columns(), &[row])
            }
        };
        line(kind, &object)
    }

    fn initial_events_end(&mut self, version: u64) -> Bytes {
        let annotations = json!({"k8s.io/initial-events-end": "true"});
        let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
        let object = match self.representation {
            Representation::Object => json!({"kind": "Pod", "apiVersion": "v1", "metadata": metadata}),
            Representation::Table(form) => table::table(form, &metadata, &self.columns(), &[]),
        };
        line("BOOKMARK", &object)
    }

    /// The columns come with the first event only.
    fn columns(&mut self) -> Value {
        if std::mem::replace(&mut self.columns_sent, true) { json!([]) } else { table::pod_columns() }
    }
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({"type": kind, "object": object}).to_string();
    line.push('\n');
    line.into()
}
