//! Who may queue next when all streams together have queued as much as they may.
//!
//! Whoever is polled first after room was made would otherwise take it, and a few streams that send without end could
//! keep all others waiting for ever. So the last quarter of the room belongs to the one that has waited longest. One
//! that has lost interest (its future was dropped, its writer was not) delays the others a little and is then passed
//! over; nobody waits for it.

use std::collections::VecDeque;
use std::task::Waker;

/// How often room is offered to the first in the queue before it is passed over. Each time it is woken; whoever has not
/// come by then does something else.
const MAX_OFFERS: u32 = 16;

/// How many are woken when there is room for all.
const WOKEN: usize = 8;

/// Those who wait for room among all streams, the longest first.
#[derive(Debug, Default)]
pub(super) struct Turns {
    queue: VecDeque<(u64, Waker)>,
    /// How often room was offered to the first.
    offers: u32,
}

impl Turns {
    /// How much of `total` may be used before this one has to wait.
    pub(super) fn limit(&self, number: u64, total: usize) -> usize {
        match self.queue.front() {
            Some((first, _)) if *first != number => total - total / 4,
            _ => total,
        }
    }

    /// Waits, at the end of the queue unless it stands there already.
    pub(super) fn wait(&mut self, number: u64, waker: &Waker) {
        match self.queue.iter_mut().find(|(other, _)| *other == number) {
            Some((_, old)) => old.clone_from(waker),
            None => self.queue.push_back((number, waker.clone())),
        }
    }

    /// Waits no more: it took its turn, or is gone.
    pub(super) fn leave(&mut self, number: u64) {
        if let Some(at) = self.queue.iter().position(|(other, _)| *other == number) {
            self.queue.remove(at);
            if at == 0 {
                self.offers = 0;
            }
        }
    }

    /// There is room: `used` of `total`. `made`: the wire took something, rather than that somebody left some over.
    pub(super) fn offer(&mut self, used: usize, total: usize, made: bool) {
        if used >= total || self.queue.is_empty() {
            return;
        }
        self.offers += u32::from(made);
        if self.offers > MAX_OFFERS {
            // It was woken each time, so if it still cares it comes back.
            self.queue.pop_front();
            self.offers = 0;
        }
        let count = if used < total - total / 4 { WOKEN } else { 1 };
        self.queue.iter().take(count).for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// Nothing is taken any more: all look again.
    pub(super) fn dismiss(&mut self) {
        self.queue.drain(..).for_each(|(_, waker)| waker.wake());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn waker() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn the_last_quarter_belongs_to_the_first_in_the_queue() {
        let mut turns = Turns::default();
        assert_eq!(turns.limit(7, 100), 100, "nobody waits");
        let (_, waker) = waker();
        turns.wait(1, &waker);
        turns.wait(2, &waker);
        assert_eq!((turns.limit(1, 100), turns.limit(2, 100), turns.limit(7, 100)), (100, 75, 75));
        turns.leave(1);
        assert_eq!(turns.limit(2, 100), 100);
    }

    #[test]
    fn one_that_lost_interest_is_passed_over() {
        let mut turns = Turns::default();
        let (gone, gone_waker) = waker();
        let (next, next_waker) = waker();
        turns.wait(1, &gone_waker);
        turns.wait(2, &next_waker);
        for _ in 0..MAX_OFFERS {
            turns.offer(90, 100, true);
        }
        assert_eq!((gone.0.load(Ordering::Relaxed), next.0.load(Ordering::Relaxed)), (16, 0));
        turns.offer(90, 100, true);
        assert_eq!(next.0.load(Ordering::Relaxed), 1);
        assert_eq!(turns.limit(2, 100), 100);
    }

    #[test]
    fn with_much_room_several_are_woken() {
        let mut turns = Turns::default();
        let (count, waker) = waker();
        for number in 0..20 {
            turns.wait(number, &waker);
        }
        turns.offer(10, 100, false);
        assert_eq!(count.0.load(Ordering::Relaxed), WOKEN);
        turns.offer(100, 100, true);
        assert_eq!(count.0.load(Ordering::Relaxed), WOKEN, "no room, nobody is woken");
    }
}
