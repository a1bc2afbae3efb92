//! One end of a pipe, or the controlling side of a terminal, with readiness from the runtime.
//!
//! The standard wrappers of tokio own a read buffer or need one before they wait. Here the wait comes first and the
//! buffer after it, so that a session that is idle holds none (a shell that nobody types into is the common case).

use std::{
    io::{self, IoSlice},
    os::fd::{AsFd, OwnedFd},
    time::Duration,
};

use bytes::Bytes;
use rustix::{buffer::spare_capacity, io::Errno};
use tokio::io::{Interest, unix::AsyncFd};

/// The most that one read takes: half a pipe's buffer, so that the writer goes on while we send; with the channel
/// number in front it is the message size that every known client accepts.
pub(crate) const READ_SIZE: usize = 32 * 1024;

/// Chunks smaller than this are copied into a buffer of their own size: they may wait in the queue of a slow client,
/// where a full-sized buffer behind a few bytes would defeat every bound that counts bytes.
const COPY_BELOW: usize = READ_SIZE / 4;

/// After a read of at least this many bytes there may be more.
const MORE_BEHIND: usize = 1024;

/// An open file that reports readiness. Closed when dropped.
#[derive(Debug)]
pub(crate) struct Descriptor(AsyncFd<OwnedFd>);

impl Descriptor {
    /// Takes over one end. `O_NONBLOCK` belongs to the open file description: ours is never shared with a child,
    /// which holds the other end.
    pub(crate) fn new(fd: impl Into<OwnedFd>) -> io::Result<Self> {
        let fd = fd.into();
        rustix::io::ioctl_fionbio(&fd, true)?;
        Ok(Self(register(fd, Interest::READABLE | Interest::WRITABLE)?))
    }

    /// The next bytes, at most [`READ_SIZE`]; `None` at the end. Cancel-safe: it waits only while it has none.
    pub(crate) async fn read(&self) -> io::Result<Option<Bytes>> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|fd| read_once(fd.get_ref())) {
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(result) => return result,
                Err(_would_block) => {}
            }
        }
    }

    /// Writes all of it. Not cancel-safe: how much was written is lost with the future.
    pub(crate) async fn write_all(&self, data: &[u8]) -> io::Result<()> {
        self.write_both(data, &[]).await
    }

    /// Writes all of both, in one call where the file takes it: a read from the wire seldom ends where a message does, and
    /// so mostly leaves two pieces. Not cancel-safe, as [`write_all`](Self::write_all).
    pub(crate) async fn write_both(&self, mut first: &[u8], mut then: &[u8]) -> io::Result<()> {
        while !(first.is_empty() && then.is_empty()) {
            let mut ready = self.0.writable().await?;
            let both = [IoSlice::new(first), IoSlice::new(then)];
            match ready.try_io(|fd| Ok(rustix::io::writev(fd.get_ref(), &both)?)) {
                Ok(Ok(written)) => {
                    let of_first = written.min(first.len());
                    first = first.get(of_first..).unwrap_or_default();
                    then = then.get(written - of_first..).unwrap_or_default();
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_would_block) => {}
            }
        }
        Ok(())
    }

    /// The file itself, for the calls that concern terminals.
    pub(crate) fn file(&self) -> impl AsFd + '_ {
        self.0.get_ref()
    }
}

/// Puts a file under the eyes of the runtime. Sound although deprecated: what makes the call unsound is a type whose
/// file changes or closes under the registration, and an `OwnedFd` does neither.
#[allow(deprecated)]
pub(crate) fn register(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(fd, interest)
}

/// Takes what is there, until the buffer is full: a terminal gives a few KiB at a time, which would become as many
/// messages. A read that yields little has emptied the file, and trying again would cost more than it gives.
fn read_once(fd: &OwnedFd) -> io::Result<Option<Bytes>> {
    let mut buffer = Vec::with_capacity(READ_SIZE);
    loop {
        match rustix::io::read(fd, spare_capacity(&mut buffer)) {
            Ok(read) if read >= MORE_BEHIND && buffer.len() < READ_SIZE => {}
            Ok(read) if read > 0 => break,
            // Whatever ends or interrupts the reading does so again at the next call.
            Ok(_) | Err(_) if !buffer.is_empty() => break,
            // A terminal whose other side is closed reports EIO where a pipe reports the end.
            Ok(_) | Err(Errno::IO) => return Ok(None),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(Some(if buffer.len() < COPY_BELOW { Bytes::copy_from_slice(&buffer) } else { buffer.into() }))
}

/// Sleeps, or for ever when the time is beyond what a clock can hold ("never" as a setting).
pub(crate) async fn sleep(time: Duration) {
    match tokio::time::Instant::now().checked_add(time) {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pipe_yields_its_bytes_and_then_its_end() {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) = (Descriptor::new(reader).unwrap(), Descriptor::new(writer).unwrap());
        writer.write_all(b"hello").await.unwrap();
        assert_eq!(reader.read().await.unwrap().unwrap(), "hello");
        drop(writer);
        assert_eq!(reader.read().await.unwrap(), None);
    }

    #[tokio::test]
    async fn a_full_pipe_makes_the_writer_wait_and_loses_nothing() {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) = (Descriptor::new(reader).unwrap(), Descriptor::new(writer).unwrap());
        let sent: Vec<u8> = (0..1_000_000_u32).map(|i| i.to_le_bytes()[0]).collect();
        let write = async {
            writer.write_all(&sent).await.unwrap();
            drop(writer);
        };
        let read = async {
            let mut got = Vec::new();
            while let Some(chunk) = reader.read().await.unwrap() {
                assert!(chunk.len() <= READ_SIZE);
                got.extend_from_slice(&chunk);
            }
            got
        };
        let ((), got) = tokio::join!(write, read);
        assert_eq!(got, sent);
    }

    #[tokio::test]
    async fn two_pieces_that_do_not_fit_arrive_in_order() {
        let (reader, writer) = io::pipe().unwrap();
        let (reader, writer) = (Descriptor::new(reader).unwrap(), Descriptor::new(writer).unwrap());
        // More than a pipe holds, so that it breaks within both.
        let (first, then) = (vec![1; 100_000], vec![2; 200_000]);
        let write = async {
            writer.write_both(&first, &then).await.unwrap();
            drop(writer);
        };
        let read = async {
            let mut got = Vec::new();
            while let Some(chunk) = reader.read().await.unwrap() {
                got.extend_from_slice(&chunk);
            }
            got
        };
        let ((), got) = tokio::join!(write, read);
        assert_eq!(got, [first, then].concat());
    }

    #[tokio::test]
    async fn a_write_without_a_reader_is_an_error() {
        let (reader, writer) = io::pipe().unwrap();
        let writer = Descriptor::new(writer).unwrap();
        drop(reader);
        let error = writer.write_all(b"x").await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    }
}
