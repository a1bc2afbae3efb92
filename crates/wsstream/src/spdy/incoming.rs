//! A stream that the peer has opened and nobody has answered.

use std::fmt;

use wsstream_proto::spdy::{Headers, ResetStatus, StreamId};

use super::Handle;
use super::stream::Stream;

/// A stream that the peer has opened: [accept](Self::accept) or [reject](Self::reject) it. Dropped, it is rejected with
/// CANCEL, as Go rejects.
///
/// What the peer sends meanwhile is kept for the reader, inside the connection's budget.
#[must_use = "a stream that is not accepted is rejected"]
pub struct Incoming {
    handle: Handle,
    id: StreamId,
    headers: Headers,
    fin: bool,
    answered: bool,
}

impl Incoming {
    pub(super) fn new(handle: Handle, id: StreamId, headers: Headers, fin: bool) -> Self {
        Self { handle, id, headers, fin, answered: false }
    }

    /// The number of the stream.
    #[must_use]
    pub fn id(&self) -> StreamId {
        self.id
    }

    /// The headers, such as `streamtype`.
    #[must_use]
    pub fn headers(&self) -> &Headers {
        &self.headers
    }

    /// The peer sends nothing on it.
    #[must_use]
    pub fn fin(&self) -> bool {
        self.fin
    }

    /// Takes the stream: SYN_REPLY. Where the peer has reset it meanwhile, the reader and the writer say so.
    #[must_use]
    pub fn accept(mut self) -> Stream {
        self.answered = true;
        self.handle.shared.lock().accept_stream(self.id);
        Stream::new(self.handle.clone(), self.id)
    }

    /// Refuses the stream: RST_STREAM. What the peer sends on it is discarded.
    pub fn reject(mut self, status: ResetStatus) {
        self.answered = true;
        self.handle.shared.lock().reject_stream(self.id, status);
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if !self.answered {
            self.handle.shared.lock().reject_stream(self.id, ResetStatus::CANCEL);
        }
    }
}

impl fmt::Debug for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Incoming")
            .field("id", &self.id)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
