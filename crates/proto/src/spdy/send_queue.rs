//! What waits for the wire, and in which order it goes.
//!
//! Control frames overtake data at the next border of a frame, so that an echo or a reset is not stuck behind a
//! megabyte. Streams take turns, one frame each, so that none starves the others. What ends a stream stands behind
//! its data, and GOAWAY behind everything.

mod parts;

use std::collections::{BTreeMap, VecDeque};
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use super::StreamId;
use super::frame::{self, Encoded};
use parts::{Piece, Staged, Waiting, What};

pub(super) use parts::End;

/// How much data is cut into frames ahead of the wire: enough for one writev, and little enough that a stream that
/// begins to send does not wait.
const STAGED_BYTES: usize = 64 * 1024;

/// As [`STAGED_BYTES`], for short frames; each makes two slices.
const STAGED_FRAMES: usize = 32;

/// Payloads shorter than this are copied, and gathered while they wait: a small view must not keep a large buffer
/// alive, and eight bytes of head for each byte are a waste.
const GATHER_BELOW: usize = 1024;

/// The most that small payloads are gathered to.
const GATHER_LIMIT: usize = 4096;

/// Frames on their way out.
///
/// It is a [`Buf`]: write what [`chunks_vectored`](Buf::chunks_vectored) shows and [`advance`](Buf::advance) by what
/// was taken. Further data is cut into frames as earlier frames leave, so [`remaining`](Buf::remaining), which counts
/// what is cut, may be more after a write than before; it is 0 only when nothing can be written.
#[derive(Debug, Default)]
pub struct SendQueue {
    staged: VecDeque<Staged>,
    /// Frames in `staged` that go before data. They stand together, at the front or behind a frame that has begun.
    controls: usize,
    /// Those of `controls` that the peer has caused.
    answers: usize,
    /// Bytes in `staged`.
    staged_bytes: usize,
    /// Frames in `staged` that are not control.
    staged_frames: usize,
    streams: BTreeMap<StreamId, Waiting>,
    turns: VecDeque<StreamId>,
    /// Payload that is not staged.
    waiting_bytes: usize,
    orphans: usize,
    go_away: Option<Encoded>,
    /// Nothing is shown yet.
    held: bool,
    /// GOAWAY is staged, or gone.
    saying_goodbye: bool,
    said_goodbye: bool,
}

impl SendQueue {
    /// A queue that shows nothing until [`release`](Self::release).
    pub(super) fn held() -> Self {
        Self { held: true, ..Self::default() }
    }

    /// From now on what is queued is shown.
    pub(super) fn release(&mut self) {
        self.held = false;
    }

    /// Queues a control frame ahead of data. `answer`: the peer has caused it and can be made to wait.
    pub(super) fn control(&mut self, head: Encoded, block: Bytes, answer: bool) {
        self.insert(Staged::new(head, block, if answer { What::Answer } else { What::Control }));
    }

    /// Queues the answer to a PING. With `replace` it takes the place of the last answer that was not begun, if there
    /// is one: a flood gets fewer answers and takes no memory.
    pub(super) fn echo(&mut self, id: u32, replace: bool) {
        let echo = Staged::new(frame::ping(id), Bytes::new(), What::Echo);
        let unsent = |staged: &&mut Staged| staged.what == What::Echo && staged.sent == 0;
        if replace && let Some(old) = self.staged.iter_mut().take(self.controls + 1).rev().find(unsent) {
            *old = echo;
        } else {
            self.insert(echo);
        }
    }

    fn insert(&mut self, frame: Staged) {
        let begun = self.staged.front().is_some_and(|front| !front.is_control() && front.sent > 0);
        self.staged_bytes += frame.left();
        self.answers += usize::from(frame.is_answer());
        self.staged.insert(self.controls + usize::from(begun), frame);
        self.controls += 1;
    }

    /// Queues data of a stream; `held` until [`release_stream`](Self::release_stream).
    pub(super) fn data(&mut self, id: StreamId, bytes: Bytes, held: bool) {
        let waiting = self.streams.entry(id).or_default();
        waiting.held = held;
        waiting.unsent += bytes.len();
        self.waiting_bytes += bytes.len();
        if bytes.len() >= GATHER_BELOW {
            waiting.pieces.push_back(Piece::Whole(bytes));
        } else if let Some(Piece::Gathered(gathered)) = waiting.pieces.back_mut()
            && gathered.len() + bytes.len() <= GATHER_LIMIT
        {
            gathered.extend_from_slice(&bytes);
        } else if !bytes.is_empty() {
            waiting.pieces.push_back(Piece::Gathered(BytesMut::from(&bytes[..])));
        }
        self.take_turn(id);
    }

    /// Queues the end of a stream behind its data. A reset goes behind a FIN that has not left.
    pub(super) fn end(&mut self, id: StreamId, end: End, held: bool) {
        let waiting = self.streams.entry(id).or_default();
        waiting.held = held;
        waiting.end = Some(match (waiting.end, end) {
            (Some(End::Fin), End::Reset(status)) => End::FinThenReset(status),
            (_, end) => end,
        });
        self.take_turn(id);
    }

    /// The stream was replied to.
    pub(super) fn release_stream(&mut self, id: StreamId) {
        if let Some(waiting) = self.streams.get_mut(&id) {
            waiting.held = false;
            self.take_turn(id);
        }
    }

    fn take_turn(&mut self, id: StreamId) {
        if let Some(waiting) = self.streams.get_mut(&id)
            && !waiting.held
            && waiting.has_more()
            && !std::mem::replace(&mut waiting.in_turn, true)
        {
            self.turns.push_back(id);
        }
        self.stage();
    }

    /// Throws away what a stream has queued, except a frame that has begun.
    pub(super) fn discard(&mut self, id: StreamId) {
        let Some(waiting) = self.streams.get_mut(&id) else { return };
        let mut staged_payload = 0;
        let (mut frames, mut bytes) = (0, 0);
        self.staged.retain(|frame| {
            let own = frame.what == What::Stream(id);
            if own && frame.sent == 0 {
                frames += 1;
                bytes += frame.left();
                staged_payload += frame.payload.len();
            }
            !own || frame.sent > 0
        });
        self.staged_bytes -= bytes;
        self.staged_frames -= frames;
        waiting.staged -= frames;
        waiting.unsent -= staged_payload;
        // What is left of `unsent` is in pieces, or in the frame that has begun.
        let begun = match self.staged.front() {
            Some(frame) if frame.what == What::Stream(id) => frame.slices()[1].len(),
            _ => 0,
        };
        self.waiting_bytes -= waiting.unsent - begun;
        waiting.unsent = begun;
        waiting.pieces.clear();
        waiting.end = None;
        if std::mem::replace(&mut waiting.in_turn, false) {
            self.turns.retain(|turn| *turn != id);
        }
        self.forget_if_done(id);
        self.stage();
    }

    /// The session has forgotten the stream; what it has queued still goes.
    pub(super) fn orphan(&mut self, id: StreamId) {
        if let Some(waiting) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut waiting.orphan, true)
        {
            self.orphans += 1;
        }
    }

    /// Streams that the session has forgotten and that are not flushed.
    pub(super) fn orphans(&self) -> usize {
        self.orphans
    }

    /// Queues GOAWAY behind everything.
    pub(super) fn go_away(&mut self, head: Encoded) {
        self.go_away = Some(head);
        self.stage();
    }

    /// Throws everything away but a frame that has begun, and queues GOAWAY unless it is on its way.
    pub(super) fn abort(&mut self, head: Encoded) {
        self.staged.retain(|frame| frame.sent > 0);
        self.controls = self.staged.iter().filter(|frame| frame.is_control()).count();
        self.answers = self.staged.iter().filter(|frame| frame.is_answer()).count();
        self.staged_frames = self.staged.len() - self.controls;
        self.staged_bytes = self.staged.iter().map(Staged::left).sum();
        self.streams.clear();
        self.turns.clear();
        (self.waiting_bytes, self.orphans) = (0, 0);
        if !self.said_goodbye && !self.staged.iter().any(|frame| frame.what == What::GoAway) {
            self.saying_goodbye = false;
            self.go_away(head);
        }
    }

    fn forget_if_done(&mut self, id: StreamId) {
        if let Some(waiting) = self.streams.get(&id)
            && waiting.staged == 0
            && !waiting.has_more()
        {
            self.orphans -= usize::from(waiting.orphan);
            self.streams.remove(&id);
        }
    }

    /// Cuts frames from the streams in turn, as many as are wanted ahead of the wire.
    fn stage(&mut self) {
        while self.staged_bytes < STAGED_BYTES && self.staged_frames < STAGED_FRAMES {
            let Some(id) = self.turns.pop_front() else { break };
            let Some(waiting) = self.streams.get_mut(&id) else { continue };
            waiting.in_turn = false;
            let mut frames = [None, None, None];
            let [first, second, third] = &mut frames;
            if let Some(piece) = waiting.pieces.front_mut() {
                let payload = piece.split();
                if piece.is_empty() {
                    waiting.pieces.pop_front();
                }
                let len = u32::try_from(payload.len()).unwrap_or(u32::MAX);
                self.waiting_bytes -= payload.len();
                *first = Some(Staged::new(frame::data(id, len, false), payload, What::Stream(id)));
            }
            // FIN is a frame of its own, as from Go; it need not wait for another turn.
            if waiting.pieces.is_empty() {
                let (fin, reset) = match waiting.end.take() {
                    Some(End::Fin) => (true, None),
                    Some(End::Reset(status)) => (false, Some(status)),
                    Some(End::FinThenReset(status)) => (true, Some(status)),
                    None => (false, None),
                };
                let bare = |head| Staged::new(head, Bytes::new(), What::Stream(id));
                *second = fin.then(|| bare(frame::data(id, 0, true)));
                *third = reset.map(|status| bare(frame::rst_stream(id, status)));
            }
            if waiting.has_more() {
                waiting.in_turn = true;
                self.turns.push_back(id);
            }
            for frame in frames.into_iter().flatten() {
                waiting.staged += 1;
                self.staged_frames += 1;
                self.staged_bytes += frame.left();
                self.staged.push_back(frame);
            }
        }
        if self.turns.is_empty()
            && !self.saying_goodbye
            && let Some(head) = self.go_away.take()
        {
            self.saying_goodbye = true;
            let frame = Staged::new(head, Bytes::new(), What::GoAway);
            self.staged_frames += 1;
            self.staged_bytes += frame.left();
            self.staged.push_back(frame);
        }
    }

    /// Control frames that the peer has caused and has not taken.
    pub(super) fn answers(&self) -> usize {
        self.answers
    }

    /// Payload of a stream that the wire has not taken.
    pub(super) fn unsent(&self, id: StreamId) -> usize {
        self.streams.get(&id).map_or(0, |waiting| waiting.unsent)
    }

    /// Everything that the wire has not taken, in bytes.
    pub(super) fn total(&self) -> usize {
        self.staged_bytes + self.waiting_bytes
    }

    /// Whether GOAWAY has left.
    pub(super) fn has_said_goodbye(&self) -> bool {
        self.said_goodbye
    }

    /// Whether nothing can be written now.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.remaining() == 0
    }
}

impl Buf for SendQueue {
    fn remaining(&self) -> usize {
        if self.held { 0 } else { self.staged_bytes }
    }

    fn chunk(&self) -> &[u8] {
        let front = self.staged.front().filter(|_| !self.held);
        let slices = front.map_or([&[][..]; 2], Staged::slices);
        slices.into_iter().find(|slice| !slice.is_empty()).unwrap_or_default()
    }

    fn chunks_vectored<'a>(&'a self, dst: &mut [IoSlice<'a>]) -> usize {
        if self.held {
            return 0;
        }
        let slices = self.staged.iter().flat_map(Staged::slices).filter(|slice| !slice.is_empty());
        let mut n = 0;
        for (place, slice) in dst.iter_mut().zip(slices) {
            *place = IoSlice::new(slice);
            n += 1;
        }
        n
    }

    fn advance(&mut self, count: usize) {
        // `Buf` lets an implementation panic beyond the end; this one stops there.
        let mut count = count.min(self.remaining());
        while count > 0 {
            let Some(front) = self.staged.front_mut() else { return };
            let before = front.slices()[1].len();
            let taken = count.min(front.left());
            front.sent += taken;
            count -= taken;
            self.staged_bytes -= taken;
            let payload = before - front.slices()[1].len();
            let (what, answer, done) = (front.what, front.is_answer(), front.left() == 0);
            if done {
                self.staged.pop_front();
            }
            match what {
                What::Control | What::Answer | What::Echo => {
                    self.controls -= usize::from(done);
                    self.answers -= usize::from(done && answer);
                }
                What::GoAway => {
                    self.staged_frames -= usize::from(done);
                    self.said_goodbye |= done;
                }
                What::Stream(id) => {
                    self.staged_frames -= usize::from(done);
                    if let Some(waiting) = self.streams.get_mut(&id) {
                        waiting.unsent -= payload;
                        waiting.staged -= usize::from(done);
                    }
                    if done {
                        self.forget_if_done(id);
                    }
                }
            }
        }
        self.stage();
    }
}
