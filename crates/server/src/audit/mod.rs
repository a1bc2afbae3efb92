//! The record of who ran what: one JSON line when a session starts, one when it ends, and one for each request that would have
//! run something and was refused.
//!
//! Lines are written in order by one thread of their own, so that a disk that stalls holds up nobody but who has to wait: with
//! [`OnFailure::Closed`] a session starts when its line is written and not before, and is refused where that cannot be done.
//! What a command is given is hashed unless one asks for it: arguments hold passwords, and a record is kept longer and read by
//! more people than the memory of a process.

mod argv;
mod file;
mod line;
mod options;
mod queue;

pub(crate) use line::{Asked, Ended, Refused, Started};
pub use options::{ArgvPolicy, AuditOptions, AuditTo, MIN_SIZE, OnFailure, file_size};

use crate::rate::{Bucket, Rate};
use argv::Hasher;
use file::Out;
use jiff::Timestamp;
use line::Opened;
use queue::{Queue, Wanted};
use rand::RngCore;
use serde::Serialize;
use std::{
    fmt, io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::timeout;

/// A record that cannot be kept. The text names the file and what to do.
#[derive(Debug, thiserror::Error)]
#[error("audit log {path}: {fault}", path = path.display())]
pub struct AuditError {
    pub(crate) path: PathBuf,
    pub(crate) fault: file::Fault,
}

/// How long the start of a session waits for its line. A disk that takes longer counts as one that fails.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lines about refused requests: so many in a second, and at once. Strangers cause them, and what they cause must not rotate
/// the rest out of the log; what is left out is counted in the next line.
const REFUSALS: Rate = Rate { count: 20, per: Duration::from_secs(1), burst: 200 };

/// A record that is being kept. Clones are handles to the same one.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    queue: Arc<Queue>,
    /// Tells the lines of one start of a server from those of another.
    instance: String,
    argv: ArgvPolicy,
    hasher: Hasher,
    closed: bool,
    refusals: Mutex<Refusals>,
}

struct Refusals {
    bucket: Bucket,
    left_out: u64,
}

impl Audit {
    /// Opens the file and writes its first line; `None` when no record is asked for.
    ///
    /// # Errors
    /// The file cannot be opened, is not one that only its owner writes to, or takes no line.
    pub fn open(options: &AuditOptions) -> Result<Option<Self>, AuditError> {
        let Some(to) = &options.to else { return Ok(None) };
        let mut out = Out::open(to, options)?;
        let mut instance = [0; 8];
        rand::rng().fill_bytes(&mut instance);
        let instance = argv::hex(&instance);
        let opened = Opened {
            time: Timestamp::now(),
            event: "open",
            instance: &instance,
            version: env!("CARGO_PKG_VERSION"),
            pid: std::process::id(),
            argv: options.argv,
        };
        let path = to.path();
        out.write(&text(&opened)).map_err(|error| AuditError { path, fault: file::Fault::Io(error) })?;
        let queue = Queue::start(out, options.queue)
            .map_err(|error| AuditError { path: to.path(), fault: file::Fault::Io(error) })?;
        let refusals = Refusals { bucket: Bucket::full(&REFUSALS), left_out: 0 };
        Ok(Some(Self(Arc::new(Inner {
            queue,
            instance,
            argv: options.argv,
            hasher: Hasher::new(),
            closed: options.on_failure() == OnFailure::Closed,
            refusals: Mutex::new(refusals),
        }))))
    }

    /// Whether [`open`](Self::open) would be able to open the file, without doing it.
    pub(crate) fn check(options: &AuditOptions) -> Result<(), AuditError> {
        match &options.to {
            Some(AuditTo::File(path)) => {
                file::check(path).map_err(|fault| AuditError { path: path.clone(), fault })
            }
            _ => Ok(()),
        }
    }

    /// Records that a session starts. True: it may.
    pub(crate) async fn started(&self, started: Started<'_>) -> bool {
        let line = text(&started.with(&self.0.instance, self.0.argv, &self.0.hasher));
        if !self.0.closed {
            self.0.queue.push(line, Wanted::Droppable);
            return true;
        }
        let (tell, told) = tokio::sync::oneshot::channel();
        self.0.queue.push(line, Wanted::Told(tell));
        matches!(timeout(PATIENCE, told).await, Ok(Ok(true)))
    }

    /// Records that a session which was recorded as started has ended. Such a line is never dropped while the record is
    /// closed: there are at most as many as sessions.
    pub(crate) fn ended(&self, ended: Ended<'_>) {
        let line = text(&ended.with(&self.0.instance, self.0.argv));
        self.0.queue.push(line, if self.0.closed { Wanted::Kept } else { Wanted::Droppable });
    }

    /// Records that a request was refused.
    pub(crate) fn refused(&self, refused: Refused<'_>) {
        let left_out = {
            let mut refusals = self.0.refusals.lock().unwrap_or_else(PoisonError::into_inner);
            let Refusals { bucket, left_out } = &mut *refusals;
            if bucket.wait(&REFUSALS).is_some() {
                *left_out += 1;
                return;
            }
            bucket.take();
            std::mem::take(left_out)
        };
        self.0.queue.push(text(&refused.with(&self.0.instance, left_out)), Wanted::Droppable);
    }

    /// Lines that were lost since the start, because they could not be written or too many waited.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.0.queue.lost()
    }

    /// Writes what waits, and a last line, and syncs the file. Gives up after some seconds. Nothing is recorded afterwards.
    pub(crate) async fn close(&self) {
        let (tell, told) = tokio::sync::oneshot::channel();
        let closed = line::Closed { time: Timestamp::now(), event: "close", instance: &self.0.instance };
        self.0.queue.push(text(&closed), Wanted::Synced(tell));
        let _ = timeout(PATIENCE, told).await;
        self.0.queue.close();
    }
}

impl Drop for Inner {
    /// The thread writes what waits and ends.
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl fmt::Debug for Audit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Audit").field("instance", &self.0.instance).finish_non_exhaustive()
    }
}

fn text(line: &impl Serialize) -> Vec<u8> {
    // JSON escapes every control character, so that a line is a line whatever is quoted in it.
    let mut text = serde_json::to_vec(line).unwrap_or_else(|error: serde_json::Error| {
        let error = io::Error::from(error).to_string();
        serde_json::json!({ "event": "unwritable", "error": error }).to_string().into_bytes()
    });
    text.push(b'\n');
    text
}
