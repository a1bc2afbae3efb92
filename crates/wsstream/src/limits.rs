//! Every limit and deadline of a connection, with its default and the reason for it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How much one connection may hold and take, in bytes.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Limits {
    /// The longest message taken. Default 16 MiB: the Java client sends 15 MiB in one frame. A longer one ends the
    /// connection with Close 1009. Raw messages are handed on as they arrive and never sit in memory whole.
    pub max_message: u64,
    /// What may wait in all channels together for its readers. Default 256 KiB: enough that resizes, CLOSE and
    /// pings behind a stalled stdin still come in, and so little that what waits is in the core's cache when it is handed
    /// on: with four times as much, input cost up to a tenth more CPU. Beyond it the connection reads nothing more and TCP pushes
    /// back.
    pub receive_buffer: usize,
    /// What may wait in all channels together whatever other connections hold. Default [`OWN_SHARE`], where the reason stands.
    pub own_share: usize,
    /// Where the bytes above [`own_share`](Self::own_share) that wait for readers come from. Share one among the connections
    /// of a server; one that gets nothing from it reads no more until its own readers have taken what waits, or others have
    /// given something back. Default: one of its own, as large as needed, which is no ceiling for a server; the ready-made
    /// ones share one of [`SHARED_BUFFER`].
    pub shared: MemoryBudget,
    /// What may wait for the wire before a writer has to wait. Default 32 KiB: measured, more than about 64 KiB in one
    /// system call is slower; one message is always taken when less than this waits.
    pub send_buffer: usize,
    /// Where the bytes of unfinished base64 messages come from (they must be whole before any of it is delivered).
    /// Share one among the connections of a server. Default: 64 MiB of its own.
    pub partial_messages: MemoryBudget,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 16 << 20,
            receive_buffer: 256 << 10,
            own_share: OWN_SHARE,
            shared: MemoryBudget::unlimited(),
            send_buffer: 32 << 10,
            partial_messages: MemoryBudget::new(64 << 20),
        }
    }
}

/// The clocks of one connection. `None` switches one off.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Timeouts {
    /// Ping the peer when nothing came from it for this long, or, over a WebSocket, when nothing went to it: a peer whose
    /// line is full of what it sends cannot learn otherwise that this side lives. Default 30 s: middleboxes cut silent
    /// connections from 60 s on, and most clients send no pings of their own.
    pub ping_interval: Option<Duration>,
    /// Give the peer up when nothing at all came from it for this long although this side is not waiting to write.
    /// Default 90 s: three times the ping interval. While this side *is* waiting to write, a peer that does not read
    /// cannot answer a ping either; then its kernel has to be silent for this long, which
    /// [`UnsentProbe::silence`](crate::transport::UnsentProbe::silence) tells. Without a probe TCP decides.
    pub dead_peer: Option<Duration>,
    /// End the connection when no data went either way for this long; pings do not count. Exec and attach sessions that
    /// are served end with a failure status. Default 4 hours, as the kubelet's `--streaming-connection-idle-timeout`.
    pub idle: Option<Duration>,
    /// Give up when the wire took nothing of what waits for this long; each byte taken starts it afresh. Default
    /// `None`: a slow reader is never cut.
    pub write: Option<Duration>,
    /// How long to wait for the peer's Close after ours. It runs only while nothing of ours is unsent and starts
    /// afresh on progress, which is looked at when it has run out: the wait may take up to three times as long, and
    /// [`linger`](Self::linger) for a peer that gives signs of life. Default 30 s.
    pub close: Duration,
    /// How long signs of life (any byte) of a peer that has been sent everything, but has not sent its Close, keep the
    /// connection: its program may be paused with the end of the output unread, which closing the socket can cost it.
    /// Default 10 minutes.
    pub linger: Duration,
    /// While the receive buffer is full nothing is read, so no ping is answered: send an unasked pong this often, so
    /// that client-go (61 s) does not give up. Default 30 s.
    pub unsolicited_pong: Duration,
}

impl Timeouts {
    /// How often the kernel is asked about a peer that takes nothing.
    pub(crate) fn ask_kernel(&self) -> Option<Duration> {
        self.dead_peer.map(|limit| limit / 3)
    }
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ping_interval: Some(Duration::from_secs(30)),
            dead_peer: Some(Duration::from_secs(90)),
            idle: Some(Duration::from_secs(4 * 60 * 60)),
            write: None,
            close: Duration::from_secs(30),
            linger: Duration::from_secs(10 * 60),
            unsolicited_pong: Duration::from_secs(30),
        }
    }
}

/// How much one SPDY connection may hold and take, and how long it bears with streams that stand still.
///
/// SPDY as Kubernetes speaks it has no flow control, so every bound is on this side and none is agreed on with the peer.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct SpdyLimits {
    /// What the peer may make the session hold or do: streams, headers, floods.
    pub session: wsstream_proto::spdy::Limits,
    /// What may wait in all streams together for their readers, in bytes. Default 4 MiB: sixteen forwarded connections
    /// that stand still at once with [`soft_stream`](Self::soft_stream) each. Beyond it nothing more is read and TCP
    /// pushes back; one read of 32 KiB may go above. Memory stays within twice the bytes counted.
    pub receive_buffer: usize,
    /// What one stream may hold before it counts as hoarding, in bytes: when one has to be given up, it is one that
    /// holds more, if there is such a one. Default 256 KiB, which is what the peer's kernel and ours hold anyway.
    pub soft_stream: usize,
    /// What may wait in each direction whatever other connections hold. Default [`OWN_SHARE`], where the reason stands.
    pub own_share: usize,
    /// Where the bytes above [`own_share`](Self::own_share) come from, for readers as in
    /// [`Limits::shared`], and as well for the wire: where there is nothing left, writers wait from the own share on.
    pub shared: MemoryBudget,
    /// How long the buffer may be full without anything being read before a stream that is not read is given up, and
    /// only where another stream would get on by it. Default 15 s: longer than a busy disk. `None`: never.
    pub stall_grace: Option<Duration>,
    /// What may wait of one stream for the wire before its writer has to wait, in bytes. Default 128 KiB: four frames.
    pub send_stream: usize,
    /// What may wait of all streams for the wire before writers have to wait, in bytes. Default 1 MiB: eight streams
    /// that send at once. One write is always taken when less than this waits.
    pub send_total: usize,
    /// Give up when the wire took nothing for this long while at least two streams have something to send: one that
    /// is not read holds up Go's whole reader, and nothing finer can be done from here. Default 60 s. `None`: never.
    pub write_stall: Option<Duration>,
    /// Give up when the peer has begun a frame and sends nothing more for this long although it could. Default 60 s.
    /// `None`: never.
    pub partial_frame: Option<Duration>,
}

impl Default for SpdyLimits {
    fn default() -> Self {
        Self {
            session: wsstream_proto::spdy::Limits::default(),
            receive_buffer: 4 << 20,
            soft_stream: 256 << 10,
            own_share: OWN_SHARE,
            shared: MemoryBudget::unlimited(),
            stall_grace: Some(Duration::from_secs(15)),
            send_stream: 128 << 10,
            send_total: 1 << 20,
            write_stall: Some(Duration::from_secs(60)),
            partial_frame: Some(Duration::from_secs(60)),
        }
    }
}

impl SpdyLimits {
    /// The limits of a connection whose streams belong to one session, as those of a remote command do: a stream that
    /// stands still holds up nobody but itself, so nothing is ever given up for it. At most 8 streams and 1 MiB.
    #[must_use]
    pub fn one_session() -> Self {
        let mut limits =
            Self { receive_buffer: 1 << 20, stall_grace: None, write_stall: None, ..Self::default() };
        limits.session.max_streams = 8;
        limits
    }
}

/// What a connection may hold in any case, in bytes: one read of the wire, so that each goes on at the speed of its readers
/// and writers even where others have taken all that is shared, and none can be kept from finishing what it holds.
pub const OWN_SHARE: usize = 32 << 10;

/// What the connections of a server may hold in all above [`OWN_SHARE`] each, over every wire, in bytes, unless told
/// otherwise: 64 commands that read nothing of their input fill it, or 16 port-forward sessions, and who comes then gets on
/// with the own share. What waits is so at most this and 64 KiB for each connection and direction (the own share, and one
/// read or message on top), whatever the peers do; memory stays within twice the bytes counted.
pub const SHARED_BUFFER: usize = 64 << 20;

/// How often a connection that reads nothing for want of shared memory looks whether others have given some back.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// A shared budget is asked in steps of this many bytes, not for every piece that comes and goes.
const STEP: usize = 64 << 10;

/// The longest message of a WebSocket tunnel that is made of one write, in bytes: one batch of frames, and little enough
/// that a pong does not wait long behind it.
pub const MAX_TUNNEL_MESSAGE: usize = 64 << 10;

/// Empty messages that a tunnel takes in [`EMPTY_MESSAGES_WINDOW`]. spdystream sends one with each FIN, so a thousand
/// forwarded connections a second make twenty thousand; more than this are work for nothing.
pub const MAX_EMPTY_MESSAGES: u32 = 50_000;

/// In which time [`MAX_EMPTY_MESSAGES`] count.
pub const EMPTY_MESSAGES_WINDOW: Duration = Duration::from_secs(10);

/// A number of bytes that several connections share. Cloning gives another handle to the same budget.
#[derive(Debug, Clone)]
pub struct MemoryBudget(Arc<AtomicUsize>);

impl MemoryBudget {
    /// A budget of `bytes`.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(AtomicUsize::new(bytes)))
    }

    /// One that is never used up.
    fn unlimited() -> Self {
        Self::new(isize::MAX.unsigned_abs())
    }

    /// What is left, in bytes.
    #[must_use]
    pub fn available(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn grant(&self) -> Grant {
        Grant { budget: self.clone(), held: 0 }
    }
}

/// What one connection holds of a budget; gives it back when dropped.
#[derive(Debug)]
pub(crate) struct Grant {
    budget: MemoryBudget,
    held: usize,
}

impl Grant {
    /// What it holds, in bytes.
    pub(crate) fn held(&self) -> usize {
        self.held
    }

    /// Holds exactly `want` bytes from now on. False: there is not so much left, and nothing changed.
    pub(crate) fn resize(&mut self, want: usize) -> bool {
        if want == self.held {
            return true;
        }
        if want < self.held {
            self.budget.0.fetch_add(self.held - want, Ordering::Relaxed);
        } else {
            let more = want - self.held;
            let taken = self
                .budget
                .0
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more));
            if taken.is_err() {
                return false;
            }
        }
        self.held = want;
        true
    }

    /// Holds at least `bytes` from now on, in whole steps. False: there is not so much left, and nothing changed.
    pub(crate) fn cover(&mut self, bytes: usize) -> bool {
        self.resize(bytes.div_ceil(STEP) * STEP)
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_never_exceeds_its_budget_and_returns_everything() {
        let budget = MemoryBudget::new(100);
        let mut one = budget.grant();
        let mut two = budget.grant();
        assert!(one.resize(60));
        assert!(!two.resize(50));
        assert!(two.resize(40));
        assert_eq!(budget.available(), 0);
        assert!(one.resize(10));
        drop(two);
        assert_eq!(budget.available(), 90);
        drop(one);
        assert_eq!(budget.available(), 100);
    }
}
