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

use bytes::{Bytes, BytesMut};

use super::send_queue::SendQueue;
use super::{Dropped, GoAwayStatus, Headers, Limits, ResetStatus, SendError, StreamId, Violation};

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
    queue: SendQueue,
}

impl Session {
    /// The end that opens streams with odd numbers and speaks first.
    #[must_use]
    pub fn client(limits: Limits) -> Self {
        Self { limits, queue: SendQueue::default() }
    }

    /// The end that shows nothing in its [`outbox`](Self::outbox) until the client's first frame has begun to come.
    #[must_use]
    pub fn server(limits: Limits) -> Self {
        Self { limits, queue: SendQueue::default() }
    }

    /// Takes the next event from the front of `input`; `Ok(None)` when more input is needed, or when
    /// [`wants_read`](Self::wants_read) is false.
    ///
    /// # Errors
    ///
    /// The peer broke a rule and the session ends: what was queued is gone and GOAWAY is in the outbox. The same
    /// error is returned from then on.
    pub fn handle_input(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        _ = (input, &self.limits);
        Ok(None)
    }

    /// Whether [`handle_input`](Self::handle_input) takes anything: false while so many answers wait for the wire that
    /// the peer has to read first ([`Limits::max_control_queue`]).
    #[must_use]
    pub fn wants_read(&self) -> bool {
        true
    }

    /// Whether a frame has begun and its rest has not come: a peer that stays here makes no progress.
    #[must_use]
    pub fn inside_frame(&self) -> bool {
        false
    }

    /// Opens a stream. `fin` says that this side sends nothing on it. Its data may be given at once: it is held back
    /// until the peer's reply, because Go drops what comes before it has replied.
    ///
    /// # Errors
    ///
    /// [`SendError::GoingAway`], [`SendError::NoNumbersLeft`], [`SendError::Headers`].
    pub fn open(&mut self, headers: &Headers, fin: bool) -> Result<StreamId, SendError> {
        _ = (headers, fin);
        Err(SendError::GoingAway)
    }

    /// Takes a stream that the peer opened. `fin` says that this side sends nothing on it. Data given before is held
    /// back until now.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`], [`SendError::NoReplyDue`], [`SendError::GoingAway`], [`SendError::Headers`].
    pub fn reply(&mut self, id: StreamId, headers: &Headers, fin: bool) -> Result<(), SendError> {
        _ = (headers, fin);
        Err(SendError::NotOpen(id))
    }

    /// Queues bytes, and with `fin` the end behind them. Empty bytes without `fin` send nothing.
    ///
    /// They leave in frames of at most [`MAX_DATA_SENT`](super::limits::MAX_DATA_SENT) bytes without being copied,
    /// one frame of each stream in turn.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`], [`SendError::Finished`], [`SendError::GoingAway`].
    pub fn data(&mut self, id: StreamId, bytes: Bytes, fin: bool) -> Result<(), SendError> {
        _ = (bytes, fin);
        Err(SendError::NotOpen(id))
    }

    /// Says that nothing more will be sent on the stream, behind what was. Doing it twice is the same as once.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`], [`SendError::GoingAway`].
    pub fn finish(&mut self, id: StreamId) -> Result<(), SendError> {
        Err(SendError::NotOpen(id))
    }

    /// Ends the stream in both directions now: what is queued for it is thrown away, and what still comes is
    /// discarded. Nothing happens where the stream is over.
    pub fn reset(&mut self, id: StreamId, status: ResetStatus) {
        _ = (id, status);
    }

    /// Ends the stream in both directions behind what is queued for it, as exec servers end their error stream. What
    /// still comes is discarded from now on. Nothing happens where the stream is over.
    pub fn reset_after_data(&mut self, id: StreamId, status: ResetStatus) {
        _ = (id, status);
    }

    /// Queues a PING ahead of data; its number comes back in [`Event::PingReply`].
    ///
    /// # Errors
    ///
    /// [`SendError::GoingAway`] behind our own GOAWAY.
    pub fn ping(&mut self) -> Result<u32, SendError> {
        Err(SendError::GoingAway)
    }

    /// Queues GOAWAY behind everything that was queued, once; nothing can be sent after it. Data that is held back
    /// for want of a reply is thrown away. What comes in is still reported.
    pub fn go_away(&mut self, status: GoAwayStatus) {
        _ = status;
    }

    /// As [`go_away`](Self::go_away), but first resets every stream that is not over, behind its data: how Go closes a
    /// connection.
    pub fn close(&mut self, status: GoAwayStatus) {
        _ = status;
    }

    /// The bytes that wait for the wire: write what `chunks_vectored` shows (64 slices make good use of one writev)
    /// and `advance` by what was taken. Empty for a server until the client has begun to speak.
    pub fn outbox(&mut self) -> &mut SendQueue {
        &mut self.queue
    }

    /// Payload bytes of one stream that the wire has not taken, those held back included.
    #[must_use]
    pub fn queued_out(&self, id: StreamId) -> usize {
        _ = id;
        0
    }

    /// Bytes of all frames that the wire has not taken, those held back included.
    #[must_use]
    pub fn total_out(&self) -> usize {
        0
    }

    /// Whether the stream is open in at least one direction.
    #[must_use]
    pub fn is_open(&self, id: StreamId) -> bool {
        _ = id;
        false
    }

    /// Streams that are open in at least one direction.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        0
    }

    /// Whether this side's GOAWAY has been queued, by [`go_away`](Self::go_away), [`close`](Self::close) or a violation.
    #[must_use]
    pub fn is_closing(&self) -> bool {
        false
    }

    /// Whether this side's GOAWAY and all before it were taken by the wire: time to shut the sending side down.
    #[must_use]
    pub fn is_flushed(&self) -> bool {
        false
    }

    /// Counts a message of the WebSocket tunnel that carried nothing, as a useless frame. spdystream sends one with
    /// each FIN, so they are legal.
    ///
    /// # Errors
    ///
    /// [`Flood::Useless`](super::Flood::Useless), as from [`handle_input`](Self::handle_input).
    pub fn empty_message(&mut self) -> Result<(), Violation> {
        Ok(())
    }

    /// Begins a new [`RATE_WINDOW`](super::limits::RATE_WINDOW).
    pub fn reset_rates(&mut self) {}

    /// What was counted so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts::default()
    }
}
