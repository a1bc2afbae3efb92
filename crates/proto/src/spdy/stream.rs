//! How far each half of one stream is. A stream is forgotten when both are closed, or when either side resets it: what
//! comes for it later is for a stream that does not exist, and is ignored as Go ignores it. No tombstone is needed,
//! because numbers rise and are never used again.

/// One stream that is open in at least one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stream {
    /// This side opened it.
    pub ours: bool,
    /// SYN_REPLY has been queued (a stream of the peer's) or has come (our own).
    pub replied: bool,
    /// This side has sent FIN, or queued it.
    pub local_closed: bool,
    /// The peer has sent FIN.
    pub remote_closed: bool,
}

impl Stream {
    /// A stream that one side has just opened, with FIN or not.
    pub(super) const fn opened(ours: bool, fin: bool) -> Self {
        Self { ours, replied: false, local_closed: ours && fin, remote_closed: !ours && fin }
    }

    /// Whether nothing can come or go any more.
    pub(super) const fn is_over(self) -> bool {
        self.local_closed && self.remote_closed && self.replied
    }
}
