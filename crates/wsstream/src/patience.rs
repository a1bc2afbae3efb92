//! For how long a peer that has not ended its side of a close is waited for.
//!
//! What it has not read would be lost to a reset if its socket's other end were gone, so a slow one must not be cut; one that
//! has everything and says nothing is not worth a socket. Both kinds of connection ask here each time that their close
//! timeout passes.

use std::time::Duration;

use tokio::time::Instant;

/// What the rounds of a close timeout have shown so far.
#[derive(Debug, Default)]
pub(crate) struct Patience {
    /// What the kernel still held when the last round passed; `None` when nobody could tell.
    unsent: Option<usize>,
    /// A round has passed.
    looked: bool,
    /// Since when nothing but signs of life keep the connection.
    lingering: Option<Instant>,
    /// The peer was heard in the last of the rounds that asked for it.
    heard: bool,
}

/// What there is to see when a round passes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Round {
    /// Something waits for the wire.
    pub(crate) blocked: bool,
    /// Bytes that the peer's kernel has not acknowledged; `None` when nobody can tell.
    pub(crate) unsent: Option<usize>,
    /// This side is the server.
    pub(crate) is_server: bool,
}

impl Patience {
    /// The wire took something: what the peer has yet to read is more than signs of life again.
    pub(crate) fn on_written(&mut self) {
        self.lingering = None;
    }

    /// A round has passed: whether to wait for another. `heard`: something came from the peer in this one. Signs of life
    /// alone count for no longer than `linger`.
    pub(crate) fn lasts(&mut self, now: Instant, round: Round, heard: bool, linger: Duration) -> bool {
        let before = std::mem::replace(&mut self.unsent, round.unsent);
        let first = !std::mem::replace(&mut self.looked, true);
        let held = |unsent: Option<usize>| unsent.is_some_and(|bytes| bytes > 0);
        if round.blocked || held(round.unsent) {
            return true;
        }
        // The last of it may have got through only just now, and then the peer has yet to read it.
        if round.unsent.is_some() && held(before) {
            return true;
        }
        // Its next sign of life may be on its way: those of a client come as seldom as the timeout passes.
        (first && round.is_server) || self.lingers(now, heard, linger)
    }

    /// Pongs and pings of a peer whose program reads nothing yet. They may come as seldom as the timeout passes, so one of
    /// two rounds has to hold one.
    fn lingers(&mut self, now: Instant, heard: bool, linger: Duration) -> bool {
        let since = *self.lingering.get_or_insert(now);
        let heard_before = std::mem::replace(&mut self.heard, heard);
        (heard || heard_before) && now - since < linger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINGER: Duration = Duration::from_secs(60);

    /// A connection whose close timeout passes every ten seconds.
    struct Rounds {
        patience: Patience,
        now: Instant,
        is_server: bool,
    }

    impl Rounds {
        fn of(is_server: bool) -> Self {
            Self { patience: Patience::default(), now: Instant::now(), is_server }
        }

        fn pass(&mut self, unsent: Option<usize>, heard: bool) -> bool {
            self.now += Duration::from_secs(10);
            let round = Round { blocked: false, unsent, is_server: self.is_server };
            self.patience.lasts(self.now, round, heard, LINGER)
        }
    }

    #[test]
    fn a_silent_peer_gets_one_more_round_from_a_server_only() {
        for (is_server, unsent) in [(true, Some(0)), (true, None), (false, Some(0)), (false, None)] {
            let mut rounds = Rounds::of(is_server);
            assert_eq!(rounds.pass(unsent, false), is_server, "{unsent:?}");
            assert!(!rounds.pass(unsent, false), "{is_server} {unsent:?}");
        }
    }

    #[test]
    fn while_the_kernel_holds_something_and_once_after_it_does_not_the_wait_goes_on() {
        let mut rounds = Rounds::of(false);
        for _ in 0..100 {
            assert!(rounds.pass(Some(1), false));
        }
        assert!(rounds.pass(Some(0), false), "it has yet to be read");
        assert!(!rounds.pass(Some(0), false));
    }

    #[test]
    fn a_kernel_that_cannot_be_asked_any_more_holds_nothing() {
        let mut rounds = Rounds::of(false);
        assert!(rounds.pass(Some(1), false));
        assert!(!rounds.pass(None, false));
    }

    #[test]
    fn a_blocked_wire_is_waited_for_without_end() {
        let mut rounds = Rounds::of(false);
        for _ in 0..100 {
            rounds.now += LINGER;
            let round = Round { blocked: true, unsent: None, is_server: false };
            assert!(rounds.patience.lasts(rounds.now, round, false, LINGER));
        }
    }

    #[test]
    fn signs_of_life_count_in_every_other_round_and_no_longer_than_the_linger() {
        let mut rounds = Rounds::of(false);
        // The first round begins the linger, which six more use up.
        let answers = (0..8).map(|round| rounds.pass(Some(0), round % 2 == 0)).collect::<Vec<_>>();
        assert_eq!(answers, [true, true, true, true, true, true, false, false]);
        rounds.patience.on_written();
        assert!(rounds.pass(Some(0), true), "what was written since is worth a linger of its own");
        assert!(rounds.pass(Some(0), false), "heard in the round before");
        assert!(!rounds.pass(Some(0), false), "two silent rounds");
    }
}
