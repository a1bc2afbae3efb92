//! The output that waits for one attached client: bounded in bytes, with one writer and one reader.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Once this much waits for a client, the process waits for that client too, as it would for a person who has stopped
/// a terminal with Ctrl-S. Eight full reads: enough to keep a connection busy, little enough for many clients.
const LIMIT: usize = 256 * 1024;

/// How much more may be queued once the process has exited: the rest of its output is in a pipe of at most this size
/// (`fs.pipe-max-size`), and a client that has stopped reading must not hold up what comes after the exit.
const LAST_WORDS: usize = 1024 * 1024;

/// Chunks in order. The reader sees the end when it is closed and empty.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    data: Notify,
    room: Notify,
}

#[derive(Debug, Default)]
struct State {
    chunks: VecDeque<Bytes>,
    bytes: usize,
    /// No more will come.
    closed: bool,
    /// Nobody will read any more.
    abandoned: bool,
}

impl Queue {
    /// Adds a chunk; waits for room, though once `exited` is cancelled only for the room that the last words have.
    /// Cancel-safe: a dropped future has added nothing.
    pub(crate) async fn push(&self, data: &Bytes, exited: &CancellationToken) {
        loop {
            let patient = !exited.is_cancelled();
            if self.try_push(data, if patient { LIMIT } else { LIMIT + LAST_WORDS }) {
                return;
            }
            tokio::select! {
                () = self.room.notified() => {}
                () = exited.cancelled(), if patient => {}
            }
        }
    }

    /// The next chunk; `None` at the end. Cancel-safe.
    pub(crate) async fn pop(&self) -> Option<Bytes> {
        loop {
            {
                let mut state = self.state();
                if let Some(chunk) = state.chunks.pop_front() {
                    state.bytes -= chunk.len();
                    self.room.notify_one();
                    return Some(chunk);
                }
                if state.closed {
                    return None;
                }
            }
            self.data.notified().await;
        }
    }

    /// The writer has nothing more to add.
    pub(crate) fn close(&self) {
        self.state().closed = true;
        self.data.notify_one();
    }

    /// The reader is gone: what is queued is freed, and adding does nothing from now on.
    pub(crate) fn abandon(&self) {
        let mut state = self.state();
        *state = State { abandoned: true, ..State::default() };
        self.room.notify_one();
    }

    pub(crate) fn is_abandoned(&self) -> bool {
        self.state().abandoned
    }

    fn try_push(&self, data: &Bytes, limit: usize) -> bool {
        let mut state = self.state();
        if state.abandoned {
            return true;
        }
        if state.bytes >= limit {
            return false;
        }
        state.bytes += data.len();
        state.chunks.push_back(data.clone());
        self.data.notify_one();
        true
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn blocks(future: impl Future) -> bool {
        tokio::time::timeout(Duration::from_millis(20), future).await.is_err()
    }

    #[tokio::test]
    async fn a_full_queue_makes_its_writer_wait_until_there_is_room() {
        let (queue, exited) = (Queue::default(), CancellationToken::new());
        let chunk = Bytes::from(vec![0; LIMIT]);
        queue.push(&chunk, &exited).await;
        assert!(blocks(queue.push(&chunk, &exited)).await);
        let (popped, ()) = tokio::join!(queue.pop(), queue.push(&chunk, &exited));
        assert_eq!(popped, Some(chunk.clone()));
        queue.close();
        assert_eq!(queue.pop().await, Some(chunk), "what was added is still there behind the close");
        assert_eq!(queue.pop().await, None);
    }

    #[tokio::test]
    async fn an_exit_lets_the_last_words_in_but_not_a_flood() {
        let (queue, exited) = (Queue::default(), CancellationToken::new());
        queue.push(&Bytes::from(vec![0; LIMIT]), &exited).await;
        let word = Bytes::from_static(b"last");
        tokio::join!(queue.push(&word, &exited), async { exited.cancel() });
        queue.push(&Bytes::from(vec![0; LAST_WORDS]), &exited).await;
        assert!(blocks(queue.push(&word, &exited)).await);
    }

    #[tokio::test]
    async fn a_reader_that_leaves_frees_its_writer() {
        let (queue, exited) = (Queue::default(), CancellationToken::new());
        let chunk = Bytes::from(vec![0; LIMIT]);
        queue.push(&chunk, &exited).await;
        tokio::join!(queue.push(&chunk, &exited), async { queue.abandon() });
        assert!(queue.is_abandoned());
        assert_eq!(queue.state().bytes, 0);
    }
}
