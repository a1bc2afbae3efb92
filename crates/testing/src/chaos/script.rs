//! One session: what the command does, what the client does, and what must come out.

use std::fmt;
use std::time::Duration;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use wsstream_proto::subprotocol::{REMOTECOMMAND, RemoteVersion, Subprotocol};

use super::content::{Checker, Content};

/// How the command ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Finish {
    /// With this exit code.
    Exit(u8),
    /// It cannot be run, or so the server says.
    Failure,
    /// The code that runs it panics.
    Panic,
}

/// What the command does with its input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// There is none.
    None,
    /// All of it comes back on stdout.
    Echo,
    /// Nobody reads it, and the command ends while it floods in.
    Flood,
}

/// How the client takes what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taking {
    /// At once.
    Eager,
    /// With a pause after each chunk.
    Slow(Duration),
    /// It stops once for so long.
    Paused(Duration),
}

/// What a party does besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Departure {
    /// Everybody stays to the end.
    None,
    /// The client is dropped when this much of stdout has come.
    Client(u64),
    /// The server's session is dropped when this much of stdout was sent.
    Server(u64),
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Script {
    /// Where the contents start, and the sizes of the messages.
    pub seed: u64,
    /// The version, as a row of the table.
    pub protocol: Subprotocol,
    /// SPDY carries it instead of a WebSocket; then the version is one that exists there.
    pub spdy: bool,
    /// Bytes of stdout; with [`Input::Echo`] it is the input that counts.
    pub stdout: u64,
    /// Bytes of stderr.
    pub stderr: u64,
    /// Bytes of stdin.
    pub stdin: u64,
    /// What becomes of the input.
    pub input: Input,
    /// The input rests for so long in its middle.
    pub stalled: Option<Duration>,
    /// How the client reads.
    pub taking: Taking,
    /// Who leaves before the end.
    pub departure: Departure,
    /// How the command ends.
    pub finish: Finish,
}

/// The text of a scripted failure.
pub const FAILURE: &str = "no such scripted thing";

/// The text of a scripted panic, by which the panic hook knows that it was meant.
pub const PANIC: &str = "a scripted panic";

impl Script {
    /// A command that prints `stdout` bytes and exits 0.
    #[must_use]
    pub fn output(seed: u64, protocol: Subprotocol, stdout: u64) -> Self {
        Self {
            seed,
            protocol,
            spdy: false,
            stdout,
            stderr: 0,
            stdin: 0,
            input: Input::None,
            stalled: None,
            taking: Taking::Eager,
            departure: Departure::None,
            finish: Finish::Exit(0),
        }
    }

    /// The short sessions whose every byte is cut: each shape of an exec that differs on the wire.
    #[must_use]
    pub fn short(seed: u64, protocol: &Subprotocol) -> Vec<(&'static str, Self)> {
        let base = Self::output(seed, protocol.clone(), 40);
        let exit = |code| Finish::Exit(code);
        vec![
            ("output", base.clone()),
            ("output, exit 7", Self { finish: exit(7), ..base.clone() }),
            ("stderr, exit 255", Self { stderr: 30, finish: exit(255), ..base.clone() }),
            ("silent", Self { stdout: 0, ..base.clone() }),
            ("failure", Self { finish: Finish::Failure, ..base.clone() }),
            ("panic", Self { finish: Finish::Panic, ..base.clone() }),
            ("echo", Self { stdout: 0, stdin: 50, input: Input::Echo, ..base.clone() }),
            ("flood", Self { stdin: 60, input: Input::Flood, finish: exit(7), ..base }),
        ]
    }

    /// A session that depends on `seed` alone, of any version, up to a few hundred KiB long; most are short.
    #[must_use]
    pub fn random(seed: u64) -> Self {
        let mut rng = SmallRng::seed_from_u64(seed ^ 0x5eed);
        let protocol = REMOTECOMMAND[rng.random_range(0..REMOTECOMMAND.len())].clone();
        let mut length = |most: u64| match rng.random_range(0..10) {
            0 => 0,
            1..8 => rng.random_range(0..most / 100),
            _ => rng.random_range(0..most),
        };
        let (stdout, stderr, stdin) = (length(300_000), length(50_000), length(300_000));
        let millis = |rng: &mut SmallRng, most| Duration::from_millis(rng.random_range(0..most));
        Self {
            seed,
            protocol,
            spdy: false,
            stdout,
            stderr: if rng.random_bool(0.4) { stderr } else { 0 },
            stdin,
            input: [Input::None, Input::None, Input::Echo, Input::Echo, Input::Flood][rng.random_range(0..5)],
            stalled: rng.random_bool(0.15).then(|| millis(&mut rng, 150_000)),
            taking: match rng.random_range(0..10) {
                0 => Taking::Slow(millis(&mut rng, 400)),
                1 => Taking::Paused(Duration::from_secs(90) + millis(&mut rng, 60_000)),
                _ => Taking::Eager,
            },
            departure: match rng.random_range(0..16) {
                0 => Departure::Client(rng.random_range(0..=stdout)),
                1 => Departure::Server(rng.random_range(0..=stdout)),
                _ => Departure::None,
            },
            finish: match rng.random_range(0..12) {
                0..5 => Finish::Exit(0),
                5..7 => Finish::Exit(7),
                7 => Finish::Exit(255),
                8..10 => Finish::Exit(rng.random_range(1..=255)),
                10 => Finish::Failure,
                _ => Finish::Panic,
            },
        }
    }

    /// As [`random`](Self::random) for a real clock and a real command: short rests, and an exit code in the end.
    #[must_use]
    pub fn brief(seed: u64) -> Self {
        let mut script = Self::random(seed);
        script.stalled = script.stalled.map(|time| time / 500);
        script.taking = match script.taking {
            Taking::Slow(pause) => Taking::Slow(pause / 100),
            Taking::Paused(pause) => Taking::Paused(pause / 300),
            Taking::Eager => Taking::Eager,
        };
        if let Departure::Server(_) = script.departure {
            script.departure = Departure::None;
        }
        if !matches!(script.finish, Finish::Exit(_)) {
            script.finish = Finish::Exit((seed >> 16) as u8);
        }
        script
    }

    /// The same session over SPDY, in the version that is nearest.
    #[must_use]
    pub fn over_spdy(mut self) -> Self {
        let near = match self.protocol.version() {
            Some(version) if version >= RemoteVersion::V4 => Subprotocol::V4,
            Some(RemoteVersion::V3) => Subprotocol::V3,
            Some(RemoteVersion::V2) => Subprotocol::V2,
            _ => Subprotocol::CHANNEL,
        };
        (self.protocol, self.spdy) = (near, true);
        self
    }

    /// Whether the client can say that its input is over.
    #[must_use]
    pub fn half_close(&self) -> bool {
        self.spdy || self.protocol.half_close()
    }

    /// Whether stdin is asked for.
    #[must_use]
    pub fn has_stdin(&self) -> bool {
        self.input != Input::None
    }

    /// The content of a channel: an echo's stdout is its stdin.
    #[must_use]
    pub fn content(&self, channel: u8) -> Content {
        match (channel, self.input) {
            (1, Input::Echo) => Content::new(self.seed, 0),
            _ => Content::new(self.seed, channel),
        }
    }

    /// All bytes of stdout.
    #[must_use]
    pub fn stdout_length(&self) -> u64 {
        if self.input == Input::Echo { self.stdin } else { self.stdout }
    }

    /// Checks stdin (0), stdout (1) or stderr (2).
    #[must_use]
    pub fn checker(&self, channel: u8) -> Checker {
        let length = match channel {
            0 => self.stdin,
            1 => self.stdout_length(),
            _ => self.stderr,
        };
        Checker::new(self.content(channel), length)
    }

    /// About how many bytes go over the wire: up, down.
    #[must_use]
    pub fn volume(&self) -> (u64, u64) {
        let stdin = if self.has_stdin() { self.stdin } else { 0 };
        let base64 = self.protocol.encoding() == wsstream_proto::subprotocol::Encoding::Base64;
        let grown = |bytes: u64| if base64 { bytes * 4 / 3 } else { bytes };
        (300 + grown(stdin), 450 + grown(self.stdout_length() + self.stderr))
    }
}

impl fmt::Display for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, protocol, spdy, stdout, stderr, stdin, input, stalled, taking, departure, finish } =
            self;
        write!(
            f,
            "script {seed} over {}{:?}: stdout {stdout}, stderr {stderr}, stdin {stdin} ({input:?}, stalled \
             {stalled:?}), client {taking:?}, leaves {departure:?}, ends {finish:?}",
            if *spdy { "SPDY " } else { "" },
            protocol.name()
        )
    }
}
