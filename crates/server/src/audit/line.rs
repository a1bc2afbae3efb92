//! The lines, field by field, in the order in which they are written.

use super::{
    ArgvPolicy,
    argv::{Argv, Hasher},
};
use crate::api::{Entry, Outcome};
use jiff::Timestamp;
use serde::Serialize;

/// The first line of each start of a server.
#[derive(Serialize)]
pub(super) struct Opened<'a> {
    pub(super) time: Timestamp,
    pub(super) event: &'static str,
    pub(super) instance: &'a str,
    pub(super) version: &'static str,
    pub(super) pid: u32,
    /// Which policy holds.
    pub(super) argv: ArgvPolicy,
}

/// The last line of each.
#[derive(Serialize)]
pub(super) struct Closed<'a> {
    pub(super) time: Timestamp,
    pub(super) event: &'static str,
    pub(super) instance: &'a str,
}

/// A session, as each of its lines names it.
#[derive(Serialize)]
struct Session<'a> {
    session: u64,
    user: &'a str,
    groups: &'a [String],
    peer: &'a str,
    kind: &'static str,
    namespace: &'a str,
    pod: &'a str,
    container: &'a str,
    protocol: String,
}

impl<'a> Session<'a> {
    fn of(entry: &'a Entry) -> Self {
        Self {
            session: entry.number,
            user: entry.user(),
            groups: entry.who.as_ref().map_or(&[], |who| &who.groups),
            peer: &entry.peer,
            kind: entry.kind.as_str(),
            namespace: &entry.snapshot.namespace,
            pod: &entry.snapshot.name,
            container: &entry.container,
            protocol: entry.protocol.to_string(),
        }
    }
}

/// What a session is about to do.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    pub(crate) tty: bool,
    pub(crate) streams: [bool; 3],
    pub(crate) argv: &'a [String],
    pub(crate) ports: &'a [u16],
}

/// A session starts.
pub(crate) struct Started<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) asked: Asked<'a>,
}

#[derive(Serialize)]
pub(super) struct StartLine<'a> {
    time: Timestamp,
    event: &'static str,
    instance: &'a str,
    #[serde(flatten)]
    session: Session<'a>,
    tty: bool,
    streams: Vec<&'static str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    ports: &'a [u16],
    #[serde(flatten)]
    argv: Argv,
}

impl<'a> Started<'a> {
    pub(super) fn with(self, instance: &'a str, policy: ArgvPolicy, hasher: &Hasher) -> StartLine<'a> {
        let Self { entry, asked } = self;
        let streams = ["stdin", "stdout", "stderr"].into_iter().zip(asked.streams);
        StartLine {
            time: entry.since,
            event: "start",
            instance,
            session: Session::of(entry),
            tty: asked.tty,
            streams: streams.filter(|(_, on)| *on).map(|(name, _)| name).collect(),
            ports: asked.ports,
            argv: hasher.show(policy, asked.argv),
        }
    }
}

/// A session has ended.
pub(crate) struct Ended<'a> {
    pub(crate) entry: &'a Entry,
    pub(crate) outcome: &'a Outcome,
}

#[derive(Serialize)]
pub(super) struct EndLine<'a> {
    time: Timestamp,
    event: &'static str,
    instance: &'a str,
    #[serde(flatten)]
    session: Session<'a>,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_by: Option<&'static str>,
    bytes: Bytes,
    seconds: f64,
}

#[derive(Serialize)]
struct Bytes {
    #[serde(rename = "in")]
    input: u64,
    out: u64,
    err: u64,
}

impl<'a> Ended<'a> {
    pub(super) fn with(self, instance: &'a str, policy: ArgvPolicy) -> EndLine<'a> {
        let Self { entry, outcome } = self;
        let bytes = entry.meter.read();
        EndLine {
            time: Timestamp::now(),
            event: "end",
            instance,
            session: Session::of(entry),
            outcome: outcome.how.as_str(),
            exit_code: outcome.exit_code,
            reason: &outcome.reason,
            // The text of a failure may quote the program.
            text: (policy != ArgvPolicy::Off).then_some(&outcome.text),
            ended_by: entry.order.given().map(|given| given.cause.word()),
            bytes: Bytes { input: bytes.input, out: bytes.output, err: bytes.errors },
            seconds: entry.began.elapsed().as_secs_f64(),
        }
    }
}

/// A request that would have run something was refused. The query is not part of it: it holds the command.
pub(crate) struct Refused<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) groups: &'a [String],
    pub(crate) peer: &'a str,
    pub(crate) kind: &'static str,
    pub(crate) path: &'a str,
    pub(crate) code: u16,
    pub(crate) reason: &'a str,
}

#[derive(Serialize)]
pub(super) struct RefusedLine<'a> {
    time: Timestamp,
    event: &'static str,
    instance: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    groups: &'a [String],
    peer: &'a str,
    kind: &'static str,
    path: &'a str,
    code: u16,
    reason: &'a str,
    /// Such requests before this one that have no line.
    #[serde(skip_serializing_if = "is_zero")]
    left_out: u64,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

impl<'a> Refused<'a> {
    pub(super) fn with(self, instance: &'a str, left_out: u64) -> RefusedLine<'a> {
        let Self { user, groups, peer, kind, path, code, reason } = self;
        RefusedLine {
            time: Timestamp::now(),
            event: "refused",
            instance,
            user,
            groups,
            peer,
            kind,
            path,
            code,
            reason,
            left_out,
        }
    }
}
