//! The parts of the queue: frames that are cut, and what waits to be.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use super::super::frame::Encoded;
use super::super::limits::MAX_DATA_SENT;
use super::super::{ResetStatus, StreamId};

/// A frame in its place on the way to the wire.
#[derive(Debug)]
pub(super) struct Staged {
    pub(super) head: Encoded,
    pub(super) payload: Bytes,
    /// How much the wire has taken.
    pub(super) sent: usize,
    pub(super) what: What,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Control,
    /// A control frame that the peer has caused.
    Answer,
    /// A PING that answers one of the peer's.
    Echo,
    /// DATA, or RST_STREAM behind it.
    Stream(StreamId),
    GoAway,
}

impl Staged {
    pub(super) fn new(head: Encoded, payload: Bytes, what: What) -> Self {
        Self { head, payload, sent: 0, what }
    }

    pub(super) fn left(&self) -> usize {
        self.head.as_slice().len() + self.payload.len() - self.sent
    }

    /// What is left of the head and of the payload.
    pub(super) fn slices(&self) -> [&[u8]; 2] {
        let head = self.head.as_slice();
        let payload = self.payload.get(self.sent.saturating_sub(head.len())..);
        [head.get(self.sent..).unwrap_or_default(), payload.unwrap_or_default()]
    }

    /// Whether it goes before data.
    pub(super) const fn is_control(&self) -> bool {
        matches!(self.what, What::Control | What::Answer | What::Echo)
    }

    pub(super) const fn is_answer(&self) -> bool {
        matches!(self.what, What::Answer | What::Echo)
    }
}

/// Bytes of a stream that are not cut into frames yet.
#[derive(Debug)]
pub(super) enum Piece {
    Whole(Bytes),
    Gathered(BytesMut),
}

impl Piece {
    pub(super) fn split(&mut self) -> Bytes {
        match self {
            Self::Whole(bytes) => bytes.split_to(bytes.len().min(MAX_DATA_SENT)),
            Self::Gathered(bytes) => bytes.split().freeze(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Whole(bytes) => bytes.is_empty(),
            Self::Gathered(bytes) => bytes.is_empty(),
        }
    }
}

/// What stands behind the data of a stream.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum End {
    Fin,
    Reset(ResetStatus),
    /// The reset came before the FIN had left. Both go: what was finished must not look cut off.
    FinThenReset(ResetStatus),
}

/// One stream that has something to send.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) pieces: VecDeque<Piece>,
    pub(super) end: Option<End>,
    /// Payload that the wire has not taken, staged or not.
    pub(super) unsent: usize,
    /// Frames of it that are staged.
    pub(super) staged: usize,
    /// Nothing goes before SYN_REPLY.
    pub(super) held: bool,
    /// It stands in `turns`.
    pub(super) in_turn: bool,
    /// The session has forgotten the stream.
    pub(super) orphan: bool,
}

impl Waiting {
    pub(super) fn has_more(&self) -> bool {
        !self.pieces.is_empty() || self.end.is_some()
    }
}
