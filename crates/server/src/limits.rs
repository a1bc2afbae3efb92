//! Every bound of the server in one place, each with its default and its reason, so that an operator can read what a
//! hostile or broken client may cost at most.

use crate::rate::Rate;
use std::time::Duration;

/// Bounds of one server. Start from [`Limits::default`] and assign the fields that should differ.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Connections open at once, upgraded sessions included; further ones wait in the kernel's accept queue.
    /// Default 1024: the usual soft limit on file descriptors, of which a session takes four to six, is raised by
    /// service managers to many times that; where it is not, `accept` fails with `EMFILE` and is retried.
    pub connections: usize,
    /// Connections of one address (of IPv6: of one network of 64 bits) on which nobody has been let in yet; one more is closed at
    /// once. Who has been let in counts no more, so that many users may share an address. `None`, the default: a quarter of
    /// [`connections`](Self::connections), 256, and at least 8; `usize::MAX`: no limit. Unix sockets are exempt. A machine that
    /// opens connections and says nothing leaves the rest to others, and everybody behind one proxy may still come back at once.
    pub connections_per_address: Option<usize>,
    /// Sessions (exec, attach, port-forward, logs that are followed or read over a WebSocket) at once; one more is answered
    /// with 429. `None`, the default: 15 of 16 of [`connections`](Self::connections), 960, so that there is always a
    /// connection left to answer on.
    pub sessions: Option<usize>,
    /// The same for one user. Default `None`, no limit but that on all: with one token everybody is the same user.
    pub sessions_per_user: Option<usize>,
    /// The same for one target: a container, or for port-forward a pod. Default `None`: what a container bears only its
    /// owner knows.
    pub sessions_per_target: Option<usize>,
    /// Answers that go on without being sessions, at once: watches, and logs that are not followed; one more is answered with
    /// 429. `None`, the default: a quarter of [`connections`](Self::connections), 256. Together with the sessions they never
    /// take the last 16th of the connections.
    pub streams: Option<usize>,
    /// The same for one user. Default `None`, no limit but that on all, as for
    /// [`sessions_per_user`](Self::sessions_per_user).
    pub streams_per_user: Option<usize>,
    /// New sessions in a time, of all users; one more is answered with 429. Default `None`: a script that runs a command
    /// for each of a thousand files is no attack, and what runs at once is bounded.
    pub session_rate: Option<Rate>,
    /// The same for each user. Default `None`, for the same reason.
    pub session_rate_per_user: Option<Rate>,
    /// Bytes a second of one session in each direction, at least 4096. More is not read, or not written, for a while: the
    /// other end is slowed by TCP, and nothing is held for it. A quarter of a second's worth may go at once. Default
    /// `None`: a copy is as fast as the network.
    pub session_bandwidth: Option<usize>,
    /// The longest message taken from a WebSocket client, in bytes; a longer one ends its session. Default as
    /// [`wsstream::Limits::max_message`], 16 MiB, where the reason stands.
    pub max_message: u64,
    /// What may wait in one session for its readers, in bytes. Default as [`wsstream::Limits::receive_buffer`], 256 KiB.
    pub receive_buffer: usize,
    /// How long a TLS handshake may take. Default 10 s: several round trips over a bad link, short for a flood.
    pub tls_handshake: Duration,
    /// How long a request head may take, and how long an idle keep-alive connection is held. A connection on which nobody
    /// has been let in is closed after its first answer, and after twice this in any case. Default 10 s.
    pub header_read: Duration,
    /// Bytes of one request head, at least 8192. Default 128 KiB: the argv of an exec travels in the URL, which the
    /// `http` crate caps at 64 KiB; headers (tokens, offers) get as much again.
    pub header_bytes: usize,
    /// Silence before TCP keep-alive probes start. Default 30 s: below the usual 60 s of middleboxes.
    pub keepalive_idle: Duration,
    /// Time between keep-alive probes. Default 10 s.
    pub keepalive_interval: Duration,
    /// Unanswered probes before the connection is given up. Default 3: a vanished peer is noticed after a minute.
    pub keepalive_probes: u32,
    /// How long to wait before accepting again after an error such as `EMFILE`. Default 100 ms: long enough not to
    /// spin, short enough not to be noticed.
    pub accept_pause: Duration,
    /// A session's peer is pinged when nothing came from it, or went to it, for this long. `None`: never. Default as
    /// [`wsstream::Timeouts::ping_interval`], which gives the reason.
    pub ping_interval: Option<Duration>,
    /// A session's peer counts as dead when nothing at all came from it for this long, pongs included. `None`: TCP alone
    /// decides. Default as [`wsstream::Timeouts::dead_peer`].
    pub dead_peer: Option<Duration>,
    /// A session ends when its user has been idle for this long: no data either way, whatever pings say. `None`: never.
    /// Default as [`wsstream::Timeouts::idle`].
    pub idle: Option<Duration>,
    /// A session is ended when it has lasted this long, busy or not: its command is asked to end and then killed
    /// ([`end_grace`](Self::end_grace)), and its client told. `None`, the default: never. A long copy or a shell that is left
    /// open for a day is no fault, and who has gone away is noticed by the other clocks.
    pub session_duration: Option<Duration>,
    /// What all sessions together may hold of what waits for its readers or for the wire, in bytes, beyond the 32 KiB that each
    /// has of its own. Where it is used up sessions are slowed, each to the speed of its own readers. Default
    /// [`wsstream::limits::SHARED_BUFFER`], 64 MiB, where the reason stands.
    pub shared_buffer: usize,
    /// How long open sessions and requests may go on after shutdown was asked for. Default 10 s: what a command gets
    /// between SIGTERM and SIGKILL, and what a service manager or `docker stop` waits at least.
    pub drain: Duration,
    /// Commands that are still running then get SIGTERM (SIGHUP on a terminal), and SIGKILL after this. Default 3 s:
    /// they have had [`drain`](Self::drain) already, and the person who stops the server waits.
    pub end_grace: Duration,
    /// How long a client then has to take the last output, before the rest is dropped and it is told that the server is
    /// shutting down; and once more to take that, before its connection is cut. Default 3 s: ample for what the kernel
    /// buffers hold, on any link that deserves the name.
    pub farewell: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let session = wsstream::Timeouts::default();
        let wire = wsstream::Limits::default();
        Self {
            connections: 1024,
            connections_per_address: None,
            sessions: None,
            sessions_per_user: None,
            sessions_per_target: None,
            streams: None,
            streams_per_user: None,
            session_rate: None,
            session_rate_per_user: None,
            session_bandwidth: None,
            max_message: wire.max_message,
            receive_buffer: wire.receive_buffer,
            tls_handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(10),
            header_bytes: 128 * 1024,
            keepalive_idle: Duration::from_secs(30),
            keepalive_interval: Duration::from_secs(10),
            keepalive_probes: 3,
            accept_pause: Duration::from_millis(100),
            ping_interval: session.ping_interval,
            dead_peer: session.dead_peer,
            idle: session.idle,
            session_duration: None,
            shared_buffer: wsstream::limits::SHARED_BUFFER,
            drain: Duration::from_secs(10),
            end_grace: Duration::from_secs(3),
            farewell: Duration::from_secs(3),
        }
    }
}

impl Limits {
    /// How long a shutdown takes at most: [`drain`](Self::drain), [`end_grace`](Self::end_grace) and twice
    /// [`farewell`](Self::farewell).
    pub fn shutdown(&self) -> Duration {
        self.drain.saturating_add(self.end_grace).saturating_add(self.farewell.saturating_mul(2))
    }
}

impl Limits {
    /// Connections of one address that wait to be let in: [`connections_per_address`](Self::connections_per_address), or what
    /// follows from [`connections`](Self::connections).
    #[must_use]
    pub fn connections_per_address(&self) -> usize {
        self.connections_per_address.unwrap_or_else(|| (self.connections / 4).max(8))
    }

    /// Sessions at once: [`sessions`](Self::sessions), or what follows from [`connections`](Self::connections).
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions.unwrap_or_else(|| self.lasting())
    }

    /// Watches and logs at once: [`streams`](Self::streams), or what follows from [`connections`](Self::connections).
    #[must_use]
    pub fn streams(&self) -> usize {
        self.streams.unwrap_or_else(|| (self.connections / 4).max(1))
    }

    /// Sessions, watches and logs at once: one connection in 16 is left to answer on.
    fn lasting(&self) -> usize {
        (self.connections - self.connections / 16).max(1)
    }

    /// The same, or more where more sessions than that were asked for.
    pub(crate) fn all_lasting(&self) -> usize {
        self.lasting().max(self.sessions())
    }

    /// Says what cannot hold together.
    pub(crate) fn check(&self) -> Result<(), String> {
        match self.sessions {
            Some(sessions) if sessions >= self.connections => Err(format!(
                "max_sessions ({sessions}) must be below max_connections ({}): each session takes a connection, and one has \
                 to be left to answer on",
                self.connections
            )),
            _ => Ok(()),
        }
    }
}

/// The least that [`Limits::session_bandwidth`] may be: slower, and one read of the wire is paid off for so long that a
/// client's clocks run out.
pub const MIN_BANDWIDTH: usize = 4096;

/// The least that [`Limits::max_message`] may be in flags and files: kubectl copies in pieces of 32 KiB, each with a byte for
/// its channel, and would be shut out.
pub const MIN_MESSAGE: usize = 64 << 10;

/// The least that [`Limits::header_bytes`] may be: what hyper takes in any case.
pub const MIN_REQUEST_HEAD: usize = 8 << 10;

/// The least that [`Limits::tls_handshake`] and [`Limits::header_read`] may be in flags and files: with less, a client that
/// is not on this machine does not get in.
pub const MIN_PATIENCE: Duration = Duration::from_millis(100);

/// Reads a size for [`Limits::max_message`].
///
/// # Errors
/// A clause that says what to write instead.
pub fn message(text: &str) -> Result<u64, String> {
    at_least(text, MIN_MESSAGE).map(|bytes| bytes as u64)
}

/// Reads a size for [`Limits::header_bytes`].
///
/// # Errors
/// A clause that says what to write instead.
pub fn request_head(text: &str) -> Result<usize, String> {
    at_least(text, MIN_REQUEST_HEAD)
}

/// The least that [`Limits::receive_buffer`] and [`Limits::shared_buffer`] may be in flags and files: one read of the wire.
/// With nothing there would be no place for the byte that a session waits for.
pub const MIN_BUFFER: usize = 32 << 10;

/// Reads a size for [`Limits::receive_buffer`] and [`Limits::shared_buffer`].
///
/// # Errors
/// A clause that says what to write instead.
pub fn buffer(text: &str) -> Result<usize, String> {
    at_least(text, MIN_BUFFER)
}

pub(crate) fn at_least(text: &str, least: usize) -> Result<usize, String> {
    match crate::size::parse(text)? {
        size if size < least => Err(format!("{text:?} is too little: write {}KiB or more", least >> 10)),
        size => Ok(size),
    }
}

/// Reads a time for [`Limits::tls_handshake`] and [`Limits::header_read`].
///
/// # Errors
/// A clause that says what to write instead.
pub fn patience(text: &str) -> Result<Duration, String> {
    match crate::duration::parse(text)? {
        time if time < MIN_PATIENCE => {
            Err(format!("{text:?} would let nobody in: write {}ms or more", MIN_PATIENCE.as_millis()))
        }
        time => Ok(time),
    }
}

/// Reads a number, at least 1, or `off`, which is `None`.
///
/// # Errors
/// A clause that says what to write instead.
pub fn count_or_off(text: &str) -> Result<Option<usize>, String> {
    match text {
        "off" => Ok(None),
        _ => match text.parse() {
            Ok(number) if number > 0 => Ok(Some(number)),
            _ => Err(format!("{text:?} is not a number: write 1 or more, or off")),
        },
    }
}

/// Reads a rate or `off`, which is `None`.
///
/// # Errors
/// As [`Rate::from_str`](std::str::FromStr::from_str).
pub fn rate_or_off(text: &str) -> Result<Option<Rate>, String> {
    if text == "off" { Ok(None) } else { text.parse().map(Some) }
}

/// Reads a size for [`Limits::session_bandwidth`], or `off`, which is `None`.
///
/// # Errors
/// A clause that says what to write instead.
pub fn bandwidth_or_off(text: &str) -> Result<Option<usize>, String> {
    match text {
        "off" => Ok(None),
        _ => match crate::size::parse(text)? {
            size if size < MIN_BANDWIDTH => {
                Err(format!("{text:?} is too little: write 4KiB or more, or off"))
            }
            size => Ok(Some(size)),
        },
    }
}

/// How often running sessions, watches and logs are compared with the users and the policy.
pub(crate) const RECHECK: Duration = Duration::from_secs(1);

/// How long a watch lasts whose client does not say: from this to twice as long, at random, as upstream's default has it
/// (`--min-request-timeout`). Then it ends in good order, and a client that is still there begins another.
pub(crate) const WATCH: Duration = Duration::from_secs(1800);

/// Changes kept for watchers that resume or lag; one that is further behind is told to list again. At a few hundred
/// bytes per change this is well under a megabyte.
pub(crate) const WATCH_HISTORY: usize = 1024;

/// How long the code of a one-time link is good: time to switch to a browser and paste, too short to be found in a
/// scrollback.
pub(crate) const LINK_CODE: Duration = Duration::from_secs(60);

/// How long the token is good that a page gets for it: a sitting. It ends sessions' beginnings, not sessions.
pub(crate) const LINK_TOKEN: Duration = Duration::from_secs(3600);

/// Codes that are open at once, and tokens: far more than people, and 200 KB at most.
pub(crate) const LINKS: usize = 1000;

/// Bytes of a request that trades a code: ten times what it takes.
pub(crate) const EXCHANGE_BODY: usize = 1024;
