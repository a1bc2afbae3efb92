//! Pieces that have come together go on together.
//!
//! A read takes the end of one message and the beginning of the next. Handed on one by one, they would be two writes for
//! one read.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::pin::Pin;

use bytes::Bytes;
use tokio::io::{AsyncWrite, AsyncWriteExt as _};

use crate::connection::MAX_WRITE;

/// More than this is in one write only if its last piece has it: what is held here counts for no queue any more. Half a
/// read: two that are nearly whole are more than a pipe has room for, and would go in two writes with a wait between.
const ENOUGH: usize = MAX_WRITE / 2;

/// Many small pieces are a queue that was slow to be read: they are gathered there already.
const MOST: usize = 8;

/// What a reader had at once: one piece, mostly.
#[derive(Debug)]
pub(crate) struct Pieces {
    first: Bytes,
    more: Vec<Bytes>,
    len: usize,
}

impl Pieces {
    /// `first`, and what `next` has without waiting.
    pub(crate) fn gather(first: Bytes, mut next: impl FnMut() -> Option<Bytes>) -> Self {
        let mut pieces = Self { len: first.len(), first, more: Vec::new() };
        while pieces.len < ENOUGH && pieces.more.len() + 1 < MOST {
            let Some(piece) = next() else { break };
            pieces.len += piece.len();
            pieces.more.push(piece);
        }
        pieces
    }

    /// Bytes in all of them.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Writes all of them, and flushes. Not cancel-safe: how much was written is lost with the future.
    pub(crate) async fn write_to(&self, to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
        if self.more.is_empty() || !to.is_write_vectored() {
            to.write_all(&self.first).await?;
            for piece in &self.more {
                to.write_all(piece).await?;
            }
            return to.flush().await;
        }
        let mut slices: Vec<_> =
            std::iter::once(&self.first).chain(&self.more).map(|b| IoSlice::new(b)).collect();
        let mut left = &mut slices[..];
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            match poll_fn(|cx| Pin::new(&mut *to).poll_write_vectored(cx, left)).await? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                n => IoSlice::advance_slices(&mut left, n),
            }
        }
        to.flush().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll};

    fn piece(byte: u8, len: usize) -> Bytes {
        vec![byte; len].into()
    }

    fn gathered(pieces: &[usize]) -> (Pieces, usize) {
        let mut rest = pieces.iter().skip(1).map(|len| piece(b'x', *len));
        let gathered = Pieces::gather(piece(b'x', pieces[0]), || rest.next());
        (gathered, rest.count())
    }

    #[test]
    fn enough_is_taken_and_no_more() {
        assert_eq!(gathered(&[ENOUGH, 1]).1, 1, "full already");
        let (pieces, left) = gathered(&[1, ENOUGH - 2, MAX_WRITE, 1]);
        assert_eq!((pieces.len(), left), (ENOUGH + MAX_WRITE - 1, 1));
        assert_eq!(gathered(&[1; MOST + 3]).1, 3);
    }

    /// Takes so many bytes at a time, several pieces at once or one, and remembers each write.
    struct Narrow {
        most: usize,
        vectored: bool,
        writes: Vec<Vec<u8>>,
    }

    impl AsyncWrite for Narrow {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
            let n = data.len().min(self.most);
            self.writes.push(data[..n].to_vec());
            Poll::Ready(Ok(n))
        }

        fn poll_write_vectored(
            self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            data: &[IoSlice<'_>],
        ) -> Poll<io::Result<usize>> {
            let all: Vec<u8> = data.iter().flat_map(|slice| slice.iter().copied()).collect();
            self.poll_write(cx, &all)
        }

        fn is_write_vectored(&self) -> bool {
            self.vectored
        }

        fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    async fn writes(most: usize, vectored: bool) -> Vec<Vec<u8>> {
        let mut rest = [piece(b'b', 9), piece(b'c', 1)].into_iter();
        let mut to = Narrow { most, vectored, writes: Vec::new() };
        Pieces::gather(piece(b'a', 3), || rest.next()).write_to(&mut to).await.unwrap();
        to.writes
    }

    #[tokio::test]
    async fn all_is_written_in_order_and_at_once_where_that_goes() {
        let whole = b"aaabbbbbbbbbc".to_vec();
        assert_eq!(writes(usize::MAX, true).await, std::slice::from_ref(&whole));
        assert_eq!(writes(5, true).await.concat(), whole);
        assert_eq!(writes(5, true).await.len(), 3);
        assert_eq!(writes(usize::MAX, false).await, [b"aaa".to_vec(), b"bbbbbbbbb".to_vec(), b"c".to_vec()]);
    }
}
