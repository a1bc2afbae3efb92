//! Files that are read again when they change: users, policies, certificates. An operator edits one and it holds, without
//! a restart that would end sessions.
//!
//! There is no task and no watch behind it: whoever needs the contents looks at the files' metadata, at most once a
//! second. What was read before stays in force when the new contents are broken or a file is gone, and while they are
//! fresh: a half-written file may make sense, and must neither lock everybody out nor let anybody in. What could not be
//! read is tried again until it can be: else a shortage of descriptors would make us forget that a user was removed.

use std::{
    fmt, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

/// Between two looks at the metadata. A second: too short for a person to wait for, and a thousand requests cost one look.
const INTERVAL: Duration = Duration::from_secs(1);

/// How long files have to stand still before they are taken. No writer that does not rename into place pauses that long.
const SETTLED: Duration = Duration::from_secs(1);

/// What tells one state of a file from another. The change time is the kernel's: no program sets it back.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

fn stamp(path: &Path) -> Stamp {
    let found = std::fs::metadata(path).ok()?;
    Some((found.dev(), found.ino(), found.size(), found.ctime(), found.ctime_nsec()))
}

/// By the clock of who keeps the file. Another machine's may be ahead: then it has no age.
fn age(stamp: &Stamp) -> Option<Duration> {
    let (.., seconds, nanoseconds) = (*stamp)?;
    let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanoseconds).ok()?);
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH.checked_add(since)?).ok()
}

type Load<T> = Box<dyn Fn() -> Result<T, String> + Send + Sync>;

/// What is read from some files, as it was when they last made sense.
pub(crate) struct Reloading<T> {
    what: &'static str,
    files: Vec<PathBuf>,
    load: Load<T>,
    current: RwLock<Arc<T>>,
    /// Held by who looks; the others go on with what there is.
    seen: Mutex<Seen>,
    /// In milliseconds since `started`.
    next_look: AtomicU64,
    started: Instant,
    interval: Duration,
    settled: Duration,
    stale: Arc<AtomicBool>,
    /// Grows with each change that was taken.
    version: AtomicU64,
}

/// What was to be read, and whether what is in force is not what stands in the files, because that cannot be used.
pub(crate) type Stale = (&'static str, Arc<AtomicBool>);

/// What the last looks have shown.
struct Seen {
    /// Of what is in force.
    in_force: Vec<Stamp>,
    /// What is there instead, and since when.
    changed: Option<(Vec<Stamp>, Instant)>,
    /// What has been logged: one line for each fault, not one a second.
    logged: Option<(Vec<Stamp>, String)>,
}

impl<T> Reloading<T> {
    /// Reads the files for the first time; here an error is an error.
    pub(crate) fn start<E: fmt::Display>(
        what: &'static str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
    ) -> Result<Self, E> {
        // Before they are read: what changes while we read is seen at the next look.
        let in_force = files.iter().map(|file| stamp(file)).collect();
        let first = load()?;
        Ok(Self {
            what,
            files,
            load: Box::new(move || load().map_err(|error| error.to_string())),
            current: RwLock::new(Arc::new(first)),
            seen: Mutex::new(Seen { in_force, changed: None, logged: None }),
            next_look: AtomicU64::new(millis(INTERVAL)),
            started: Instant::now(),
            interval: INTERVAL,
            settled: SETTLED,
            stale: Arc::default(),
            version: AtomicU64::new(0),
        })
    }

    /// Looks at every use, and takes what is fresh.
    #[cfg(test)]
    pub(crate) fn always(mut self) -> Self {
        (self.interval, self.settled) = (Duration::ZERO, Duration::ZERO);
        self.next_look = AtomicU64::new(0);
        self
    }

    /// The contents; looks at the files when the last look is old enough. A short file operation at worst.
    pub(crate) fn current(&self) -> Arc<T> {
        self.look();
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Tells one state of the contents from another; looks as well.
    pub(crate) fn version(&self) -> u64 {
        self.look();
        self.version.load(Ordering::Relaxed)
    }

    fn look(&self) {
        let now = millis(self.started.elapsed());
        if now < self.next_look.load(Ordering::Relaxed) {
            return;
        }
        let Ok(mut seen) = self.seen.try_lock() else { return };
        self.next_look.store(now.saturating_add(millis(self.interval)), Ordering::Relaxed);
        let found = self.stamps();
        if found == seen.in_force {
            (seen.changed, seen.logged) = (None, None);
            return self.stale.store(false, Ordering::Relaxed);
        }
        if !self.stands_still(&mut seen, &found) {
            return;
        }
        let loaded = (self.load)();
        if self.stamps() != found {
            // Written while we read: the next look sees it.
            return;
        }
        self.stale.store(loaded.is_err(), Ordering::Relaxed);
        let files = Files(&self.files);
        match loaded {
            Ok(new) => {
                *self.current.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(new);
                self.version.fetch_add(1, Ordering::Relaxed);
                *seen = Seen { in_force: found, changed: None, logged: None };
                tracing::info!(%files, "read the changed {}", self.what);
            }
            Err(error) => {
                let fault = Some((found, error));
                if seen.logged != fault {
                    let error = fault.as_ref().map(|(_, error)| error);
                    tracing::error!(
                        %files, error, "the changed {} cannot be used; what was read before stays in force", self.what
                    );
                    seen.logged = fault;
                }
            }
        }
    }

    /// By its times, or because an earlier look has seen the same: clocks may differ.
    fn stands_still(&self, seen: &mut Seen, found: &[Stamp]) -> bool {
        let since = match &seen.changed {
            Some((stamps, since)) if stamps == found => *since,
            _ => {
                let now = Instant::now();
                seen.changed = Some((found.to_vec(), now));
                now
            }
        };
        since.elapsed() >= self.settled
            || found.iter().all(|stamp| age(stamp).is_some_and(|age| age >= self.settled))
    }

    fn stamps(&self) -> Vec<Stamp> {
        self.files.iter().map(|file| stamp(file)).collect()
    }

    /// For a gauge.
    pub(crate) fn stale(&self) -> Stale {
        (self.what, self.stale.clone())
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

    /// Looks at every use, but takes only what stands still.
    fn watched(path: &Path) -> Reloading<u32> {
        let file = path.to_owned();
        let mut numbers =
            Reloading::start("numbers", vec![path.to_owned()], move || number(&file)).unwrap().always();
        numbers.settled = SETTLED;
        numbers
    }

    fn until(numbers: &Reloading<u32>, wanted: u32) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while *numbers.current() != wanted {
            assert!(Instant::now() < deadline, "never taken");
            std::thread::yield_now();
        }
    }

    /// `12` on the way to `1234` makes sense.
    #[test]
    fn a_half_written_file_that_makes_sense_was_adopted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let numbers = watched(&path);
        let begun = Instant::now();
        std::fs::write(&path, "12").unwrap();
        let half = *numbers.current();
        assert!(half == 1 || begun.elapsed() >= SETTLED, "{half}");
        std::fs::write(&path, "1234").unwrap();
        let changed = Instant::now();
        until(&numbers, 1234);
        // The kernel's stamps are a few milliseconds coarse.
        assert!(changed.elapsed() >= SETTLED - Duration::from_millis(50));
        // Renamed into place, fresh or not, it makes no difference but for the rename's own stamp.
        let new = dir.path().join("new");
        std::fs::write(&new, "5").unwrap();
        std::fs::rename(&new, &path).unwrap();
        until(&numbers, 5);
    }

    #[test]
    fn a_file_from_the_future_is_taken_when_two_looks_agree() {
        let (soon, file) =
            (SystemTime::now() + Duration::from_secs(3600), tempfile::NamedTempFile::new().unwrap());
        let seconds = soon.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        assert_eq!(age(&Some((0, 0, 0, i64::try_from(seconds).unwrap(), 0))), None);
        std::fs::write(&file, "1").unwrap();
        let numbers = watched(file.path());
        let mut seen = numbers.seen.lock().unwrap();
        let found = vec![Some((0, 0, 0, i64::try_from(seconds).unwrap(), 0))];
        assert!(!numbers.stands_still(&mut seen, &found));
        seen.changed.as_mut().unwrap().1 = Instant::now().checked_sub(SETTLED).unwrap();
        assert!(numbers.stands_still(&mut seen, &found));
    }

    /// For want of a descriptor, for example: the file does not change again when there is one.
    #[test]
    fn a_read_that_failed_for_a_while_made_a_change_get_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("n");
        std::fs::write(&path, "1").unwrap();
        let short = Arc::new(AtomicBool::new(false));
        let load = {
            let (path, short) = (path.clone(), short.clone());
            move || match short.load(Ordering::Relaxed) {
                true => Err("Too many open files".to_owned()),
                false => number(&path),
            }
        };
        let numbers = Reloading::start("numbers", vec![path.clone()], load).unwrap().always();
        let (_, stale) = numbers.stale();
        short.store(true, Ordering::Relaxed);
        std::fs::write(&path, "22").unwrap();
        assert_eq!((*numbers.current(), *numbers.current()), (1, 1));
        assert!(stale.load(Ordering::Relaxed));
        short.store(false, Ordering::Relaxed);
        assert_eq!(*numbers.current(), 22);
        assert!(!stale.load(Ordering::Relaxed));
    }

    #[test]
    fn a_file_without_an_end_is_refused() {
        assert!(read_text(Path::new("/dev/zero"), 1000).is_err());
    }
}
