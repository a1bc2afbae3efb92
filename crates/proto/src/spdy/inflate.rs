//! Reads the compressed form of header blocks.

/// The window of the compression in bytes: the largest that zlib has.
pub(super) const WINDOW: usize = 32 * 1024;

/// Why a header block cannot be inflated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InflateError {
    /// The first block does not begin with a zlib header (RFC 1950 section 2.2).
    #[error("it does not begin with a zlib header")]
    ZlibHeader,
    /// The stream asks for another dictionary than SPDY/3's.
    #[error("it wants the dictionary {0:08x}")]
    Dictionary(u32),
    /// It is no deflate data (RFC 1951).
    #[error("it is no deflate data")]
    Corrupt,
    /// The compressed stream says that it ends, and it has to last as long as the session.
    #[error("the compressed stream ends")]
    Ended,
    /// It inflates to more bytes than [`Limits::max_header_block`](super::Limits::max_header_block).
    #[error("it inflates to more than {limit} bytes")]
    TooLong {
        /// The limit in bytes.
        limit: usize,
    },
}
