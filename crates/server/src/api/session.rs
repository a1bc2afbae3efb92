//! One line in the log when a session begins, and one when it ends, however it ends.

use super::{Api, peer_of};
use crate::{auth, pod::PodSnapshot};
use axum::extract::Request;
use std::{fmt, pin::Pin};
use tracing::{Level, event};
use wsstream::proto::text::printable;

/// What the lines say. The command is not among it: an argv may hold secrets.
pub(super) struct Session {
    number: u64,
    kind: &'static str,
    namespace: String,
    pod: String,
    container: String,
    user: String,
    peer: String,
    done: bool,
}

/// An event with the fields that all lines share; the macros of `tracing` want them spelled out.
macro_rules! line {
    ($level:expr, $session:expr, $($rest:tt)*) => {
        event!(
            $level,
            session = $session.number,
            kind = $session.kind,
            namespace = %$session.namespace,
            pod = %$session.pod,
            container = %$session.container,
            user = %$session.user,
            peer = %$session.peer,
            $($rest)*
        )
    };
}

impl Session {
    pub(super) fn new(
        api: &Api,
        kind: &'static str,
        pod: &PodSnapshot,
        container: &str,
        request: &Request,
    ) -> Self {
        let user = request.extensions().get::<auth::Identity>();
        Self {
            number: api.sessions().number(),
            kind,
            namespace: pod.namespace.clone(),
            pod: pod.name.clone(),
            container: container.to_owned(),
            user: user.map_or_else(String::new, |identity| identity.user.clone()),
            peer: peer_of(request),
            done: false,
        }
    }

    /// Runs the session between its two lines.
    ///
    /// Boxed: a future that is awaited by value lies twice in the one that awaits it, and that one again.
    pub(super) async fn run<R: fmt::Display>(mut self, session: Pin<Box<dyn Future<Output = R> + Send>>) {
        line!(Level::INFO, self, "session started");
        // Armed from here on: a request that was refused after all leaves no line.
        let armed = Armed(&mut self);
        let report = session.await;
        armed.0.done = true;
        // It quotes the peer.
        line!(Level::INFO, armed.0, report = printable(&report.to_string()), "session ended");
    }
}

/// Dropped before the end: the server is shutting down, or the session panicked.
struct Armed<'a>(&'a mut Session);

impl Drop for Armed<'_> {
    fn drop(&mut self) {
        if !self.0.done {
            line!(Level::WARN, self.0, "session cut");
        }
    }
}
