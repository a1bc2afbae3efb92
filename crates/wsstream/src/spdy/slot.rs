//! What one stream is on this side of the session: its queue, its handles and who waits.

use std::task::Waker;

use tokio::time::Instant;
use wsstream_proto::spdy::ResetStatus;

use super::{ReadError, WriteError};
use crate::connection::Inbox;

/// Why a stream ended before its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    /// RST_STREAM went either way.
    Reset(ResetStatus),
    /// It was given up here, and what it held is gone.
    Evicted,
}

/// One stream that has a handle, or waits to be accepted.
#[derive(Debug)]
pub(super) struct Slot {
    /// `ended`: the peer's FIN has come. `discard`: the reader is gone. `waker`: the reader waits.
    pub(super) inbox: Inbox,
    /// The reader is alive, or yet to be made.
    pub(super) reader: bool,
    /// The writer is alive, or yet to be made.
    pub(super) writer: bool,
    /// The peer has taken a stream of ours; its own are always so.
    pub(super) replied: bool,
    /// This side has said FIN.
    pub(super) finished: bool,
    pub(super) over: Option<Over>,
    /// Waiting for it is no reason to evict another one.
    pub(super) background: bool,
    /// When its reader last took something.
    pub(super) taken: Instant,
    pub(super) reply_waker: Option<Waker>,
    pub(super) write_waker: Option<Waker>,
    /// Somebody looks at the stream without reading it.
    pub(super) watch_waker: Option<Waker>,
}

impl Slot {
    pub(super) fn new(ours: bool, finished: bool, ended: bool) -> Self {
        Self {
            inbox: Inbox::new(!ended),
            reader: true,
            writer: true,
            replied: !ours,
            finished,
            over: None,
            background: false,
            taken: Instant::now(),
            reply_waker: None,
            write_waker: None,
            watch_waker: None,
        }
    }

    /// What the reader finds when nothing is left to read; `None`: more may come.
    pub(super) fn read_end(&self) -> Option<Result<(), ReadError>> {
        match self.over {
            // What it held is gone, so the FIN behind it means nothing any more.
            Some(Over::Evicted) => Some(Err(ReadError::Evicted)),
            _ if self.inbox.ended => Some(Ok(())),
            Some(Over::Reset(status)) => Some(Err(ReadError::Reset(status))),
            None => None,
        }
    }

    /// Why the writer can send nothing, as far as the stream is to blame.
    pub(super) fn writable(&self) -> Result<(), WriteError> {
        match self.over {
            Some(Over::Evicted) => Err(WriteError::Evicted),
            Some(Over::Reset(status)) => Err(WriteError::Reset(status)),
            None if self.finished => Err(WriteError::Finished),
            None => Ok(()),
        }
    }

    /// Whether the stream would get on if more were read from the wire.
    pub(super) fn waits_for_input(&self) -> bool {
        let reading = self.inbox.waker.is_some() && self.inbox.len() == 0 && self.read_end().is_none();
        self.over.is_none() && (!self.replied || (reading && !self.background))
    }

    /// Everybody who waits looks again.
    pub(super) fn wake(&mut self) {
        let Self { inbox, reply_waker, write_waker, watch_waker, .. } = self;
        for waker in [&mut inbox.waker, reply_waker, write_waker, watch_waker] {
            if let Some(waker) = waker.take() {
                waker.wake();
            }
        }
    }
}
