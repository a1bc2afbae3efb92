//! Every bound of a session, with its reason.
//!
//! Upstream had none until spdystream 0.5.1 (CVE-2026-35469: counts and lengths of the peer were allocated
//! unchecked). These are far above what Kubernetes uses and far below what hurts.

use std::time::Duration;

/// How often the driver calls [`Session::reset_rates`](super::Session::reset_rates): the limits whose names begin
/// with `max_rate` count within this time. There is no clock here; a driver that never calls it gets limits for the
/// life of the session.
pub const RATE_WINDOW: Duration = Duration::from_secs(10);

/// The most payload in one DATA frame that is sent. spdystream keeps up to 250 frames of a connection in memory, and
/// its own writers send 32 KiB at most; longer frames were measured and are not faster.
pub const MAX_DATA_SENT: usize = 32 * 1024;

/// What a peer may make this side hold or do.
///
/// ```
/// use wsstream_proto::spdy::Limits;
///
/// let mut limits = Limits::default();
/// limits.max_streams = 8;
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Streams that the peer may have open at a time, those included that are closed but not flushed. More are
    /// refused with REFUSED_STREAM, and nothing else ends. Default 2048: a thousand forwarded connections. An exec
    /// session needs 8; a client, to whom nobody opens streams, needs 0.
    pub max_streams: usize,
    /// The longest SYN_STREAM, SYN_REPLY or HEADERS frame in bytes, as announced. Default 64 KiB: spdystream's own
    /// are under 100 bytes, and a block cannot be skipped because the compression goes on behind it.
    pub max_control_frame: u32,
    /// The longest header block in bytes after inflation; at most 32 KiB, larger values mean that. Default 16 KiB:
    /// ten kilobytes of input can inflate to ten megabytes.
    pub max_header_block: usize,
    /// Headers in one block. Default 64; Kubernetes sends three.
    pub max_headers: usize,
    /// The longest name in bytes. Default 128.
    pub max_header_name: usize,
    /// The longest value in bytes. Default 8 KiB.
    pub max_header_value: usize,
    /// Entries in one SETTINGS frame. Default 64; they are skipped, not kept.
    pub max_settings: u32,
    /// Control frames that the peer has caused (echoes, replies and resets of its streams) that may wait for the wire
    /// before [`handle_input`](super::Session::handle_input) stops. Default 1024: whoever asks for answers has to take
    /// them. Frames of this side's own making do not count, so two honest peers cannot wait for each other.
    pub max_control_queue: usize,
    /// PINGs of the peer in [`RATE_WINDOW`] of which each gets an echo; from then on only the newest unsent one does.
    /// Default 100. kubectl sends two.
    pub echoed_pings: u32,
    /// PINGs of the peer in [`RATE_WINDOW`], above which the session ends. Default 10,000.
    pub max_rate_pings: u32,
    /// Streams that the peer opens and resets before this side has finished them, in [`RATE_WINDOW`]. Default 10,000: a
    /// forwarded connection that a local client breaks off is two of them, and five hundred of those a second are a load
    /// test or a browser in a bad mood. Honest opens are not limited at all.
    pub max_rate_resets: u32,
    /// Frames without any use (empty DATA without FIN, SETTINGS, WINDOW_UPDATE, HEADERS, NOOP, unknown types, refused
    /// SYN_STREAMs, answers to nothing), in [`RATE_WINDOW`]. Default 10,000. The tunnel counts its empty messages itself.
    pub max_rate_useless: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_streams: 2048,
            max_control_frame: 64 * 1024,
            max_header_block: 16 * 1024,
            max_headers: 64,
            max_header_name: 128,
            max_header_value: 8 * 1024,
            max_settings: 64,
            max_control_queue: 1024,
            echoed_pings: 100,
            max_rate_pings: 10_000,
            max_rate_resets: 10_000,
            max_rate_useless: 10_000,
        }
    }
}

impl Limits {
    /// The longest header block, never above the window of the compression: one block always fits into it.
    pub(super) fn header_block(&self) -> usize {
        self.max_header_block.min(super::inflate::WINDOW)
    }
}
