//! A wire in memory under a plan: what the proxy does to TCP, at the speed of memory and, with a paused clock, without
//! waiting.
//!
//! It is as harsh as TCP may be: an end that is dropped with bytes unread resets the connection, and what the peer had
//! not read then is gone; a direction in which bytes wait for ever fails after [`GIVE_UP`], as the kernel's
//! retransmissions do.

use std::future::Future as _;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};
use wsstream::transport::UnsentProbe;

use super::lane::Lane;
use super::plan::{Fault, Plan, Way};

/// When the sender's kernel gives up a peer that acknowledges nothing: about 15 minutes with Linux's defaults.
pub const GIVE_UP: Duration = Duration::from_secs(924);

/// What holds a direction up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hold {
    Until(Instant),
    /// For ever; bytes have been waiting since.
    Ever(Option<Instant>),
}

/// One direction.
#[derive(Debug)]
struct Duct {
    lane: Lane,
    /// Written, and not let through yet.
    waiting: BytesMut,
    /// Let through, and not read yet.
    ready: BytesMut,
    hold: Option<Hold>,
    /// When the next piece may pass, where the pace says so.
    next: Option<Instant>,
    /// The writer has ended its stream.
    shut: bool,
    /// The writer was dropped with unread bytes: the reset follows what waits.
    reset_follows: bool,
    /// The reader was dropped: whatever reaches its place is answered by a reset.
    deserted: bool,
    /// The reader sees the end.
    ended: bool,
    /// What is written goes nowhere: half-closed by the wire.
    void: bool,
    /// The reader gets this.
    broken: Option<io::ErrorKind>,
    /// The writer gets this.
    refused: Option<io::ErrorKind>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Duct {
    fn new(lane: Lane) -> Self {
        Self {
            lane,
            waiting: BytesMut::new(),
            ready: BytesMut::new(),
            hold: None,
            next: None,
            shut: false,
            reset_follows: false,
            deserted: false,
            ended: false,
            void: false,
            broken: None,
            refused: None,
            reader: None,
            writer: None,
        }
    }

    fn wake(&mut self) {
        self.reader.take().into_iter().chain(self.writer.take()).for_each(Waker::wake);
    }

    fn length(&self) -> usize {
        self.waiting.len() + self.ready.len()
    }

    /// Fails this direction for both its ends.
    fn fail(&mut self, kind: io::ErrorKind) {
        self.waiting.clear();
        self.ready.clear();
        self.broken.get_or_insert(kind);
        self.refused.get_or_insert(kind);
        self.wake();
    }

    /// When something is due by the clock.
    fn deadline(&self) -> Option<Instant> {
        match self.hold {
            Some(Hold::Until(at)) => Some(at),
            Some(Hold::Ever(since)) => since.map(|since| since + GIVE_UP),
            // Nothing comes of the clock when nothing waits.
            None => self.next.filter(|_| !self.waiting.is_empty()),
        }
    }
}

#[derive(Debug)]
struct Shared {
    ducts: [Duct; 2],
    capacity: usize,
}

impl Shared {
    /// Lets through what may pass in direction `way` by now, and sees to it that somebody waits for the clock.
    fn pump(&mut self, way: usize, now: Instant) {
        self.advance(way, now);
        if self.ducts[way].deadline().is_some() {
            // It has waited without a timer until now.
            self.ducts[way].reader.take().into_iter().for_each(Waker::wake);
        }
        if matches!(self.ducts[way].hold, Some(Hold::Ever(Some(_)))) {
            // What is given up then fails for both ends, and the one that waits here may be gone.
            self.ducts[1 - way].reader.take().into_iter().for_each(Waker::wake);
        }
    }

    fn advance(&mut self, way: usize, now: Instant) {
        loop {
            let duct = &mut self.ducts[way];
            match duct.hold {
                Some(Hold::Until(at)) if now >= at => duct.hold = None,
                Some(Hold::Until(_)) => return,
                Some(Hold::Ever(since)) => {
                    let busy = !duct.waiting.is_empty() || duct.shut;
                    let since = if busy { since.or(Some(now)) } else { None };
                    duct.hold = Some(Hold::Ever(since));
                    if since.is_some_and(|since| now >= since + GIVE_UP) {
                        self.ducts.iter_mut().for_each(|duct| duct.fail(io::ErrorKind::TimedOut));
                    }
                    return;
                }
                None => {}
            }
            if duct.next.is_some_and(|next| now < next) {
                return;
            }
            let limit = match (duct.lane.pace.delay, duct.lane.pace.rate) {
                (None, None) => duct.waiting.len(),
                // In steps of a twentieth of a second, which is fine enough.
                (_, Some(rate)) => duct.waiting.len().min((rate / 20).max(1) as usize),
                (Some(_), None) => duct.lane.piece(duct.waiting.len()),
            };
            let (used, fault) = duct.lane.process(&duct.waiting[..limit], &mut duct.ready);
            duct.waiting.advance(used);
            if used > 0 && duct.deserted {
                self.ducts.iter_mut().for_each(|duct| duct.fail(io::ErrorKind::ConnectionReset));
                return;
            }
            if used > 0 {
                let pause = match (duct.lane.pace.delay, duct.lane.pace.rate) {
                    (None, None) => None,
                    (delay, rate) => Some(
                        delay.unwrap_or_default()
                            + rate.map_or(Duration::ZERO, |_| Duration::from_millis(50)),
                    ),
                };
                duct.next = pause.map(|pause| now + pause);
                duct.wake();
            }
            match fault {
                Some(fault) => self.fault(way, fault, now),
                None if used > 0 && !duct.waiting.is_empty() => {}
                None => {
                    if duct.waiting.is_empty() && duct.shut && !duct.ended {
                        duct.ended = true;
                        if duct.reset_follows {
                            duct.ready.clear();
                            duct.broken = Some(io::ErrorKind::ConnectionReset);
                        }
                        duct.wake();
                    }
                    return;
                }
            }
        }
    }

    fn fault(&mut self, way: usize, fault: Fault, now: Instant) {
        match fault {
            Fault::Fin => {
                for duct in &mut self.ducts {
                    duct.waiting.clear();
                    duct.ended = true;
                    duct.refused.get_or_insert(io::ErrorKind::BrokenPipe);
                    duct.wake();
                }
            }
            Fault::Reset => {
                self.ducts.iter_mut().for_each(|duct| duct.fail(io::ErrorKind::ConnectionReset));
            }
            Fault::HalfClose => {
                let duct = &mut self.ducts[way];
                duct.waiting.clear();
                duct.ended = true;
                duct.void = true;
                duct.wake();
            }
            Fault::Stall(Some(time)) => self.ducts[way].hold = Some(Hold::Until(now + time)),
            Fault::Stall(None) => self.ducts[way].hold = Some(Hold::Ever(None)),
            Fault::Vanish => {
                for duct in &mut self.ducts {
                    duct.hold = Some(Hold::Ever((!duct.waiting.is_empty()).then_some(now)));
                    duct.wake();
                }
            }
            // The lane does it.
            Fault::Flip(_) => {}
        }
    }
}

/// One end of the wire.
#[derive(Debug)]
pub struct End {
    shared: Arc<Mutex<Shared>>,
    /// The direction that this end writes.
    way: usize,
    /// What wakes the reader and the writer of this end when the clock makes something pass.
    timers: [Option<Pin<Box<Sleep>>>; 2],
    aborts: bool,
}

/// What has happened on a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Record {
    /// Bytes that passed: up, down.
    pub passed: [u64; 2],
    /// Faults that happened.
    pub fired: u32,
}

/// A wire of `capacity` bytes each way: the client's end and the server's.
#[must_use]
pub fn link(plan: &Plan, capacity: usize) -> (End, End) {
    let ducts = Way::BOTH.map(|way| Duct::new(Lane::new(plan, way)));
    let mut shared = Shared { ducts, capacity: capacity.max(1) };
    // A fault may stand before the first byte.
    shared.pump(0, Instant::now());
    shared.pump(1, Instant::now());
    let shared = Arc::new(Mutex::new(shared));
    let end = |way| End { shared: Arc::clone(&shared), way, timers: [None, None], aborts: false };
    (end(0), end(1))
}

impl End {
    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A handle that tells afterwards what happened; it does not count as an end.
    #[must_use]
    pub fn recorder(&self) -> Recorder {
        Recorder { shared: Arc::clone(&self.shared) }
    }

    /// Dropped without having ended its direction, it resets the wire.
    #[must_use]
    pub fn aborting(mut self) -> Self {
        self.aborts = true;
        self
    }

    /// Waits for whatever the clock will do to either direction.
    fn poll_clock(&mut self, timer: usize, cx: &mut Context<'_>) -> Poll<()> {
        let due = {
            let shared = self.lock();
            shared.ducts.iter().filter_map(Duct::deadline).min()
        };
        let Some(due) = due else { return Poll::Pending };
        let sleep = self.timers[timer].get_or_insert_with(|| Box::pin(tokio::time::sleep_until(due)));
        if sleep.deadline() != due {
            sleep.as_mut().reset(due);
        }
        sleep.as_mut().poll(cx)
    }

    fn pump(&self) -> MutexGuard<'_, Shared> {
        let now = Instant::now();
        let mut shared = self.lock();
        for way in 0..2 {
            if shared.ducts[way].deadline().is_some_and(|at| now >= at) {
                shared.pump(way, now);
            }
        }
        shared
    }
}

/// Tells what happened on a wire. While it lives the wire's memory does.
#[derive(Debug)]
pub struct Recorder {
    shared: Arc<Mutex<Shared>>,
}

impl Recorder {
    /// What has happened so far.
    #[must_use]
    pub fn record(&self) -> Record {
        let shared = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        Record {
            passed: [shared.ducts[0].lane.passed(), shared.ducts[1].lane.passed()],
            fired: shared.ducts.iter().map(|duct| duct.lane.fired()).sum(),
        }
    }

    /// What of the server's bytes the client has not read, as `SIOCOUTQ` would tell for TCP. It does not keep the wire.
    #[must_use]
    pub fn unsent(&self) -> UnsentProbe {
        self.probe(1)
    }

    /// What of the client's bytes the server has not read.
    #[must_use]
    pub fn unsent_by_client(&self) -> UnsentProbe {
        self.probe(0)
    }

    fn probe(&self, way: usize) -> UnsentProbe {
        let shared = Arc::downgrade(&self.shared);
        UnsentProbe::new(move || {
            let shared = shared.upgrade()?;
            let shared = shared.lock().unwrap_or_else(PoisonError::into_inner);
            Some(shared.ducts[way].length())
        })
    }

    /// How many ends still live.
    #[must_use]
    pub fn ends(&self) -> usize {
        Arc::strong_count(&self.shared) - 1
    }
}

impl AsyncRead for End {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut shared = this.pump();
            let duct = &mut shared.ducts[1 - this.way];
            if let Some(kind) = duct.broken {
                return Poll::Ready(Err(kind.into()));
            }
            if !duct.ready.is_empty() {
                let offered = buf.remaining().min(duct.ready.len());
                let n = if duct.lane.pace.delay.is_none() { duct.lane.piece(offered) } else { offered };
                buf.put_slice(&duct.ready[..n]);
                duct.ready.advance(n);
                duct.writer.take().into_iter().for_each(Waker::wake);
                return Poll::Ready(Ok(()));
            }
            if duct.ended {
                return Poll::Ready(Ok(()));
            }
            duct.reader = Some(cx.waker().clone());
            drop(shared);
            if this.poll_clock(0, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl AsyncWrite for End {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        loop {
            let mut shared = this.pump();
            let capacity = shared.capacity;
            let duct = &mut shared.ducts[this.way];
            if let Some(kind) = duct.refused {
                return Poll::Ready(Err(kind.into()));
            }
            if duct.shut {
                return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
            }
            if duct.void {
                return Poll::Ready(Ok(data.len()));
            }
            let room = capacity.saturating_sub(duct.length());
            if room > 0 || data.is_empty() {
                let n = room.min(data.len());
                duct.waiting.extend_from_slice(&data[..n]);
                shared.pump(this.way, Instant::now());
                return Poll::Ready(Ok(n));
            }
            duct.writer = Some(cx.waker().clone());
            drop(shared);
            if this.poll_clock(1, cx).is_pending() {
                return Poll::Pending;
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // As a socket: what is written is the kernel's.
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut shared = self.pump();
        shared.ducts[self.way].shut = true;
        shared.pump(self.way, Instant::now());
        Poll::Ready(Ok(()))
    }
}

impl Drop for End {
    fn drop(&mut self) {
        let mut shared = self.lock();
        let (ours, theirs) = (self.way, 1 - self.way);
        let inbound = &mut shared.ducts[theirs];
        let unread = inbound.length() > 0 && inbound.broken.is_none();
        inbound.ready.clear();
        inbound.deserted = true;
        if inbound.hold.is_none() {
            // Whoever writes to a closed socket is reset.
            inbound.waiting.clear();
            inbound.refused.get_or_insert(io::ErrorKind::ConnectionReset);
        }
        inbound.wake();
        let outbound = &mut shared.ducts[ours];
        outbound.reset_follows = unread || self.aborts && !outbound.shut;
        outbound.shut = true;
        shared.pump(ours, Instant::now());
    }
}
