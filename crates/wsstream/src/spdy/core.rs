//! Skeleton.
#![allow(unused, clippy::needless_pass_by_value)]
use super::*;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use futures_util::task::AtomicWaker;
use tokio::time::Instant;

pub(super) struct DriverWaker(AtomicWaker);
impl DriverWaker { pub(super) fn set(&self, w: &Waker) { self.0.register(w) } }
impl std::task::Wake for DriverWaker { fn wake(self: Arc<Self>) { self.0.wake() } }
pub(super) struct Shared { core: Mutex<Core>, pub(super) driver: Arc<DriverWaker>, pub(super) write_waker: Waker }
impl Shared {
    pub(super) fn new(core: Core) -> Self { let driver = Arc::new(DriverWaker(AtomicWaker::new())); Self { core: Mutex::new(core), write_waker: Waker::from(driver.clone()), driver } }
    pub(super) fn lock(&self) -> MutexGuard<'_, Core> { self.core.lock().unwrap_or_else(PoisonError::into_inner) }
}
pub(super) enum Step { Again, Wait, Done(End) }
pub(super) struct Opening;
impl Opening { pub(super) fn new(_: &Arc<Shared>) -> Self { Self } pub(super) fn number(&self) -> u64 { 0 } }
pub(super) struct Core;
impl Core {
    pub(super) fn new(_: Box<dyn Io>, _: Session, _: bool, _: BytesMut, _: SpdyLimits, _: Clock, _: Option<UnsentProbe>) -> Self { Self }
    pub(super) fn step(&mut self, _: &mut Context<'_>, _: &Waker) -> Step { Step::Wait }
    pub(super) fn next_deadline(&self) -> Option<(Instant, ())> { None }
    pub(super) fn handle_due(&mut self, _: (), _: Instant) {}
    pub(super) fn finish(&mut self, _: End) {}
    pub(super) fn add_handle(&mut self) {}
    pub(super) fn drop_handle(&mut self) {}
    pub(super) fn drop_reader(&mut self, _: StreamId) {}
    pub(super) fn drop_writer(&mut self, _: StreamId) {}
    pub(super) fn set_background(&mut self, _: StreamId, _: bool) {}
    pub(super) fn expect_stream(&mut self, _: bool) {}
    pub(super) fn accept_stream(&mut self, _: StreamId) {}
    pub(super) fn reject_stream(&mut self, _: StreamId, _: ResetStatus) {}
    pub(super) fn reset_stream(&mut self, _: StreamId, _: ResetStatus, _: bool) {}
    pub(super) fn finish_stream(&mut self, _: StreamId) -> Result<(), WriteError> { Ok(()) }
    pub(super) fn shutdown(&mut self, _: GoAwayStatus) {}
    pub(super) fn stats(&self) -> Stats { Stats::default() }
    pub(super) fn poll_replied(&mut self, _: StreamId, _: &mut Context<'_>) -> Poll<Result<(), ReadError>> { Poll::Pending }
    pub(super) fn poll_chunk(&mut self, _: StreamId, _: &mut Context<'_>) -> Poll<Result<Option<Bytes>, ReadError>> { Poll::Pending }
    pub(super) fn poll_send(&mut self, _: StreamId, _: impl FnOnce() -> Bytes, _: &mut Context<'_>, _: &Waker) -> Poll<Result<(), WriteError>> { Poll::Pending }
    pub(super) fn poll_flush(&mut self, _: StreamId, _: &mut Context<'_>, _: &Waker) -> Poll<Result<(), WriteError>> { Poll::Pending }
    pub(super) fn poll_accept(&mut self, _: &mut Context<'_>) -> Poll<Option<(StreamId, Headers, bool)>> { Poll::Pending }
    pub(super) fn poll_open(&mut self, _: &Headers, _: bool, _: u64, _: &mut Context<'_>, _: &Waker) -> Poll<Result<StreamId, OpenError>> { Poll::Pending }
    pub(super) fn poll_end(&mut self, _: &mut Context<'_>) -> Poll<End> { Poll::Pending }
    pub(super) fn poll_disconnect(&mut self, _: &mut Context<'_>) -> Poll<End> { Poll::Pending }
}
