//! What may be sent when.

use bytes::Bytes;

use super::super::frame;
use super::super::send_queue::End;
use super::super::stream::Stream;
use super::super::{GoAwayStatus, Headers, ResetStatus, SendError, StreamId};
use super::Session;

/// PINGs without an answer of which the numbers are kept. Go answers late while a stream of its stands still, so
/// older ones may be answered yet; they mean nothing by then.
const KEPT_PINGS: usize = 16;

impl Session {
    /// Opens a stream. `fin` says that this side sends nothing on it. Its data may be given at once: it is held back
    /// until the peer's reply, because Go drops what comes before it has replied.
    ///
    /// # Errors
    ///
    /// [`SendError::GoingAway`], [`SendError::NoNumbersLeft`], [`SendError::Headers`].
    pub fn open(&mut self, headers: &Headers, fin: bool) -> Result<StreamId, SendError> {
        if self.closing || self.peer_went_away {
            return Err(SendError::GoingAway);
        }
        let id = StreamId::new(self.next_stream).ok_or(SendError::NoNumbersLeft)?;
        let block = self.block_of(headers)?;
        self.next_stream += 2;
        self.add(id, Stream::opened(true, fin));
        self.queue.control(frame::syn_stream(id, len(&block), fin), block, false);
        Ok(id)
    }

    /// Takes a stream that the peer opened. `fin` says that this side sends nothing on it. Data given before is held
    /// back until now.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`], [`SendError::NoReplyDue`], [`SendError::GoingAway`], [`SendError::Headers`].
    pub fn reply(&mut self, id: StreamId, headers: &Headers, fin: bool) -> Result<(), SendError> {
        self.check(id)?;
        let stream = self.streams.get(&id).filter(|stream| !stream.ours && !stream.replied);
        let local_closed = stream.ok_or(SendError::NoReplyDue(id))?.local_closed;
        let block = self.block_of(headers)?;
        // What was queued before comes behind the reply, and the end behind that.
        let at_once = fin && !local_closed && self.queue.unsent(id) == 0;
        self.queue.control(frame::syn_reply(id, len(&block), at_once), block, true);
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.replied = true;
            stream.local_closed |= at_once;
        }
        self.queue.release_stream(id);
        self.forget_if_over(id);
        if fin && !at_once && !local_closed { self.finish(id) } else { Ok(()) }
    }

    /// Queues bytes, and with `fin` the end behind them. Empty bytes without `fin` send nothing.
    ///
    /// They leave in frames of at most [`MAX_DATA_SENT`](super::super::limits::MAX_DATA_SENT) bytes, one frame of each
    /// stream in turn. Payloads of 1 KiB and more are not copied.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`], [`SendError::Finished`], [`SendError::GoingAway`].
    pub fn data(&mut self, id: StreamId, bytes: Bytes, fin: bool) -> Result<(), SendError> {
        let stream = self.check(id)?;
        if stream.local_closed {
            return Err(SendError::Finished(id));
        }
        if !bytes.is_empty() {
            self.queue.data(id, bytes, !stream.replied);
        }
        if fin { self.finish(id) } else { Ok(()) }
    }

    /// Says that nothing more will be sent on the stream, behind what was. Doing it twice is the same as once, until
    /// the peer has finished too.
    ///
    /// # Errors
    ///
    /// [`SendError::NotOpen`], [`SendError::GoingAway`].
    pub fn finish(&mut self, id: StreamId) -> Result<(), SendError> {
        let held = !self.check(id)?.replied;
        if let Some(stream) = self.streams.get_mut(&id)
            && !std::mem::replace(&mut stream.local_closed, true)
        {
            self.queue.end(id, End::Fin, held);
            self.forget_if_over(id);
        }
        Ok(())
    }

    /// Ends the stream in both directions now: what is queued for it is thrown away, and what still comes is
    /// discarded. Nothing happens where the stream is over.
    ///
    /// Go sends nothing where it has already finished, so its peer goes on sending for nobody; this side says it.
    pub fn reset(&mut self, id: StreamId, status: ResetStatus) {
        if let Some(stream) = self.forget(id) {
            self.queue.discard(id);
            if !self.closing {
                self.queue.control(frame::rst_stream(id, status), Bytes::new(), !stream.ours);
            }
        }
    }

    /// Ends the stream in both directions behind what is queued for it, as exec servers end their error stream; a FIN
    /// that is queued is sent as well. What still comes is discarded from now on. Nothing happens where the stream is over;
    /// where it was never replied to, this is [`reset`](Self::reset), because the peer would drop the data.
    pub fn reset_after_data(&mut self, id: StreamId, status: ResetStatus) {
        match self.streams.get(&id) {
            Some(stream) if stream.replied => {
                // Behind GOAWAY nothing can be said, but what was sent before still goes.
                if !self.closing {
                    self.queue.end(id, End::Reset(status), false);
                }
                self.forget(id);
            }
            _ => self.reset(id, status),
        }
    }

    /// Queues a PING ahead of data; its number comes back in [`Event::PingReply`](super::Event::PingReply).
    ///
    /// # Errors
    ///
    /// [`SendError::GoingAway`] behind our own GOAWAY.
    pub fn ping(&mut self) -> Result<u32, SendError> {
        if self.closing {
            return Err(SendError::GoingAway);
        }
        let id = self.next_ping;
        // Numbers begin anew behind the highest, and 0 is none.
        self.next_ping = id.checked_add(2).unwrap_or(if self.is_client { 1 } else { 2 });
        if self.pings.len() == KEPT_PINGS {
            self.pings.pop_front();
        }
        self.pings.push_back(id);
        self.queue.control(frame::ping(id), Bytes::new(), false);
        Ok(id)
    }

    /// Queues GOAWAY behind everything that was queued, once; nothing can be sent after it. Data that is held back
    /// for want of a reply is thrown away. What comes in is still reported.
    pub fn go_away(&mut self, status: GoAwayStatus) {
        if std::mem::replace(&mut self.closing, true) {
            return;
        }
        for (id, _) in self.streams.iter().filter(|(_, stream)| !stream.replied) {
            self.queue.discard(*id);
        }
        self.queue.go_away(frame::go_away(self.last_of_peer, status));
    }

    /// As [`go_away`](Self::go_away), but first resets every stream that this side has not finished, behind its data: how
    /// Go closes a connection. A finished one needs no reset, because nothing is read behind GOAWAY.
    pub fn close(&mut self, status: GoAwayStatus) {
        let unfinished = self.streams.iter().filter(|(_, stream)| !stream.local_closed);
        let unfinished: Vec<StreamId> = unfinished.map(|(id, _)| *id).collect();
        for id in unfinished {
            self.reset_after_data(id, ResetStatus::CANCEL);
        }
        self.go_away(status);
    }

    fn check(&self, id: StreamId) -> Result<Stream, SendError> {
        let stream = self.streams.get(&id).copied().ok_or(SendError::NotOpen(id))?;
        if self.closing { Err(SendError::GoingAway) } else { Ok(stream) }
    }

    fn block_of(&mut self, headers: &Headers) -> Result<Bytes, SendError> {
        Ok(self.deflater.deflate(&headers.encode(&self.limits)?))
    }
}

fn len(block: &Bytes) -> u32 {
    u32::try_from(block.len()).unwrap_or(u32::MAX)
}
