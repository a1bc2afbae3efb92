//! What is recorded, where, and what happens when that fails.

use std::{path::PathBuf, str::FromStr};

/// Where the record goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AuditTo {
    /// A file, appended to, readable by its owner alone. It is rotated.
    File(PathBuf),
    /// Standard output, for a service manager to keep (`-`).
    Stdout,
}

impl AuditTo {
    /// For messages.
    pub(crate) fn path(&self) -> PathBuf {
        match self {
            Self::File(path) => path.clone(),
            Self::Stdout => PathBuf::from("-"),
        }
    }
}

/// How much of a command is recorded. `FromStr` reads the words of flags and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ArgvPolicy {
    /// All of it.
    Full,
    /// The program, the number of arguments, and a digest of all: equal commands of one start of the server have equal
    /// digests. Its key is never written, so that nobody who reads the record can try out what a password was. The default.
    #[default]
    Hashed,
    /// Nothing.
    Off,
}

impl FromStr for ArgvPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "full" => Ok(Self::Full),
            "hashed" => Ok(Self::Hashed),
            "off" => Ok(Self::Off),
            _ => Err(format!("{text:?} is none of full, hashed and off")),
        }
    }
}

/// What happens to new sessions while the record cannot be written. `FromStr` reads the words of flags and files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// They are refused with 503. A session starts when its line is written.
    Closed,
    /// They start, and lines are lost; how many is told by the next one that is written, and by a metric.
    Open,
}

impl FromStr for OnFailure {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "closed" => Ok(Self::Closed),
            "open" => Ok(Self::Open),
            _ => Err(format!("{text:?} is neither closed nor open")),
        }
    }
}

/// The settings of the record. All fields may be assigned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct AuditOptions {
    /// Where it goes; `None`, the default: nothing is recorded.
    pub to: Option<AuditTo>,
    /// How much of a command is in it.
    pub argv: ArgvPolicy,
    /// `None`, the default: closed for a file, which somebody keeps on purpose, and open for standard output, where a reader
    /// that stops is more likely than one who relies on it.
    pub fail: Option<OnFailure>,
    /// A file that would grow beyond this many bytes is renamed to `FILE.1`. Default 100 MiB, some 200,000 sessions.
    pub max_size: usize,
    /// How many such files are kept, at least 1. Default 10.
    pub keep: usize,
    /// What may wait to be written, in bytes. Default 4 MiB, some 10,000 lines: what a busy server says while a disk is busy
    /// for seconds.
    pub queue: usize,
}

/// The least that [`AuditOptions::max_size`] may be in flags and files: one long command, and not a file for each line.
pub const MIN_SIZE: usize = 64 << 10;

/// Reads a size for [`AuditOptions::max_size`].
///
/// # Errors
/// A clause that says what to write instead.
pub fn file_size(text: &str) -> Result<usize, String> {
    crate::limits::at_least(text, MIN_SIZE)
}

impl Default for AuditOptions {
    fn default() -> Self {
        Self {
            to: None,
            argv: ArgvPolicy::default(),
            fail: None,
            max_size: 100 << 20,
            keep: 10,
            queue: 4 << 20,
        }
    }
}

impl AuditOptions {
    /// What holds for [`fail`](Self::fail).
    #[must_use]
    pub fn on_failure(&self) -> OnFailure {
        self.fail.unwrap_or(match self.to {
            Some(AuditTo::Stdout) => OnFailure::Open,
            _ => OnFailure::Closed,
        })
    }
}
