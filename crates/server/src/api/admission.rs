//! Who may begin a session, a watch or a log now: the counts and rates of `Limits`, looked at before anything runs.

use super::{answer::Refusal, registry::Entry};
use crate::{
    Limits,
    rate::{Bucket, Rate},
};
use std::{borrow::Borrow, collections::HashMap, fmt, hash::Hash, time::Duration};
use wsstream::proto::{status::Status, text::printable};

/// The limits on sessions.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    sessions: usize,
    streams: usize,
    streams_per_user: Option<usize>,
    /// Both together, and what follows from how many connections.
    lasting: usize,
    connections: usize,
    per_user: Option<usize>,
    per_target: Option<usize>,
    rate: Option<Rate>,
    rate_per_user: Option<Rate>,
}

impl Rules {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            sessions: limits.sessions(),
            streams: limits.streams(),
            streams_per_user: limits.streams_per_user,
            lasting: limits.all_lasting(),
            connections: limits.connections,
            per_user: limits.sessions_per_user,
            per_target: limits.sessions_per_target,
            rate: limits.session_rate,
            rate_per_user: limits.session_rate_per_user,
        }
    }
}

/// What a session that is not let in is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) limit: Limit,
    value: String,
    /// Of whom there are too many; empty: of all.
    of: String,
    retry: Duration,
}

/// Which limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Limit {
    Sessions,
    PerUser,
    PerTarget,
    Rate,
    RatePerUser,
    Streams,
    StreamsPerUser,
    /// What sessions and streams may take of it together.
    Connections,
    /// Those of one address that wait to be let in.
    PerAddress,
}

impl Limit {
    pub(crate) const ALL: [Self; 9] = [
        Self::Sessions,
        Self::PerUser,
        Self::PerTarget,
        Self::Rate,
        Self::RatePerUser,
        Self::Streams,
        Self::StreamsPerUser,
        Self::Connections,
        Self::PerAddress,
    ];

    /// The name of its flag, which is the one that an operator looks for.
    pub(crate) const fn flag(self) -> &'static str {
        match self {
            Self::Sessions => "max-sessions",
            Self::PerUser => "max-sessions-per-user",
            Self::PerTarget => "max-sessions-per-target",
            Self::Rate => "session-rate",
            Self::RatePerUser => "session-rate-per-user",
            Self::Streams => "max-streams",
            Self::StreamsPerUser => "max-streams-per-user",
            Self::Connections => "max-connections",
            Self::PerAddress => "max-connections-per-address",
        }
    }
}

/// Nobody knows when a session ends. Soon enough for a person, and not so soon that a script that heeds it is a flood.
const WHEN_ONE_ENDS: Duration = Duration::from_secs(5);

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { limit, value, of, .. } = self;
        let what = match limit {
            Limit::Sessions | Limit::PerUser | Limit::PerTarget => "too many sessions",
            Limit::Rate | Limit::RatePerUser => "too many new sessions",
            Limit::Streams | Limit::StreamsPerUser => "too many watches and logs",
            Limit::Connections => "too many sessions, watches and logs",
            Limit::PerAddress => "too many connections",
        };
        write!(f, "{what}{of}: the server's limit {} is {value}", limit.flag())
    }
}

impl From<&Over> for Refusal {
    fn from(over: &Over) -> Self {
        // Rounded up: who comes earlier is refused again.
        let seconds = over.retry.as_secs() + u64::from(over.retry.subsec_nanos() > 0);
        let seconds = u16::try_from(seconds.max(1)).unwrap_or(u16::MAX);
        Status::too_many_requests(over.to_string(), seconds).into()
    }
}

/// More buckets of users than this are looked through for those that nobody needs any more. Users are authenticated, so
/// that strangers make none.
const BUCKETS: usize = 1024;

/// What was counted for the rules that count. Lies under the lock of the registry.
#[derive(Debug, Default)]
pub(super) struct Counts {
    users: HashMap<String, usize>,
    streams: usize,
    streams_by_user: HashMap<String, usize>,
    targets: HashMap<(String, String, String), usize>,
    all: Option<Bucket>,
    by_user: HashMap<String, Bucket>,
}

impl Counts {
    /// Counts a session in, beside `running` others, or says which rule is against it; then nothing was counted.
    pub(super) fn admit(&mut self, rules: &Rules, running: usize, entry: &Entry) -> Result<(), Over> {
        let over = |limit, value: String, of: String, retry| Err(Over { limit, value, of, retry });
        if running >= rules.sessions {
            return over(Limit::Sessions, rules.sessions.to_string(), String::new(), WHEN_ONE_ENDS);
        }
        if running + self.streams >= rules.lasting {
            return over(Limit::Connections, rules.connections.to_string(), String::new(), WHEN_ONE_ENDS);
        }
        let of_user = || of_user(entry.user());
        if let Some(most) = rules.per_user
            && self.users.get(entry.user()).is_some_and(|count| *count >= most)
        {
            return over(Limit::PerUser, most.to_string(), of_user(), WHEN_ONE_ENDS);
        }
        if let Some(most) = rules.per_target
            && self.targets.get(&entry.target()).is_some_and(|count| *count >= most)
        {
            let of = format!(" in {}/{}/{}", entry.snapshot.namespace, entry.snapshot.name, entry.container);
            return over(Limit::PerTarget, most.to_string(), of, WHEN_ONE_ENDS);
        }
        // Both are asked before either is charged.
        let mut all = rules.rate.map(|rate| (rate, self.all.get_or_insert_with(|| Bucket::full(&rate))));
        if let Some((rate, bucket)) = &mut all
            && let Some(retry) = bucket.wait(rate)
        {
            return over(Limit::Rate, rate.to_string(), String::new(), retry);
        }
        if let Some(rate) = rules.rate_per_user {
            if self.by_user.len() >= BUCKETS {
                self.by_user.retain(|_, bucket| !bucket.is_full(&rate));
            }
            let user = entry.user().to_owned();
            let bucket = self.by_user.entry(user).or_insert_with(|| Bucket::full(&rate));
            if let Some(retry) = bucket.wait(&rate) {
                return over(Limit::RatePerUser, rate.to_string(), of_user(), retry);
            }
            bucket.take();
        }
        if let Some((_, bucket)) = all {
            bucket.take();
        }
        if rules.per_user.is_some() {
            *self.users.entry(entry.user().to_owned()).or_default() += 1;
        }
        if rules.per_target.is_some() {
            *self.targets.entry(entry.target()).or_default() += 1;
        }
        Ok(())
    }

    /// Counts a watch or a log in, beside `running` sessions, or says which rule is against it.
    pub(super) fn admit_stream(&mut self, rules: &Rules, running: usize, user: &str) -> Result<(), Over> {
        let over =
            |limit, value: usize, of| Err(Over { limit, value: value.to_string(), of, retry: WHEN_ONE_ENDS });
        if self.streams >= rules.streams {
            return over(Limit::Streams, rules.streams, String::new());
        }
        if running + self.streams >= rules.lasting {
            return over(Limit::Connections, rules.connections, String::new());
        }
        if let Some(most) = rules.streams_per_user {
            let count = self.streams_by_user.entry(user.to_owned()).or_default();
            if *count >= most {
                return over(Limit::StreamsPerUser, most, of_user(user));
            }
            *count += 1;
        }
        self.streams += 1;
        Ok(())
    }

    /// One that was counted in has ended.
    pub(super) fn leave_stream(&mut self, rules: &Rules, user: &str) {
        self.streams = self.streams.saturating_sub(1);
        if rules.streams_per_user.is_some() {
            count_out(&mut self.streams_by_user, user);
        }
    }

    /// A session that was counted in has ended.
    pub(super) fn leave(&mut self, rules: &Rules, entry: &Entry) {
        if rules.per_user.is_some() {
            count_out(&mut self.users, entry.user());
        }
        if rules.per_target.is_some() {
            count_out(&mut self.targets, &entry.target());
        }
    }
}

fn of_user(user: &str) -> String {
    format!(" of user {:?}", printable(user))
}

fn count_out<K: Borrow<Q> + Hash + Eq, Q: Hash + Eq + ?Sized>(counts: &mut HashMap<K, usize>, key: &Q) {
    if let Some(count) = counts.get_mut(key) {
        *count = count.saturating_sub(1);
        if *count == 0 {
            counts.remove(key);
        }
    }
}
