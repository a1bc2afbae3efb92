//! What was allowed goes on for hours; that it was allowed may not. When users or the policy change, whoever could not begin now
//! what they have begun is told so, and it is ended.

use super::{Api, registry::Entry};
use crate::{
    auth::Identity,
    authz::Attributes,
    limits::RECHECK,
    target::{Cause, Given},
};
use tokio::time::{MissedTickBehavior, interval};
use wsstream::proto::text::printable;

/// What was asked of the [`Authorizer`](crate::authz::Authorizer), for the next time. The user is not part of it.
#[derive(Debug, Clone)]
pub(super) struct Question {
    pub(super) verb: &'static str,
    pub(super) subresource: &'static str,
    pub(super) namespace: String,
    pub(super) name: String,
    pub(super) container: String,
}

impl Question {
    fn of(entry: &Entry) -> Self {
        let (verb, subresource) = entry.kind.right();
        // A port belongs to no container.
        let container = if entry.container == "-" { "" } else { &entry.container };
        Self {
            verb,
            subresource,
            namespace: entry.snapshot.namespace.clone(),
            name: entry.snapshot.name.clone(),
            container: container.to_owned(),
        }
    }
}

/// Looks behind a change: what was let in by the old rules may be on the list of sessions a moment later only.
const AFTER: u8 = 10;

impl Api {
    /// Ends, for as long as it runs, the sessions, watches and logs of listed users who are no longer let in
    /// ([`Authenticator::listed`](crate::auth::Authenticator::listed)), and those that the authorizer allows no longer
    /// ([`Authorizer::version`](crate::authz::Authorizer::version)). Looks once a second. [`Server`](crate::Server) runs it;
    /// never resolves.
    pub async fn keep_access(&self) {
        let mut clock = interval(RECHECK);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut version, mut after) = (self.shared.access.authorizer.version(), 0_u8);
        loop {
            clock.tick().await;
            let now = self.shared.access.authorizer.version();
            after = if now == version { after.saturating_sub(1) } else { AFTER };
            version = now;
            self.recheck(after > 0).await;
        }
    }

    async fn recheck(&self, changed: bool) {
        let sessions = self.sessions();
        for entry in sessions.registry().entries() {
            let Some(who) = entry.who.as_ref().filter(|_| entry.order.given().is_none()) else { continue };
            if let Some(why) = self.objection(who, changed, || Question::of(&entry)).await {
                tracing::info!(session = entry.number, user = ?who.user, why, "session ended for want of access");
                entry.order.give(Given { grace: sessions.end_grace(), cause: Cause::Access(why) });
            }
        }
        for stream in sessions.streams().all() {
            let Some(who) = stream.who.as_ref().filter(|_| !stream.end.is_cancelled()) else { continue };
            if let Some(why) = self.objection(who, changed, || stream.question.clone()).await {
                tracing::info!(user = ?who.user, why, "watch or log ended for want of access");
                stream.end.cancel();
            }
        }
    }

    /// Why it may not go on.
    async fn objection(
        &self,
        who: &Identity,
        changed: bool,
        question: impl FnOnce() -> Question,
    ) -> Option<String> {
        if !who.listed && !changed {
            return None;
        }
        let user = printable(&who.user);
        let Ok(present) = self.shared.access.present(who.clone()) else {
            return Some(format!("user {user:?} is no longer let in"));
        };
        if !changed && present == *who {
            return None;
        }
        let Question { verb, subresource, namespace, name, container } = &question();
        let asked =
            Attributes { user: &present, verb, resource: "pods", subresource, namespace, name, container };
        let allowed = self.shared.access.authorizer.authorize(asked).await;
        allowed.err().map(|_| format!("user {user:?} may no longer do this"))
    }
}
