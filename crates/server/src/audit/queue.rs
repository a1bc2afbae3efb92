//! What waits to be written, bounded in bytes, and the thread that writes it.

use super::file::Out;
use std::{
    collections::VecDeque,
    io,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::sync::oneshot;

/// What becomes of a line that cannot be written.
pub(super) enum Wanted {
    /// Its writer is told, and nothing has happened.
    Told(oneshot::Sender<bool>),
    /// The same, and it is on the disk, with all before it.
    Synced(oneshot::Sender<bool>),
    /// It is tried again.
    Kept,
    /// It is lost, and counted.
    Droppable,
}

struct Line {
    text: Vec<u8>,
    wanted: Wanted,
}

/// How long until a line that could not be written is tried again.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Queue {
    waiting: Mutex<Waiting>,
    changed: Condvar,
    /// For lines that are not [`Wanted::Kept`], of which there are at most as many as sessions.
    limit: usize,
    lost: AtomicU64,
}

#[derive(Default)]
struct Waiting {
    lines: VecDeque<Line>,
    bytes: usize,
    closed: bool,
}

impl Queue {
    /// Starts the thread. It ends behind [`close`](Self::close), when it has written what it can.
    pub(super) fn start(out: Out, limit: usize) -> io::Result<Arc<Self>> {
        let queue = Arc::new(Self {
            waiting: Mutex::default(),
            changed: Condvar::new(),
            limit,
            lost: AtomicU64::new(0),
        });
        let of_thread = Arc::clone(&queue);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || of_thread.write(out))?;
        Ok(queue)
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    pub(super) fn close(&self) {
        self.waiting().closed = true;
        self.changed.notify_one();
    }

    /// Never waits.
    pub(super) fn push(&self, text: Vec<u8>, wanted: Wanted) {
        let line = Line { text, wanted };
        {
            let mut waiting = self.waiting();
            let kept = matches!(line.wanted, Wanted::Kept);
            if waiting.closed || (!kept && waiting.bytes + line.text.len() > self.limit) {
                drop(waiting);
                return self.give_up(line);
            }
            waiting.bytes += line.text.len();
            waiting.lines.push_back(line);
        }
        self.changed.notify_one();
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_up(&self, line: Line) {
        match line.wanted {
            // Whoever waited may have gone.
            Wanted::Told(tell) | Wanted::Synced(tell) => _ = tell.send(false),
            Wanted::Kept | Wanted::Droppable => _ = self.lost.fetch_add(1, Ordering::Relaxed),
        }
    }

    fn write(&self, mut out: Out) {
        let (mut failing, mut told_lost) = (false, 0);
        while let Some(line) = self.next() {
            let lost = self.lost();
            let result = self.tell_lost(&mut out, lost, &mut told_lost).and_then(|()| out.write(&line.text));
            match result {
                Ok(()) => {
                    if std::mem::take(&mut failing) {
                        tracing::info!("the audit log can be written again");
                    }
                    match line.wanted {
                        Wanted::Told(tell) => _ = tell.send(true),
                        Wanted::Synced(tell) => {
                            out.sync();
                            let _ = tell.send(true);
                        }
                        Wanted::Kept | Wanted::Droppable => {}
                    }
                }
                Err(error) => {
                    // One line for each failure, not one for each session.
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the audit log cannot be written");
                    }
                    self.failed(line);
                }
            }
        }
    }

    /// A line for those that were lost, before the one that is written.
    fn tell_lost(&self, out: &mut Out, lost: u64, told: &mut u64) -> io::Result<()> {
        if lost > *told {
            let time = jiff::Timestamp::now().to_string();
            let line = serde_json::json!({ "time": time, "event": "lost", "lines": lost - *told });
            out.write(format!("{line}\n").as_bytes())?;
            *told = lost;
        }
        Ok(())
    }

    /// Waits for a line; `None` when the queue is closed and empty.
    fn next(&self) -> Option<Line> {
        let mut waiting = self.waiting();
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes = waiting.bytes.saturating_sub(line.text.len());
                return Some(line);
            }
            if waiting.closed {
                return None;
            }
            waiting = self.changed.wait(waiting).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Nobody waits behind a line that could not be written; those that are kept are tried again a little later.
    fn failed(&self, line: Line) {
        let mut given_up = Vec::new();
        {
            let mut waiting = self.waiting();
            let mut lines = std::mem::take(&mut waiting.lines);
            lines.push_front(line);
            let closed = waiting.closed;
            let (kept, others): (VecDeque<_>, VecDeque<_>) =
                lines.into_iter().partition(|line| !closed && matches!(line.wanted, Wanted::Kept));
            waiting.bytes = kept.iter().map(|line| line.text.len()).sum();
            waiting.lines = kept;
            given_up.extend(others);
        }
        given_up.into_iter().for_each(|line| self.give_up(line));
        let waiting = self.waiting();
        if !waiting.lines.is_empty() && !waiting.closed {
            // Woken early by a session that would begin: it is the one that tries.
            let count = waiting.lines.len();
            let result = self.changed.wait_timeout_while(waiting, RETRY, |waiting| {
                !waiting.closed && waiting.lines.len() <= count
            });
            drop(result.unwrap_or_else(PoisonError::into_inner));
        }
    }
}
