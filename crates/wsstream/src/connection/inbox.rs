//! What has arrived on one channel, or on one SPDY stream, and waits for its reader.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::{Bytes, BytesMut};

use super::core::READ_SIZE;

/// Small pieces are gathered up to this size, so that a flood of one-byte messages costs no more than its bytes.
const GATHER: usize = 16 << 10;

/// The bytes of one channel between the wire and its reader.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    whole: VecDeque<Bytes>,
    /// Behind `whole`.
    tail: BytesMut,
    len: usize,
    /// The peer has said that no more comes, or this side does not read the channel at all.
    pub(crate) ended: bool,
    /// Nobody will read this: its reader was dropped, or never taken and the handle is gone.
    pub(crate) discard: bool,
    pub(crate) taken: bool,
    pub(crate) waker: Option<Waker>,
    /// Bytes that arrived, read or not.
    pub(crate) received: u64,
    /// Messages without payload that arrived.
    pub(crate) empty_messages: u64,
}

impl Inbox {
    /// The inbox of a channel that is read here, or of one that is at its end from the start.
    pub(crate) fn new(reads: bool) -> Self {
        Self { ended: !reads, ..Self::default() }
    }

    pub(crate) fn push(&mut self, data: BytesMut) {
        self.len += data.len();
        // A view pins its whole read buffer: worth it only when it fills at least half of one, so that memory stays
        // within twice the bytes counted.
        if data.len() * 2 >= READ_SIZE {
            self.seal();
            self.whole.push_back(data.freeze());
            return;
        }
        if self.tail.len() + data.len() > GATHER {
            self.seal();
        }
        self.tail.extend_from_slice(&data);
    }

    fn seal(&mut self) {
        if !self.tail.is_empty() {
            self.whole.push_back(std::mem::take(&mut self.tail).freeze());
        }
    }

    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let data = self
            .whole
            .pop_front()
            .or_else(|| (!self.tail.is_empty()).then(|| std::mem::take(&mut self.tail).freeze()))?;
        self.len -= data.len();
        Some(data)
    }

    /// The beginning of what waits, which goes on waiting; at most `limit` bytes.
    #[cfg(feature = "client")]
    pub(crate) fn peek(&self, limit: usize) -> Vec<u8> {
        let pieces = self.whole.iter().map(|piece| &piece[..]).chain([&self.tail[..]]);
        pieces.flatten().copied().take(limit).collect()
    }

    /// How many bytes wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Gives up what waits; returns how many bytes that were.
    pub(crate) fn clear(&mut self) -> usize {
        self.whole.clear();
        self.tail = BytesMut::new();
        std::mem::take(&mut self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_pieces_are_kept_and_small_ones_gathered_in_order() {
        let mut inbox = Inbox::default();
        let large = BytesMut::from(&vec![b'L'; READ_SIZE][..]);
        let at = large.as_ptr();
        inbox.push(BytesMut::from(&b"a"[..]));
        inbox.push(BytesMut::from(&b"b"[..]));
        inbox.push(large);
        inbox.push(BytesMut::from(&b"c"[..]));
        assert_eq!(inbox.len, READ_SIZE + 3);
        #[cfg(feature = "client")]
        assert_eq!((inbox.peek(4), inbox.peek(usize::MAX).len()), (b"abLL".to_vec(), READ_SIZE + 3));
        assert_eq!(inbox.pop().unwrap(), "ab");
        assert_eq!(inbox.pop().unwrap().as_ptr(), at, "not copied");
        assert_eq!(inbox.pop().unwrap(), "c");
        assert_eq!(inbox.pop(), None);
        assert_eq!(inbox.len, 0);
    }

    #[test]
    fn a_flood_of_single_bytes_is_gathered() {
        let mut inbox = Inbox::default();
        for _ in 0..GATHER * 3 {
            inbox.push(BytesMut::from(&b"x"[..]));
        }
        assert_eq!(inbox.whole.len(), 2);
        assert_eq!(inbox.clear(), GATHER * 3);
    }
}
