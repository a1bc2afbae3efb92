//! The judge: what the client was told against what the script says.

use std::fmt;

use super::content::Checker;
use super::script::{FAILURE, Finish, Script};

/// What the client was told about the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The command ended with this exit code and everything arrived.
    Exited(u8),
    /// The server reports a failure with this text.
    Failed(String),
    /// A clean end on a version that carries no exit code.
    Ended,
    /// The session is lost, or never began; the text says why.
    Lost(String),
    /// The client itself left.
    Left,
    /// The client never came to an end.
    Hung,
}

/// Everything that was seen of one session.
#[derive(Debug, Clone)]
pub struct Seen {
    /// What the client was told.
    pub claim: Claim,
    /// What came on stdout.
    pub stdout: Checker,
    /// What came on stderr.
    pub stderr: Checker,
    /// Faults that really happened.
    pub fired: u32,
    /// Whether what happened may break a session at all.
    pub harmless: bool,
    /// Whether a byte was changed where nothing can notice: on a wire without TLS.
    pub blind: bool,
    /// Whatever else is wrong already: a hang of the server, a panic, something left behind, a wrong count.
    pub wrongs: Vec<String>,
}

/// What the judge says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Complete, with the right status.
    Complete,
    /// Reported as lost or failed.
    Reported,
    /// A changed byte that no receiver can notice without TLS: counted apart, for the record.
    Blind,
    /// Something happened that the wire has no words for ([`forward`](super::forward) says what): counted apart, too.
    Mute,
    /// A lie, and what it is.
    Lie(String),
}

/// Judges a session.
#[must_use]
pub fn judge(script: &Script, seen: &Seen) -> Verdict {
    let Seen { claim, stdout, stderr, fired, harmless, blind, wrongs } = seen;
    let mut lies = wrongs.clone();
    let mut claims = |text: String| lies.push(text);
    let whole = || stdout.is_complete() && stderr.is_complete();
    let extent = || format!("stdout {stdout}, stderr {stderr}");
    let json = script.protocol.json_status();
    // Whatever came must be the beginning of what was sent, also of a session that is lost.
    if stdout.wrong().is_some() || stderr.wrong().is_some() {
        claims(format!("other bytes came than were sent: {}", extent()));
    }
    let complete = match claim {
        Claim::Exited(code) => {
            if !json {
                claims(format!("exit code {code} on a version that carries none"));
            }
            if script.finish != Finish::Exit(*code) {
                claims(format!("exit code {code} is not the command's"));
            }
            if !whole() {
                claims(format!("exit code {code}, but {}", extent()));
            }
            true
        }
        Claim::Ended => {
            if json || script.finish != Finish::Exit(0) {
                claims("a clean end without a status where one was due".to_owned());
            }
            if !whole() {
                claims(format!("a clean end, but {}", extent()));
            }
            true
        }
        Claim::Failed(text) => {
            let expected = match script.finish {
                Finish::Failure => text.contains(FAILURE),
                Finish::Panic => text.contains("the server failed while running the command"),
                Finish::Exit(0) => false,
                Finish::Exit(code) => !json && text.contains(&format!("exit code {code}")),
            };
            expected && whole()
        }
        Claim::Lost(_) | Claim::Left => false,
        Claim::Hung => {
            claims("the client never ended".to_owned());
            false
        }
    };
    let nothing_happened = *fired == 0 || *harmless;
    if !complete && nothing_happened && !matches!(claim, Claim::Left | Claim::Hung) {
        claims(format!("nothing happened to the session, yet {claim:?}, {}", extent()));
    }
    match (lies.is_empty(), complete) {
        (false, _) if *blind => Verdict::Blind,
        (false, _) => Verdict::Lie(lies.join("; ")),
        (true, true) => Verdict::Complete,
        (true, false) => Verdict::Reported,
    }
}

/// How many sessions ended how.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// All of them.
    pub sessions: u64,
    /// Complete, with the right status.
    pub complete: u64,
    /// Reported as lost or failed.
    pub reported: u64,
    /// A changed byte that cannot be noticed without TLS.
    pub blind: u64,
    /// What the wire has no words for.
    pub mute: u64,
    /// Lies of our code.
    pub lies: u64,
    /// Lies of somebody else's.
    pub foreign_lies: u64,
    /// Panics that no script asked for.
    pub panics: u64,
    /// Things left behind: tasks, descriptors, processes.
    pub leaks: u64,
    /// The first lies, with what replays them.
    pub examples: Vec<String>,
    /// Payload bytes that were checked.
    pub bytes: u64,
}

/// So many lies are kept with their story, and so many at most before one of somebody else's.
const EXAMPLES: usize = 20;
const FOREIGN_EXAMPLES: usize = 6;

/// What the story of somebody else's lie begins with.
pub const FOREIGN: &str = "(foreign) ";

impl Tally {
    /// Counts one session; `story` says how to repeat it.
    pub fn count(&mut self, verdict: &Verdict, story: impl FnOnce() -> String) {
        self.sessions += 1;
        match verdict {
            Verdict::Complete => self.complete += 1,
            Verdict::Reported => self.reported += 1,
            Verdict::Blind => self.blind += 1,
            Verdict::Mute => self.mute += 1,
            Verdict::Lie(what) => {
                self.lies += 1;
                if what.contains("panic") {
                    self.panics += 1;
                }
                if what.contains("left behind") {
                    self.leaks += 1;
                }
                self.example(format!("{what}\n      {}", story()));
            }
        }
    }

    /// Keeps a lie's story. Those of our code are not crowded out by others'.
    pub fn example(&mut self, story: String) {
        let foreign = |story: &String| story.starts_with(FOREIGN);
        if self.examples.len() < if foreign(&story) { FOREIGN_EXAMPLES } else { EXAMPLES } {
            self.examples.push(story);
        }
    }

    /// # Panics
    ///
    /// A lie was counted.
    pub fn assert_clean(&self) {
        println!("{self}");
        assert!(self.is_clean(), "{self}\n{}", self.examples.join("\n"));
    }

    /// # Panics
    ///
    /// No session was complete, or none was lost: a sweep that sees only one kind proves little.
    pub fn assert_both_kinds(&self) {
        assert!(self.complete > 0 && self.reported > 0, "{self}");
    }

    /// Adds what another one has counted.
    pub fn add(&mut self, other: Self) {
        self.sessions += other.sessions;
        self.complete += other.complete;
        self.reported += other.reported;
        self.blind += other.blind;
        self.mute += other.mute;
        self.lies += other.lies;
        self.foreign_lies += other.foreign_lies;
        self.panics += other.panics;
        self.leaks += other.leaks;
        self.bytes += other.bytes;
        other.examples.into_iter().for_each(|story| self.example(story));
    }

    /// Whether our code is to blame for anything.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.lies == 0 && self.panics == 0 && self.leaks == 0
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sessions, complete, reported, blind, mute, lies, foreign_lies, panics, leaks, .. } = self;
        write!(
            f,
            "{sessions} sessions, {complete} complete, {reported} lost, {blind} blind, {mute} mute, {lies} lies, \
             {foreign_lies} foreign lies, {panics} panics, {leaks} leaks"
        )
    }
}
