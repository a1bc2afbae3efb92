//! What waits for the wire, and in which order it goes.

use bytes::Buf;

/// Frames on their way out. It is a [`Buf`]: write what [`chunks_vectored`](Buf::chunks_vectored) shows and
/// [`advance`](Buf::advance) by what was taken.
#[derive(Debug, Default)]
pub struct SendQueue {}

impl Buf for SendQueue {
    fn remaining(&self) -> usize {
        0
    }

    fn chunk(&self) -> &[u8] {
        &[]
    }

    fn advance(&mut self, _: usize) {}
}
