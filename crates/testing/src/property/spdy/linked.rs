//! Two sessions joined: a client and a server that open, reply, send, finish, reset and ping at random while their
//! bytes are delivered in random parts, or not for a while. On each stream each byte arrives once and in order, or the
//! stream is reset; nothing comes behind an end.

use std::collections::BTreeMap;

use bytes::{Buf as _, Bytes, BytesMut};
use wsstream_proto::spdy::{Dropped, Event, GoAwayStatus, Headers, Limits, ResetStatus, Session, StreamId};

use crate::property::Choices;

/// Of so many PINGs without an echo a session keeps the numbers.
const KNOWN_PINGS: usize = 16;

/// What one end has sent on one stream, and the other has seen of it.
#[derive(Debug, Default)]
struct Lane {
    sent: Vec<u8>,
    got: Vec<u8>,
    finished: bool,
    fin_got: bool,
}

/// One stream, as an observer of both ends sees it.
#[derive(Debug, Default)]
struct Pair {
    /// By the end that sends: 0 the client, 1 the server.
    lanes: [Lane; 2],
    opened: bool,
    replied: bool,
    reply_got: bool,
    /// The end that reset it, at once.
    reset_by: [bool; 2],
    /// The end that reset it behind its data.
    reset_behind: [bool; 2],
    /// The end that was told of a reset.
    reset_got: [bool; 2],
    refused: bool,
    /// An end has said goodbye before it knew of a reply: what it held back is gone.
    cut: bool,
}

impl Pair {
    fn is_reset(&self) -> bool {
        self.refused || self.reset_by.contains(&true) || self.reset_behind.contains(&true)
    }
}

struct World {
    ends: [Session; 2],
    /// Bytes that each end has received and not taken.
    input: [BytesMut; 2],
    pairs: BTreeMap<StreamId, Pair>,
    pings: [Vec<u32>; 2],
    pings_sent: usize,
    goodbye: [bool; 2],
    goodbye_got: [bool; 2],
    /// The server has heard a frame begin.
    spoken: bool,
    heard: usize,
}

/// The whole story.
pub fn each_byte_arrives_once(input: &[u8]) {
    let mut choices = Choices::new(input);
    let mut limits = Limits::default();
    limits.max_streams = choices.pick(&[3, 8, 2048]);
    let mut none = Limits::default();
    none.max_streams = 0;
    let mut world = World {
        ends: [Session::client(none), Session::server(limits)],
        input: [BytesMut::new(), BytesMut::new()],
        pairs: BTreeMap::new(),
        pings: [Vec::new(), Vec::new()],
        pings_sent: 0,
        goodbye: [false; 2],
        goodbye_got: [false; 2],
        spoken: false,
        heard: 0,
    };
    let mut steps = 0;
    while !choices.is_empty() && steps < 400 {
        steps += 1;
        let who = choices.below(2);
        match choices.below(20) {
            0 | 1 => world.open(choices.once_in(6)),
            2 => world.reply(&mut choices),
            3..=7 => world.send(who, &mut choices),
            8 => world.finish(who, &mut choices),
            9 => world.reset(who, &mut choices),
            10 => world.ping(who),
            11 if choices.once_in(16) => world.goodbye(who, choices.once_in(2)),
            12..=15 => world.deliver(who, choices.below(32)),
            _ => world.deliver(who, usize::from(choices.word())),
        }
        world.check_queues();
    }
    world.settle();
    world.judge();
}

impl World {
    fn open(&mut self, fin: bool) {
        let Ok(id) = self.ends[0].open(&Headers::from_iter([("streamtype", "data")]), fin) else {
            assert!(self.goodbye[0] || self.goodbye_got[0]);
            return;
        };
        let pair = self.pairs.entry(id).or_default();
        pair.lanes[0].finished = fin;
    }

    /// A stream that exists, for an end to do something with.
    fn pick(&self, choices: &mut Choices<'_>) -> Option<StreamId> {
        let n = choices.below(256);
        let count = self.pairs.len();
        (count > 0).then(|| self.pairs.keys().nth(n % count).copied()).flatten()
    }

    fn reply(&mut self, choices: &mut Choices<'_>) {
        let Some(id) = self.pick(choices) else { return };
        let fin = choices.once_in(6);
        let pair = self.pairs.get_mut(&id).expect("it was picked");
        let open = self.ends[1].is_open(id);
        let done = self.ends[1].reply(id, &Headers::default(), fin);
        assert_eq!(done.is_ok(), open && !pair.replied && !self.goodbye[1], "{done:?}");
        if done.is_ok() {
            pair.replied = true;
            pair.lanes[1].finished |= fin;
        }
    }

    fn send(&mut self, who: usize, choices: &mut Choices<'_>) {
        let Some(id) = self.pick(choices) else { return };
        let (payload, fin) = (choices.payload(), choices.once_in(10));
        let pair = self.pairs.get_mut(&id).expect("it was picked");
        let lane = &mut pair.lanes[who];
        let open = self.ends[who].is_open(id) && !self.goodbye[who] && !lane.finished;
        let done = self.ends[who].data(id, Bytes::copy_from_slice(&payload), fin);
        assert_eq!(done.is_ok(), open, "{done:?}");
        if done.is_ok() {
            lane.sent.extend(payload);
            lane.finished |= fin;
        }
    }

    fn finish(&mut self, who: usize, choices: &mut Choices<'_>) {
        let Some(id) = self.pick(choices) else { return };
        let open = self.ends[who].is_open(id) && !self.goodbye[who];
        assert_eq!(self.ends[who].finish(id).is_ok(), open);
        if open {
            self.pairs.get_mut(&id).expect("it was picked").lanes[who].finished = true;
        }
    }

    fn reset(&mut self, who: usize, choices: &mut Choices<'_>) {
        let Some(id) = self.pick(choices) else { return };
        let pair = self.pairs.get_mut(&id).expect("it was picked");
        let open = self.ends[who].is_open(id);
        if choices.once_in(2) {
            self.ends[who].reset_after_data(id, ResetStatus::CANCEL);
            pair.reset_behind[who] |= open;
        } else {
            self.ends[who].reset(id, ResetStatus::CANCEL);
            assert!(
                !open || self.ends[who].queued_out(id) <= 32 * 1024,
                "only a frame that has begun is left"
            );
            pair.reset_by[who] |= open;
        }
        assert!(!self.ends[who].is_open(id));
    }

    fn ping(&mut self, who: usize) {
        // Above a hundred they are no conforming peer's, and not each has an echo.
        if self.pings_sent == 90 {
            return;
        }
        self.pings_sent += 1;
        if let Ok(id) = self.ends[who].ping() {
            let waiting = &mut self.pings[who];
            waiting.push(id);
            // The session knows the newest ones; the echo of an older one is nothing to it.
            waiting.drain(..waiting.len().saturating_sub(KNOWN_PINGS));
        } else {
            assert!(self.goodbye[who]);
        }
    }

    fn goodbye(&mut self, who: usize, close: bool) {
        for pair in self.pairs.values_mut().filter(|_| !self.goodbye[who]) {
            pair.cut |= if who == 0 { !pair.reply_got } else { !pair.replied };
        }
        if close {
            for (id, pair) in &mut self.pairs {
                // Behind a goodbye there is nothing to say it with.
                let how = if self.goodbye[who] { &mut pair.reset_by } else { &mut pair.reset_behind };
                how[who] |= self.ends[who].is_open(*id);
            }
            self.ends[who].close(GoAwayStatus::OK);
        } else {
            self.ends[who].go_away(GoAwayStatus::OK);
        }
        self.goodbye[who] = true;
    }

    /// Moves up to `n` bytes from one end to the other, and has the other take it all.
    fn deliver(&mut self, from: usize, n: usize) {
        let mut left = n.min(self.ends[from].outbox().remaining());
        while left > 0 {
            let outbox = self.ends[from].outbox();
            let part = outbox.chunk();
            assert!(!part.is_empty(), "an outbox that is not empty shows something");
            let part = &part[..part.len().min(left)];
            self.input[1 - from].extend_from_slice(part);
            let taken = part.len();
            if from == 0 {
                self.heard += taken;
                self.spoken = self.heard >= 8;
            }
            outbox.advance(taken);
            left -= taken;
        }
        self.take(1 - from);
    }

    fn take(&mut self, who: usize) {
        loop {
            let event = match self.ends[who].handle_input(&mut self.input[who]) {
                Ok(Some(event)) => event,
                Ok(None) => return,
                Err(violation) => panic!("both ends are conforming, and yet: {violation}"),
            };
            self.heard(who, event);
        }
    }

    fn heard(&mut self, who: usize, event: Event) {
        let peer = 1 - who;
        assert!(!self.goodbye_got[who], "{event:?} behind GOAWAY");
        match event {
            Event::StreamOpened { id, headers, fin } => {
                let pair = self.pairs.get_mut(&id).expect("nobody opened it");
                assert!(who == 1 && !std::mem::replace(&mut pair.opened, true));
                assert_eq!(headers.text("streamtype"), Some("data"));
                pair.lanes[0].fin_got = fin;
            }
            Event::Replied { id, fin, .. } => {
                let pair = self.pairs.get_mut(&id).expect("nobody opened it");
                assert!(who == 0 && pair.replied && !std::mem::replace(&mut pair.reply_got, true));
                pair.lanes[1].fin_got = fin;
            }
            Event::Data { id, bytes } => {
                let pair = self.pairs.get_mut(&id).expect("nobody opened it");
                assert!(who == 1 || pair.reply_got, "data before the reply");
                assert!(!pair.reset_got[who] && !pair.lanes[peer].fin_got, "data behind the end");
                let lane = &mut pair.lanes[peer];
                assert!(!bytes.is_empty());
                lane.got.extend_from_slice(&bytes);
                assert!(lane.sent.starts_with(&lane.got), "bytes on stream {id} that were not sent so");
            }
            Event::Fin { id } => {
                let pair = self.pairs.get_mut(&id).expect("nobody opened it");
                let lane = &mut pair.lanes[peer];
                assert!(lane.finished && !std::mem::replace(&mut lane.fin_got, true));
                assert_eq!(lane.got, lane.sent, "the end overtook the data of stream {id}");
            }
            Event::Reset { id, status } => {
                let pair = self.pairs.get_mut(&id).expect("nobody opened it");
                assert!(!std::mem::replace(&mut pair.reset_got[who], true), "a second reset");
                assert!(!self.ends[who].is_open(id));
                if status == ResetStatus::REFUSED_STREAM {
                    assert!(pair.refused);
                } else {
                    assert!(pair.reset_by[peer] || pair.reset_behind[peer], "nobody reset stream {id}");
                }
                // Behind data means behind all of it, if the stream was replied to and nobody cut it short.
                let lane = &pair.lanes[peer];
                if pair.reset_behind[peer]
                    && pair.replied
                    && (peer == 1 || pair.reply_got)
                    && !pair.reset_by[peer]
                {
                    assert_eq!(lane.got.len(), lane.sent.len(), "the reset overtook the data of stream {id}");
                }
            }
            Event::PingReply { id } => {
                assert_eq!(self.pings[who].remove(0), id, "echoes come in order");
            }
            Event::GoAway { .. } => {
                assert!(self.goodbye[peer] && !std::mem::replace(&mut self.goodbye_got[who], true));
            }
            Event::Dropped(Dropped::TooManyStreams(id)) => {
                self.pairs.get_mut(&id).expect("nobody opened it").refused = true;
            }
            Event::Dropped(Dropped::AfterGoAway(id)) => {
                assert!(who == 1 && self.goodbye[1]);
                self.pairs.get_mut(&id).expect("nobody opened it").refused = true;
            }
            // The reply to a stream that was reset in the meantime.
            Event::Dropped(Dropped::StrayReply(id)) => assert!(self.pairs[&id].is_reset()),
            other => panic!("conforming peers drop nothing: {other:?}"),
        }
    }

    /// What waits is what was sent and has not left.
    fn check_queues(&mut self) {
        for who in 0..2 {
            let end = &mut self.ends[who];
            let queued: usize = self.pairs.keys().map(|id| end.queued_out(*id)).sum();
            assert!(queued <= end.total_out(), "{queued} bytes of {}", end.total_out());
            assert!(end.outbox().remaining() <= end.total_out());
            for (id, pair) in &self.pairs {
                let lane = &pair.lanes[who];
                assert!(end.queued_out(*id) <= lane.sent.len() - lane.got.len());
            }
        }
    }

    /// Everything is delivered, and the server replies to what still waits.
    fn settle(&mut self) {
        for _ in 0..4 {
            for who in [0, 1] {
                while !self.ends[who].outbox().is_empty() {
                    self.deliver(who, usize::MAX);
                }
            }
            let waiting: Vec<StreamId> = self.pairs.keys().copied().collect();
            for id in waiting {
                let pair = self.pairs.get_mut(&id).expect("it exists");
                if pair.opened && !pair.replied && self.ends[1].reply(id, &Headers::default(), false).is_ok()
                {
                    pair.replied = true;
                }
            }
        }
        for who in [0, 1] {
            let end = &mut self.ends[who];
            assert!(end.outbox().is_empty() && self.input[who].is_empty());
            // A server to whom nobody has spoken says nothing, not even goodbye.
            assert_eq!(end.is_flushed(), self.goodbye[who] && (who == 0 || self.spoken));
        }
    }

    fn judge(&self) {
        for (id, pair) in &self.pairs {
            assert!(pair.reply_got || pair.is_reset() || self.goodbye.contains(&true), "{id} waits for ever");
            for who in [0, 1] {
                let lane = &pair.lanes[who];
                assert!(lane.sent.starts_with(&lane.got));
                // Behind the server's goodbye there is no reply, and what waits for it is held back for ever.
                let cut = pair.is_reset() || pair.cut || !pair.reply_got;
                if !cut {
                    assert!(
                        lane.got == lane.sent,
                        "stream {id}: {} of {} bytes {who} {pair:?}",
                        lane.got.len(),
                        lane.sent.len()
                    );
                    assert_eq!(lane.fin_got, lane.finished, "the end of stream {id} from {who}: {pair:?}");
                    assert_eq!(self.ends[who].queued_out(*id), 0);
                }
            }
        }
    }
}
