//! Files that are read again when they change: users, policies, certificates. An operator edits one and it holds, without
//! a restart that would end sessions.
//!
//! There is no task and no watch behind it: whoever needs the contents looks at the files' metadata, at most once a
//! second. What was read before stays in force when the new contents are broken or a file is gone: an editor that
//! writes in two steps must neither lock everybody out nor let anybody in.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

/// Between two looks at the metadata. A second: too short for a person to wait for, and a thousand requests cost one look.
const INTERVAL: Duration = Duration::from_secs(1);

/// What tells one state of a file from another. The change time is the kernel's: no program sets it back.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

type Load<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// What is read from some files, as it was when they last made sense.
pub(crate) struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    load: Load<T>,
    current: RwLock<Arc<T>>,
    /// Held by who looks; the others go on with what there is.
    stamps: Mutex<Vec<Stamp>>,
    /// In milliseconds since `started`.
    next_look: AtomicU64,
    started: Instant,
    interval: Duration,
}

impl<T> Reloading<T> {
    /// Reads the files for the first time; here an error is an error.
    pub(crate) fn start<E: fmt::Display>(
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Before they are read: what changes while we read is seen at the next look.
        let stamps = files.iter().map(|file| stamp(file)).collect();
        let first = load()?;
        Ok(Self {
            what,
            files,
            load: Box::new(move || load().map_err(|error| error.to_string())),
            current: RwLock::new(Arc::new(first)),
            stamps: Mutex::new(stamps),
            next_look: AtomicU64::new(millis(INTERVAL)),
            started: Instant::now(),
            interval: INTERVAL,
        })
    }

    /// Looks at every use.
    #[cfg(test)]
    pub(crate) fn always(mut self) -> Self {
        self.interval = Duration::ZERO;
        self.next_look = AtomicU64::new(0);
        self
    }

    /// The contents; looks at the files when the last look is old enough. A short file operation at worst.
    pub(crate) fn current(&self) -> Arc<T> {
        self.look();
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn look(&self) {
        let now = millis(self.started.elapsed());
        if now < self.next_look.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut stamps) = self.stamps.try_lock() else { return };
        self.next_look.store(now.saturating_add(millis(self.interval)), Ordering::Relaxed);
        let found: Vec<Stamp> = self.files.iter().map(|file| stamp(file)).collect();
        if found == *stamps {
            return;
        }
        // Remembered also when it is of no use: one line for each change, not one a second.
        *stamps = found;
        let files = Files(&self.files);
        match (self.load)() {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                tracing::info!(%files, "read the changed {}", self.what);
            }
            Err(error) => {
                tracing::error!(%files, error, "the changed {} cannot be used; what was read before stays in force", self.what);
            }
        }
    }
}

impl<T> fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reloading")
            .field("what", &self.what)
            .field("files", &self.files)
            .finish_non_exhaustive()
    }
}

struct Files<'a>(&'a [PathBuf]);

impl fmt::Display for Files<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, file) in self.0.iter().enumerate() {
            let comma = if index > 0 { ", " } else { "" };
            write!(f, "{comma}{}", file.display())?;
        }
        Ok(())
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Reads a text file of at most `limit` bytes: a mistyped path may lead to a device that never ends.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(path)?.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    if u64::try_from(read).unwrap_or(u64::MAX) > limit {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("is larger than {limit} bytes")));
    }
    Ok(text)
}

/// Line numbers for what a TOML parser says of a text.
pub(crate) fn line_of(text: &str, at: usize) -> usize {
    text.as_bytes().get(..at).unwrap_or_default().iter().filter(|byte| **byte == b'\n').count() + 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(path: &Path) -> Result<u32, String> {
        read_text(path, 100).map_err(|e| e.to_string())?.trim().parse().map_err(|_| "no number".to_owned())
    }

    #[test]
    fn a_change_is_seen_and_a_broken_or_missing_file_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        let load = {
            let path = path.clone();
            move || number(&path)
        };
        assert!(
            Reloading::start("numbers", vec![path.clone()], load.clone()).is_err(),
            "at start it is an error"
        );
        std::fs::write(&path, "1").unwrap();
        let numbers = Reloading::start("numbers", vec![path.clone()], load).unwrap().always();
        assert_eq!(*numbers.current(), 1);
        std::fs::write(&path, "22").unwrap();
        assert_eq!(*numbers.current(), 22);
        std::fs::write(&path, "x").unwrap();
        assert_eq!(*numbers.current(), 22);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(*numbers.current(), 22);
        // The same size, another file.
        std::fs::write(&path, "33").unwrap();
        assert_eq!(*numbers.current(), 33);
    }

    #[test]
    fn nobody_looks_twice_in_a_second() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let load = {
            let path = path.clone();
            move || number(&path)
        };
        let numbers = Reloading::start("numbers", vec![path.clone()], load).unwrap();
        std::fs::write(&path, "2").unwrap();
        if numbers.started.elapsed() < INTERVAL {
            let seen = *numbers.current();
            assert!(seen == 1 || numbers.started.elapsed() >= INTERVAL);
        }
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        assert!(read_text(Path::new("/dev/zero"), 1000).is_err());
    }
}
