//! A byte stream that behaves as badly as it may: partial reads and writes, spurious `Pending`, stalls, errors
//! and ends at a chosen byte. What works over it works over TCP on a bad day.
//!
//! Everything random comes from the seed of a [`Plan`], so a failure repeats itself.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// How one direction of one end of a wire comes to its end.
#[derive(Debug, Clone, Copy)]
enum Cut {
    /// Reading: end of file. Writing: [`io::ErrorKind::BrokenPipe`].
    End,
    /// This error, again and again.
    Fail(io::ErrorKind),
}

/// How one direction behaves.
#[derive(Debug, Clone, Default)]
struct Way {
    /// Bytes per call: 1 to this many; `None`: as many as asked for.
    split: Option<usize>,
    /// Of 100 calls, this many return `Pending` for no reason (and wake at once).
    pending: u32,
    cut: Option<(u64, Cut)>,
    stall: Option<Stall>,
}

/// How one end of a wire behaves.
#[derive(Debug, Clone)]
pub struct Plan {
    seed: u64,
    read: Way,
    write: Way,
    vectored: bool,
    record: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self::smooth()
    }
}

impl Plan {
    /// As the stream below: nothing is split, nothing fails, vectored writes are offered, all bytes are recorded.
    #[must_use]
    pub fn smooth() -> Self {
        Self { seed: 0, read: Way::default(), write: Way::default(), vectored: true, record: true }
    }

    /// Splits reads and writes into 1 to `max` bytes and returns `Pending` for nothing in a quarter of the calls.
    #[must_use]
    pub fn awkward(seed: u64, max: usize) -> Self {
        Self::smooth().seed(seed).split_reads(max).split_writes(max).spurious_pending(25)
    }

    /// Where the random numbers start.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// A read returns 1 to `max` bytes.
    #[must_use]
    pub fn split_reads(mut self, max: usize) -> Self {
        self.read.split = Some(max.max(1));
        self
    }

    /// A write takes 1 to `max` bytes.
    #[must_use]
    pub fn split_writes(mut self, max: usize) -> Self {
        self.write.split = Some(max.max(1));
        self
    }

    /// Of 100 calls this many (0 to 99) return `Pending` although they could go on; the task is woken at once.
    #[must_use]
    pub fn spurious_pending(mut self, percent: u32) -> Self {
        self.read.pending = percent.min(99);
        self.write.pending = percent.min(99);
        self
    }

    /// Reading returns end of file after `n` bytes.
    #[must_use]
    pub fn read_ends_at(mut self, n: u64) -> Self {
        self.read.cut = Some((n, Cut::End));
        self
    }

    /// Reading fails after `n` bytes.
    #[must_use]
    pub fn read_fails_at(mut self, n: u64, kind: io::ErrorKind) -> Self {
        self.read.cut = Some((n, Cut::Fail(kind)));
        self
    }

    /// Writing fails with [`io::ErrorKind::BrokenPipe`] after `n` bytes, as if the peer had gone.
    #[must_use]
    pub fn write_ends_at(mut self, n: u64) -> Self {
        self.write.cut = Some((n, Cut::End));
        self
    }

    /// Writing fails after `n` bytes.
    #[must_use]
    pub fn write_fails_at(mut self, n: u64, kind: io::ErrorKind) -> Self {
        self.write.cut = Some((n, Cut::Fail(kind)));
        self
    }

    /// Reads wait while `stall` holds.
    #[must_use]
    pub fn stall_reads(mut self, stall: &Stall) -> Self {
        self.read.stall = Some(stall.clone());
        self
    }

    /// Writes, flushes and the shutdown wait while `stall` holds.
    #[must_use]
    pub fn stall_writes(mut self, stall: &Stall) -> Self {
        self.write.stall = Some(stall.clone());
        self
    }

    /// Whether the stream says that it can write several slices at once.
    #[must_use]
    pub fn vectored(mut self, yes: bool) -> Self {
        self.vectored = yes;
        self
    }

    /// Keeps no [`Transcript`], for tests that move much.
    #[must_use]
    pub fn unrecorded(mut self) -> Self {
        self.record = false;
        self
    }
}

/// Holds a direction up until it is released. Cloning gives another handle to the same stall.
#[derive(Debug, Clone, Default)]
pub struct Stall(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Stall {
    /// A stall that holds from the start.
    #[must_use]
    pub fn held() -> Self {
        let stall = Self::default();
        stall.hold();
        stall
    }

    /// A stall that lets everything through until [`hold`](Self::hold).
    #[must_use]
    pub fn open() -> Self {
        Self::default()
    }

    /// From now on nothing gets through.
    pub fn hold(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = true;
    }

    /// Everything gets through, and who waits is woken.
    pub fn release(&self) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = false;
        state.1.drain(..).for_each(Waker::wake);
    }

    /// Whether somebody has run into the stall and waits.
    #[must_use]
    pub fn has_waiter(&self) -> bool {
        !self.0.lock().unwrap_or_else(PoisonError::into_inner).1.is_empty()
    }

    fn poll_pass(&self, cx: &Context<'_>) -> Poll<()> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if !state.0 {
            return Poll::Ready(());
        }
        if !state.1.iter().any(|waker| waker.will_wake(cx.waker())) {
            state.1.push(cx.waker().clone());
        }
        Poll::Pending
    }
}

/// What went over one end of a wire. Cloning gives another handle to the same record.
#[derive(Debug, Clone, Default)]
pub struct Transcript(Arc<Mutex<Record>>);

#[derive(Debug, Default)]
struct Record {
    read: Vec<u8>,
    written: Vec<u8>,
    shut: bool,
}

impl Transcript {
    /// Every byte that was read from this end so far.
    #[must_use]
    pub fn read(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).read.clone()
    }

    /// Every byte that was written to this end so far.
    #[must_use]
    pub fn written(&self) -> Vec<u8> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).written.clone()
    }

    /// Whether this end has ended its writing in good order (`poll_shutdown` succeeded).
    #[must_use]
    pub fn was_shut_down(&self) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).shut
    }

    fn update(&self, change: impl FnOnce(&mut Record)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

/// What one direction has done so far.
#[derive(Debug)]
struct Lane {
    way: Way,
    rng: SmallRng,
    bytes: u64,
}

impl Lane {
    fn new(way: Way, seed: u64) -> Self {
        Self { way, rng: SmallRng::seed_from_u64(seed), bytes: 0 }
    }

    /// Whether the call may go on.
    fn poll_pass(&mut self, cx: &Context<'_>) -> Poll<()> {
        if let Some(stall) = &self.way.stall {
            ready!(stall.poll_pass(cx));
        }
        if self.way.pending > 0 && self.rng.random_range(0..100) < self.way.pending {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        Poll::Ready(())
    }

    /// How many of `want` bytes (at least 1) this call may move, or how the direction has ended.
    fn allowance(&mut self, want: usize) -> Result<usize, Cut> {
        let mut n = want;
        if let Some(max) = self.way.split {
            n = self.rng.random_range(1..=max.min(want).max(1));
        }
        match self.way.cut {
            Some((at, cut)) if self.bytes >= at => Err(cut),
            Some((at, _)) => Ok(n.min(usize::try_from(at - self.bytes).unwrap_or(usize::MAX))),
            None => Ok(n),
        }
    }
}

/// A stream under a [`Plan`].
#[derive(Debug)]
pub struct Awkward<T> {
    io: T,
    read: Lane,
    write: Lane,
    vectored: bool,
    record: bool,
    transcript: Transcript,
}

/// Two ends of a wire in memory that holds at most `capacity` bytes (at least 1) each way; each end behaves as
/// its plan says.
#[must_use]
pub fn awkward_pair(
    plan_a: Plan,
    plan_b: Plan,
    capacity: usize,
) -> (Awkward<DuplexStream>, Awkward<DuplexStream>) {
    let (a, b) = tokio::io::duplex(capacity.max(1));
    (Awkward::new(a, plan_a), Awkward::new(b, plan_b))
}

impl<T> Awkward<T> {
    /// Puts `io` under a plan.
    pub fn new(io: T, plan: Plan) -> Self {
        let Plan { seed, read, write, vectored, record } = plan;
        Self {
            io,
            read: Lane::new(read, seed),
            write: Lane::new(write, !seed),
            vectored,
            record,
            transcript: Transcript::default(),
        }
    }

    /// What goes over this end, to be looked at while and after others use it.
    #[must_use]
    pub fn transcript(&self) -> Transcript {
        self.transcript.clone()
    }

    /// The stream below.
    pub fn into_inner(self) -> T {
        self.io
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Awkward<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.read.poll_pass(cx));
        if buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let n = match this.read.allowance(buf.remaining()) {
            Ok(n) => n,
            Err(Cut::End) => return Poll::Ready(Ok(())),
            Err(Cut::Fail(kind)) => return Poll::Ready(Err(kind.into())),
        };
        let mut part = ReadBuf::new(buf.initialize_unfilled_to(n));
        ready!(Pin::new(&mut this.io).poll_read(cx, &mut part))?;
        let got = part.filled().len();
        if this.record {
            this.transcript.update(|record| record.read.extend_from_slice(part.filled()));
        }
        buf.advance(got);
        this.read.bytes += got as u64;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Awkward<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(buf)])
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        ready!(this.write.poll_pass(cx));
        let bufs: Vec<&[u8]> = bufs.iter().map(|buf| &**buf).filter(|buf| !buf.is_empty()).collect();
        let offered = if this.vectored { &bufs[..] } else { &bufs[..bufs.len().min(1)] };
        let want = offered.iter().map(|buf| buf.len()).sum();
        let n = match this.write.allowance(want) {
            Ok(n) => n.min(want),
            Err(Cut::End) => return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
            Err(Cut::Fail(kind)) => return Poll::Ready(Err(kind.into())),
        };
        let mut left = n;
        let mut slices = Vec::with_capacity(offered.len());
        for buf in offered {
            let part = &buf[..buf.len().min(left)];
            left -= part.len();
            slices.push(IoSlice::new(part));
        }
        let taken = ready!(Pin::new(&mut this.io).poll_write_vectored(cx, &slices))?;
        if this.record {
            this.transcript.update(|record| {
                record.written.extend(slices.iter().flat_map(|slice| slice.iter()).take(taken));
            });
        }
        this.write.bytes += taken as u64;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        self.vectored
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write.poll_pass(cx));
        Pin::new(&mut this.io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.write.poll_pass(cx));
        ready!(Pin::new(&mut this.io).poll_shutdown(cx))?;
        this.transcript.update(|record| record.shut = true);
        Poll::Ready(Ok(()))
    }
}
