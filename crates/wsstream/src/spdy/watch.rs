//! Looks at a stream without reading it.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use wsstream_proto::spdy::StreamId;

use super::core::Shared;

/// Tells what has arrived of a stream and whether that is all, whoever reads it. It keeps neither the stream nor the
/// connection open.
pub struct Watch {
    shared: Arc<Shared>,
    id: StreamId,
}

impl Watch {
    pub(super) fn new(shared: Arc<Shared>, id: StreamId) -> Self {
        Self { shared, id }
    }

    /// Whether the peer has ended the stream, by FIN or by a reset: what arrived, read or not, is all that it sent.
    /// `Some(false)`: not yet, or the connection is over and it never will. `None`: the reader was dropped.
    #[must_use]
    pub fn ended(&self) -> Option<bool> {
        self.shared.lock().watched(self.id).map(|(_, ended)| ended)
    }

    /// Payload bytes that have arrived, read or not. `None`: the reader was dropped.
    #[must_use]
    pub fn received(&self) -> Option<u64> {
        self.shared.lock().watched(self.id).map(|(received, _)| received)
    }

    /// Whether the peer has ended the stream by FIN. `None`: the reader was dropped.
    #[must_use]
    pub fn finished(&self) -> Option<bool> {
        self.shared.lock().finished(self.id)
    }

    /// Whether the stream was reset, or given up by this side.
    #[must_use]
    pub fn is_reset(&self) -> bool {
        self.shared.lock().is_reset(self.id)
    }

    /// Waits until the stream is reset, or given up by this side; not for the end of the connection, and for ever where
    /// none of it happens. One task can wait at a time. Cancel-safe.
    pub async fn reset(&self) {
        poll_fn(|cx| self.shared.lock().poll_reset(self.id, cx)).await;
    }

    /// Waits until the stream has ended, its reader was dropped, or the connection is over. Cancel-safe.
    pub async fn wait(&self) {
        poll_fn(|cx| self.shared.lock().poll_watch(self.id, cx)).await;
    }
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Watch").field("id", &self.id).finish_non_exhaustive()
    }
}
