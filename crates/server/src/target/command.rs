//! How commands are run and how long sessions wait: the knobs, their defaults and the reasons for them.
//!
//! They are plain values, so that a flag or a configuration file can set each of them later on.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

use super::Keeper;
use crate::duration;

/// Where and with what environment a command runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CommandOptions {
    /// Variables that are added to the environment or replace those in it, in this order.
    pub env: Vec<(String, String)>,
    /// Start with an empty environment instead of the server's own.
    pub clear_env: bool,
    /// The working directory; `None`: the server's own.
    pub cwd: Option<PathBuf>,
    /// Put a keeper between this process and each command: then everything that a command has started ends with its
    /// session, also what has left its process group, and also when this process is killed. `None` (the default): the
    /// process group, or the session of a terminal, is what can be reached, and a killed server leaves commands behind.
    pub keeper: Option<Keeper>,
}

impl CommandOptions {
    /// The value a variable will have in the command, whether it is set here or inherited.
    pub(crate) fn variable(&self, name: &str) -> Option<std::ffi::OsString> {
        let set_here = self.env.iter().rev().find(|(key, _)| key == name);
        match set_here {
            Some((_, value)) => Some(value.into()),
            None if self.clear_env => None,
            None => std::env::var_os(name),
        }
    }
}

/// How long to go on reading the output of a command that has itself exited.
///
/// Pipes stay open as long as any process holds them, and a background process that a command left behind
/// (`server & echo started`) inherits them. Reading to the end would then never end, and not reading would cut the
/// tail of the output (kubernetes#60140). So the output counts as finished at its end, or when nothing has come for
/// this long. Only time in which the pipe was empty counts: a client that is slow in taking what was read never makes
/// the reading stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DrainGrace(pub Duration);

impl Default for DrainGrace {
    /// 2 s: whatever the command itself wrote is in the pipe when it exits and needs no time at all; this is for the
    /// last words of helpers that outlive it by a moment.
    fn default() -> Self {
        Self(Duration::from_secs(2))
    }
}

/// What is done to a command whose client has left. `Display` and `FromStr` are the words of flags and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OnDisconnect {
    /// A terminal is hung up; without one the command gets SIGTERM. The default (`auto`).
    #[default]
    Auto,
    /// The terminal is hung up, or the command gets SIGHUP (`hup`).
    HangUp,
    /// SIGTERM, on a terminal too (`term`). An interactive shell ignores it, and is killed after the grace.
    Terminate,
    /// SIGKILL at once (`kill`).
    Kill,
    /// It runs on, its output being discarded; for ever (`keep`), or for this long and then as with `auto`
    /// (`keep:10m`). It still ends with the server.
    Keep(Option<Duration>),
}

impl FromStr for OnDisconnect {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(match text.split_once(':') {
            Some(("keep", limit)) => Self::Keep(Some(duration::parse(limit)?)),
            None if text == "auto" => Self::Auto,
            None if text == "hup" => Self::HangUp,
            None if text == "term" => Self::Terminate,
            None if text == "kill" => Self::Kill,
            None if text == "keep" => Self::Keep(None),
            _ => return Err(format!("{text:?} is none of auto, hup, term, kill, keep and keep:TIME")),
        })
    }
}

impl fmt::Display for OnDisconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::HangUp => f.write_str("hup"),
            Self::Terminate => f.write_str("term"),
            Self::Kill => f.write_str("kill"),
            Self::Keep(None) => f.write_str("keep"),
            Self::Keep(Some(limit)) => write!(f, "keep:{}ms", limit.as_millis()),
        }
    }
}

/// What becomes of a command whose client leaves before it has ended.
///
/// The end of input always comes first. Then, unless [`action`](Self::action) says otherwise, a terminal is hung up at
/// once, as any terminal is: the processes get SIGHUP and decide for themselves. Without a terminal a command that was
/// waiting for the end of its input gets [`finish`](Self::finish) to end by itself, its remaining output and its exit
/// code still being sent; then SIGTERM. Whatever is left after [`kill`](Self::kill) gets SIGKILL. Signals go to the
/// whole process group, or to the whole session of a terminal; with a [`Keeper`](super::Keeper), to every descendant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct DisconnectPolicy {
    /// What is done.
    pub action: OnDisconnect,
    /// From the end of input to SIGTERM, for a command without a terminal.
    pub finish: Duration,
    /// From SIGTERM, or the hang-up of a terminal, to SIGKILL.
    pub kill: Duration,
}

impl Default for DisconnectPolicy {
    /// 2 s and 10 s. A filter ends within milliseconds of its end of input, so 2 s are ample on a busy machine and
    /// short enough that nobody wonders why a command still runs; 10 s for cleaning up is what `docker stop` gives.
    fn default() -> Self {
        Self { action: OnDisconnect::Auto, finish: Duration::from_secs(2), kill: Duration::from_secs(10) }
    }
}

/// What becomes of the processes that a command leaves in the background when it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Background {
    /// They live on, as behind any shell and in any container: `server & echo started` is meant so.
    #[default]
    Keep,
    /// They are killed once the output has been drained: nothing outlives its session.
    Kill,
}

/// Everything an exec session needs to know besides the request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Environment and directory.
    pub command: CommandOptions,
    /// When the output of a command that has exited counts as finished.
    pub drain: DrainGrace,
    /// What happens when the client leaves.
    pub disconnect: DisconnectPolicy,
    /// What happens to what the command leaves behind when it ends by itself.
    pub background: Background,
    /// How long the start of a command with a terminal waits for the client's first size.
    pub first_size: Duration,
}

impl Default for SessionOptions {
    /// The defaults of the parts, and 100 ms for the first size: stock clients send it right behind the handshake,
    /// and a program that asks its terminal for the size only once (`less`, `stty size`) should see the real one. A
    /// client that sends none pays this once per session.
    fn default() -> Self {
        Self {
            command: CommandOptions::default(),
            drain: DrainGrace::default(),
            disconnect: DisconnectPolicy::default(),
            background: Background::default(),
            first_size: Duration::from_millis(100),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_for_a_policy_are_read_back_as_they_are_shown() {
        let long = OnDisconnect::Keep(Some(Duration::from_secs(600)));
        assert_eq!("keep:10m".parse(), Ok(long));
        for word in ["auto", "hup", "term", "kill", "keep", "keep:90000ms"] {
            assert_eq!(word.parse::<OnDisconnect>().unwrap().to_string(), word);
        }
        for word in ["", "Keep", "keep:", "keep:10", "kill:1s", "detach"] {
            word.parse::<OnDisconnect>().expect_err(word);
        }
    }

    #[test]
    fn a_variable_is_looked_up_where_the_command_will_see_it() {
        let pairs = |list: &[(&str, &str)]| list.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
        let options = CommandOptions { env: pairs(&[("TERM", "a"), ("TERM", "b")]), ..Default::default() };
        assert_eq!(options.variable("TERM"), Some("b".into()));
        let inherited = CommandOptions::default();
        assert_eq!(inherited.variable("PATH"), std::env::var_os("PATH"));
        let cleared = CommandOptions { clear_env: true, ..Default::default() };
        assert_eq!(cleared.variable("PATH"), None);
    }
}
