//! The state machine of one session: bytes in, events out, and what may be sent when.
//!
//! # Calling contract
//!
//! 1. Append received bytes to a buffer and call [`Session::handle_input`] until it returns `Ok(None)`; at most 17
//!    bytes stay in the buffer then. Where messages carry the stream (the WebSocket tunnel), their borders mean nothing.
//! 2. To apply back-pressure, stop calling it: it takes no more than the event it returns. How much a stalled stream
//!    may hold is the caller's account; the session keeps no payload that came in.
//! 3. Send with [`open`](Session::open), [`reply`](Session::reply), [`data`](Session::data),
//!    [`finish`](Session::finish), [`reset`](Session::reset), [`ping`](Session::ping) and
//!    [`go_away`](Session::go_away). None of them waits, so ask [`queued_out`](Session::queued_out) and
//!    [`total_out`](Session::total_out) first: `data` takes what it is given.
//! 4. Write [`outbox`](Session::outbox) to the wire whenever it is not empty; echoes and refusals appear there
//!    unasked. After a write call `handle_input` again if [`wants_read`](Session::wants_read) was false.
//! 5. After `Err` no more events come: write what is in the outbox (GOAWAY), shut the sending side down, read and
//!    discard for a while, and close. To close a socket with unread input makes the kernel throw away what the peer
//!    has not read yet.
//! 6. Call [`reset_rates`](Session::reset_rates) every [`RATE_WINDOW`](super::limits::RATE_WINDOW).
//!
//! Deadlines are the caller's: there is no clock here.

mod input;
mod output;

use std::collections::{BTreeMap, VecDeque};

use bytes::BytesMut;

use super::decoder::Decoder;
use super::deflate::Deflater;
use super::inflate::Inflater;
use super::send_queue::SendQueue;
use super::stream::Stream;
use super::{Dropped, GoAwayStatus, Headers, Limits, ResetStatus, StreamId, Violation};

/// Something the peer did.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer opened a stream. Answer with [`Session::reply`] or [`Session::reset`].
    StreamOpened {
        /// Its number.
        id: StreamId,
        /// Its headers.
        headers: Headers,
        /// The peer sends nothing on it; no [`Event::Fin`] follows.
        fin: bool,
    },
    /// The peer took a stream that this side opened.
    Replied {
        /// Its number.
        id: StreamId,
        /// The headers of the answer, none as a rule.
        headers: Headers,
        /// The peer sends nothing on it; no [`Event::Fin`] follows.
        fin: bool,
    },
    /// Bytes on a stream: never empty, and a view of the input. Where one event ends and the next begins has no
    /// meaning.
    Data {
        /// The stream.
        id: StreamId,
        /// The bytes.
        bytes: BytesMut,
    },
    /// The peer sends nothing more on the stream. Reported once.
    Fin {
        /// The stream.
        id: StreamId,
    },
    /// The stream is over in both directions and what was queued for it is gone. All data that came before it was
    /// reported: an exec server ends its error stream so, and a reader then sees a plain end.
    Reset {
        /// The stream.
        id: StreamId,
        /// The peer's reason.
        status: ResetStatus,
    },
    /// The answer to [`Session::ping`].
    PingReply {
        /// What `ping` returned.
        id: u32,
    },
    /// The peer opens and answers nothing more. What it had sent on streams before it was reported.
    GoAway {
        /// The highest stream of this side that the peer has seen, 0 for none.
        last: u32,
        /// Why.
        status: GoAwayStatus,
    },
    /// Something was refused or read over. The reason is also counted.
    Dropped(Dropped),
}

/// What was counted in the life of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Payload bytes of DATA for streams that are over or were never open. Usual after a reset, and no fault.
    pub discarded_bytes: u64,
    /// Everything reported as [`Event::Dropped`].
    pub dropped: u64,
    /// PINGs of the peer.
    pub pings: u64,
    /// Streams that the peer opened and reset before this side had finished them.
    pub rapid_resets: u64,
    /// Frames without any use ([`Limits::max_rate_useless`]).
    pub useless: u64,
}

/// One session. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Session {
    limits: Limits,
    is_client: bool,
    decoder: Decoder,
    inflater: Inflater,
    deflater: Deflater,
    queue: SendQueue,
    streams: BTreeMap<StreamId, Stream>,
    /// Those of `streams` that the peer opened.
    peers_streams: usize,
    /// The number of the next stream that this side opens.
    next_stream: u32,
    /// The highest number that the peer has used, 0 for none.
    last_of_peer: u32,
    next_ping: u32,
    /// PINGs of this side that have no answer yet.
    pings: VecDeque<u32>,
    /// The header block that is coming in: whose it is, and its plain form so far.
    block: Option<(input::BlockOf, Vec<u8>)>,
    /// The second of two events that one part of the input made.
    pending: Option<Event>,
    peer_went_away: bool,
    /// This side has queued GOAWAY.
    closing: bool,
    failed: Option<Violation>,
    counts: Counts,
    rates: Rates,
}

/// What was counted since [`Session::reset_rates`].
#[derive(Debug, Default)]
struct Rates {
    pings: u32,
    resets: u32,
    useless: u32,
}

impl Session {
    /// The end that opens streams with odd numbers and speaks first.
    #[must_use]
    pub fn client(limits: Limits) -> Self {
        Self::new(true, limits)
    }

    /// The end that shows nothing in its [`outbox`](Self::outbox) until the client's first frame has begun to come.
    #[must_use]
    pub fn server(limits: Limits) -> Self {
        Self::new(false, limits)
    }

    fn new(is_client: bool, limits: Limits) -> Self {
        Self {
            limits,
            is_client,
            decoder: Decoder::default(),
            inflater: Inflater::default(),
            deflater: Deflater::default(),
            queue: if is_client { SendQueue::default() } else { SendQueue::held() },
            streams: BTreeMap::new(),
            peers_streams: 0,
            next_stream: if is_client { 1 } else { 2 },
            last_of_peer: 0,
            next_ping: if is_client { 1 } else { 2 },
            pings: VecDeque::new(),
            block: None,
            pending: None,
            peer_went_away: false,
            closing: false,
            failed: None,
            counts: Counts::default(),
            rates: Rates::default(),
        }
    }

    /// Takes the next event from the front of `input`; `Ok(None)` when more input is needed, or when
    /// [`wants_read`](Self::wants_read) is false.
    ///
    /// # Errors
    ///
    /// The peer broke a rule and the session ends: what was queued is gone and GOAWAY is in the outbox. The same
    /// error is returned from then on.
    pub fn handle_input(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        if let Some(violation) = &self.failed {
            return Err(violation.clone());
        }
        if let Some(event) = self.pending.take() {
            return Ok(Some(event));
        }
        let event = self.next_event(input);
        event.inspect_err(|violation| self.fail(violation))
    }

    /// Whether [`handle_input`](Self::handle_input) takes anything: false while so many answers wait for the wire that
    /// the peer has to read first ([`Limits::max_control_queue`]).
    #[must_use]
    pub fn wants_read(&self) -> bool {
        self.queue.answers() < self.limits.max_control_queue
    }

    /// Whether a frame has begun and its rest has not come: a peer that stays here makes no progress.
    #[must_use]
    pub fn inside_frame(&self) -> bool {
        self.decoder.inside_frame()
    }

    /// The bytes that wait for the wire: write what `chunks_vectored` shows (64 slices make good use of one writev)
    /// and `advance` by what was taken. Empty for a server until the client has begun to speak.
    pub fn outbox(&mut self) -> &mut SendQueue {
        &mut self.queue
    }

    /// Payload bytes of one stream that the wire has not taken, those held back included.
    #[must_use]
    pub fn queued_out(&self, id: StreamId) -> usize {
        self.queue.unsent(id)
    }

    /// Bytes that the wire has not taken, those held back included: payload, and heads as far as frames are cut.
    #[must_use]
    pub fn total_out(&self) -> usize {
        self.queue.total()
    }

    /// Whether the stream is open in at least one direction.
    #[must_use]
    pub fn is_open(&self, id: StreamId) -> bool {
        self.streams.contains_key(&id)
    }

    /// Streams that are open in at least one direction.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.streams.len()
    }

    /// Whether this side's GOAWAY has been queued, by [`go_away`](Self::go_away), [`close`](Self::close) or a violation.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        self.closing
    }

    /// Whether this side's GOAWAY and all before it were taken by the wire: time to shut the sending side down.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        self.queue.has_said_goodbye()
    }

    /// Begins a new [`RATE_WINDOW`](super::limits::RATE_WINDOW).
    pub fn reset_rates(&mut self) {
        self.rates = Rates::default();
    }

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    fn add(&mut self, id: StreamId, stream: Stream) {
        self.peers_streams += usize::from(!stream.ours);
        self.streams.insert(id, stream);
    }

    /// Forgets a stream. What is queued for it still goes.
    fn forget(&mut self, id: StreamId) -> Option<Stream> {
        let stream = self.streams.remove(&id)?;
        self.peers_streams -= usize::from(!stream.ours);
        self.queue.orphan(id);
        Some(stream)
    }

    fn forget_if_over(&mut self, id: StreamId) {
        if self.streams.get(&id).is_some_and(|stream| stream.is_over()) {
            self.forget(id);
        }
    }
}
