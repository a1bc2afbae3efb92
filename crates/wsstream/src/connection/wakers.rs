//! One waker for the wire that wakes everybody who waits for it.
//!
//! An IO object remembers one task. Here a writer may be the last to have polled the wire and then be dropped; the
//! driver would never hear that the wire is ready again. So the wire is always polled with this shared waker.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Wake, Waker};

/// How often those who wait let others go first that have waited longer, for each that waits, before one takes the room
/// out of turn. Once would do if everybody were polled in turn; macros such as `tokio::join!` begin with another branch
/// each time, so that the same one may be polled twice in a row.
const MAX_YIELDS: usize = 4;

#[derive(Debug, Default)]
struct Waiting {
    driver: Option<Waker>,
    /// Handles that wait for room or for a flush, by the handle's number.
    writers: Vec<(u64, Waker)>,
    /// Handles that found no room and have not got any since, in the order in which they began to wait.
    turns: VecDeque<u64>,
    /// How often a handle let others go first since the last one took its turn.
    yields: usize,
}

/// The driver and the writers of one connection, as far as they wait.
#[derive(Debug, Default)]
pub(super) struct Wakers(Mutex<Waiting>);

impl Wakers {
    fn waiting(&self) -> std::sync::MutexGuard<'_, Waiting> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_driver(&self, waker: &Waker) {
        let mut waiting = self.waiting();
        match &mut waiting.driver {
            Some(driver) => driver.clone_from(waker),
            none => *none = Some(waker.clone()),
        }
    }

    pub(super) fn wait_to_flush(&self, handle: u64, waker: &Waker) {
        let mut waiting = self.waiting();
        match waiting.writers.iter_mut().find(|(number, _)| *number == handle) {
            Some((_, old)) => old.clone_from(waker),
            None => waiting.writers.push((handle, waker.clone())),
        }
    }

    pub(super) fn wait_for_room(&self, handle: u64, waker: &Waker) {
        self.wait_to_flush(handle, waker);
        let mut waiting = self.waiting();
        if !waiting.turns.contains(&handle) {
            waiting.turns.push_back(handle);
        }
    }

    /// There is room. Whether this handle should not take it yet, because another one has waited longer.
    ///
    /// Writers in one task are polled in an order that has nothing to do with who waited longest, and without this one
    /// of them might take all the room there ever is. Yielding has a bound: one that waited may have lost interest.
    pub(super) fn lets_others_go_first(&self, handle: u64) -> bool {
        let mut waiting = self.waiting();
        let mine = waiting.turns.iter().position(|number| *number == handle);
        let before_me = mine.unwrap_or(waiting.turns.len());
        if before_me > 0 && waiting.yields < MAX_YIELDS * waiting.turns.len() {
            waiting.yields += 1;
            if mine.is_none() {
                // Now it waits as well.
                waiting.turns.push_back(handle);
            }
            return true;
        }
        waiting.yields = 0;
        waiting.turns.drain(..mine.map_or(before_me, |mine| mine + 1));
        false
    }

    pub(super) fn forget_writer(&self, handle: u64) {
        let mut waiting = self.waiting();
        waiting.writers.retain(|(number, _)| *number != handle);
        waiting.turns.retain(|number| *number != handle);
    }

    pub(super) fn wake_driver(&self) {
        let driver = self.waiting().driver.clone();
        if let Some(waker) = driver {
            waker.wake();
        }
    }

    pub(super) fn wake_writers(&self) {
        let writers = std::mem::take(&mut self.waiting().writers);
        for (_, waker) in writers {
            waker.wake();
        }
    }
}

impl Wake for Wakers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_driver();
        self.wake_writers();
    }
}
