//! What a session of forwarded connections was worth.

use wsstream::portforward::RelayOptions;

use super::party::{End, View};
use super::script::{Conversation, Forwarding, Mishap, Order};
use crate::chaos::oracle::Verdict;

/// What was seen of one connection.
#[derive(Debug, Clone)]
pub struct Both {
    /// By the program at the client.
    pub near: View,
    /// By the program behind the port.
    pub far: View,
}

/// Whether a relay may have given the connection up as silent: when it broke, one of its directions had been over for as long as
/// [`RelayOptions::half_closed`] says. Programs that are still reading by then look to a relay as if they did nothing.
fn given_up(near: &View, far: &View) -> bool {
    let since = near.closed_at.into_iter().chain(far.closed_at).min();
    let broke = |view: &View| view.ended_at.filter(|_| matches!(view.end, Some(End::Broken(_))));
    let until = broke(near).max(broke(far));
    let rested = since.zip(until).map(|(since, until)| until.saturating_duration_since(since));
    rested.zip(RelayOptions::default().half_closed).is_some_and(|(rested, patience)| rested >= patience)
}

/// What was seen of a session.
#[derive(Debug, Clone)]
pub struct Seen {
    /// Its connections, in the order of the script.
    pub connections: Vec<Both>,
    /// Nothing, or nothing that may break anything, happened to the session's wire.
    pub calm: bool,
    /// A byte was changed where nothing can notice.
    pub blind: bool,
    /// Whatever else is wrong already: hangs, panics, things left behind.
    pub wrongs: Vec<String>,
}

/// What one connection was worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Worth {
    Complete,
    Reported,
    /// The wire has no words for what happened.
    Mute,
}

/// Judges a session.
#[must_use]
pub fn judge(script: &Forwarding, seen: &Seen) -> Verdict {
    let mut lies = seen.wrongs.clone();
    let mut worths = Vec::new();
    for (index, (one, both)) in script.connections.iter().zip(&seen.connections).enumerate() {
        let mut found = Vec::new();
        worths.push(connection(script, one, both, seen.calm, &mut found));
        lies.extend(found.into_iter().map(|what| format!("connection {index}: {what}")));
    }
    if !lies.is_empty() {
        return if seen.blind { Verdict::Blind } else { Verdict::Lie(lies.join("; ")) };
    }
    if worths.contains(&Worth::Mute) {
        Verdict::Mute
    } else if worths.iter().all(|worth| *worth == Worth::Complete) {
        Verdict::Complete
    } else {
        Verdict::Reported
    }
}

fn connection(
    script: &Forwarding,
    one: &Conversation,
    both: &Both,
    calm: bool,
    lies: &mut Vec<String>,
) -> Worth {
    let Both { near, far } = both;
    let mut worth = Worth::Reported;
    for (view, who) in [(far, "the target"), (near, "the client")] {
        if let Some(at) = view.heard.wrong() {
            lies.push(format!("{who} got other bytes than were sent, from {at} on"));
        }
    }
    let abandoned = matches!(one.mishap, Mishap::ClientResets(_));
    if far.end == Some(End::Clean) && !(near.closing && far.heard.is_complete()) {
        // See the module: a client over channels cannot say that it has broken off one of several connections.
        if script.channels() && abandoned {
            worth = Worth::Mute;
        } else {
            let closing = if near.closing { "" } else { ", and the client has not ended it" };
            lies.push(format!("the target saw a clean end after {}{closing}", far.heard));
        }
    }
    // Over channels the end of what is read is that of the session; where the client asked for it, it has counted.
    let asked = one.order == Order::ClientCounts;
    let told = near.text.is_some();
    if near.end == Some(End::Clean) && !told && !abandoned {
        let failed = matches!(one.mishap, Mishap::Refused | Mishap::Panics | Mishap::TargetResets(_));
        if !near.heard.is_complete() || failed || !(far.closing || asked) {
            let closing = if far.closing { "" } else { ", and the target has not ended it" };
            lies.push(format!("the client saw a clean end after {}{closing}", near.heard));
        }
    }
    let clean = |view: &View| view.end == Some(End::Clean) && view.heard.is_complete();
    // A target that has ended a connection over channels is never told how the other direction ends: it has counted.
    let counted = one.order == Order::TargetCounts && far.closing && far.heard.is_complete();
    let complete = clean(near) && (clean(far) || counted) && !told && near.closing;
    if complete && worth != Worth::Mute {
        return Worth::Complete;
    }
    if calm && script.can_complete(one) && !given_up(near, far) && lies.is_empty() {
        lies.push(format!(
            "nothing happened to it, yet the client heard {} ({:?}, told {:?}), the target {} ({:?})",
            near.heard, near.end, near.text, far.heard, far.end
        ));
    }
    worth
}
