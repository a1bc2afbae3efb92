//! What the frames of the peer do to a session.

use bytes::{Bytes, BytesMut};

use super::super::decoder::Part;
use super::super::error::Flood;
use super::super::frame::{self, Kind};
use super::super::stream::Stream;
use super::super::{Dropped, GoAwayStatus, Headers, ResetStatus, StreamId, Violation};
use super::{Event, Session};

/// Whose header block is coming in.
#[derive(Debug, Clone, Copy)]
pub(super) enum BlockOf {
    SynStream { id: StreamId, fin: bool },
    SynReply { id: StreamId, fin: bool },
    Headers { id: StreamId, fin: bool },
}

impl Session {
    pub(super) fn next_event(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        while self.wants_read() {
            let part = self.decoder.decode(input, &self.limits);
            if self.decoder.has_begun() {
                self.queue.release();
            }
            let Some(part) = part? else { break };
            let event = match part {
                Part::Data { id, bytes, last, fin, empty } => {
                    self.data_came(id, bytes, last && fin, empty)?
                }
                Part::SynStream { id, fin } => self.begin(BlockOf::SynStream { id, fin }),
                Part::SynReply { id, fin } => self.begin(BlockOf::SynReply { id, fin }),
                Part::Headers { id, fin } => self.begin(BlockOf::Headers { id, fin }),
                Part::Block { bytes, last } => self.block_came(&bytes, last)?,
                Part::RstStream { id, status } => self.reset_came(id, status)?,
                Part::Ping(id) => self.ping_came(id)?,
                Part::GoAway { last, status } => self.go_away_came(last, status)?,
                Part::Unused(Kind::Unknown(number)) => Some(self.dropped(Dropped::UnknownType(number))?),
                Part::Unused(kind) => Some(self.dropped(Dropped::Unused(kind.name()))?),
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// The peer cannot be followed any more.
    pub(super) fn fail(&mut self, violation: &Violation) {
        self.failed = Some(violation.clone());
        self.closing = true;
        self.streams.clear();
        self.peers_streams = 0;
        self.pending = None;
        self.block = None;
        self.queue.release();
        self.queue.abort(frame::go_away(self.last_of_peer, violation.go_away_status()));
    }

    fn begin(&mut self, of: BlockOf) -> Option<Event> {
        self.block = Some((of, Vec::new()));
        None
    }

    /// A piece of a header block. Blocks of streams that are refused or unknown are inflated all the same: the
    /// compression goes on behind them.
    fn block_came(&mut self, bytes: &[u8], last: bool) -> Result<Option<Event>, Violation> {
        let Some((of, plain)) = &mut self.block else { return Ok(None) };
        self.inflater.inflate(bytes, plain, self.limits.header_block())?;
        if !last {
            return Ok(None);
        }
        let (of, plain) = (*of, std::mem::take(plain));
        self.block = None;
        let headers = Headers::decode(plain, &self.limits)?;
        match of {
            BlockOf::SynStream { id, fin } => self.opened(id, headers, fin).map(Some),
            BlockOf::SynReply { id, fin } => self.replied(id, headers, fin).map(Some),
            BlockOf::Headers { id, fin } => {
                // Its headers are of no use, but its FIN would be missed.
                if fin && self.close_remote(id) {
                    self.pending = Some(Event::Fin { id });
                }
                self.dropped(Dropped::Unused(Kind::Headers.name())).map(Some)
            }
        }
    }

    fn opened(&mut self, id: StreamId, headers: Headers, fin: bool) -> Result<Event, Violation> {
        if self.closing {
            return self.dropped(Dropped::AfterGoAway(id));
        }
        if id.is_clients() == self.is_client {
            return self.refuse(id, Dropped::WrongParity(id));
        }
        if let Some(last) = StreamId::new(self.last_of_peer)
            && id <= last
        {
            return self.refuse(id, Dropped::NotRising(id, last));
        }
        self.last_of_peer = id.get();
        // A stream that is closed but not flushed still costs memory.
        if self.peers_streams + self.queue.orphans() >= self.limits.max_streams {
            return self.refuse(id, Dropped::TooManyStreams(id));
        }
        self.add(id, Stream::opened(false, fin));
        Ok(Event::StreamOpened { id, headers, fin })
    }

    /// Answers SYN_STREAM with RST_STREAM. Where the number is that of an open stream, the peer takes the answer for
    /// that one, so it ends here too.
    fn refuse(&mut self, id: StreamId, why: Dropped) -> Result<Event, Violation> {
        if let Some(status) = why.answer() {
            self.queue.discard(id);
            self.queue.control(frame::rst_stream(id, status), Bytes::new(), true);
            if self.forget(id).is_some() {
                self.pending = Some(Event::Reset { id, status });
            }
        }
        self.dropped(why)
    }

    fn replied(&mut self, id: StreamId, headers: Headers, fin: bool) -> Result<Event, Violation> {
        let Some(stream) = self.streams.get_mut(&id).filter(|stream| stream.ours && !stream.replied) else {
            return self.dropped(Dropped::StrayReply(id));
        };
        stream.replied = true;
        stream.remote_closed |= fin;
        self.queue.release_stream(id);
        self.forget_if_over(id);
        Ok(Event::Replied { id, headers, fin })
    }

    /// `end`: the bytes are the last of the stream. `empty`: the frame had none at all.
    fn data_came(
        &mut self,
        id: StreamId,
        bytes: BytesMut,
        end: bool,
        empty: bool,
    ) -> Result<Option<Event>, Violation> {
        if empty && !end {
            self.useless()?;
            return Ok(None);
        }
        if self.streams.get(&id).is_none_or(|stream| stream.remote_closed) {
            self.counts.discarded_bytes += u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            return Ok(None);
        }
        let fin = (end && self.close_remote(id)).then_some(Event::Fin { id });
        if bytes.is_empty() {
            return Ok(fin);
        }
        self.pending = fin;
        Ok(Some(Event::Data { id, bytes }))
    }

    /// Notes that the peer sends nothing more on a stream; false if that was known.
    fn close_remote(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.get_mut(&id) else { return false };
        let first = !std::mem::replace(&mut stream.remote_closed, true);
        self.forget_if_over(id);
        first
    }

    fn reset_came(&mut self, id: StreamId, status: ResetStatus) -> Result<Option<Event>, Violation> {
        // Also where the stream was finished on both sides and only waits for the wire: nobody reads it any more.
        self.queue.discard(id);
        let Some(stream) = self.forget(id) else {
            let highest =
                if id.is_clients() == self.is_client { self.next_stream } else { self.last_of_peer };
            if id.get() > highest {
                self.useless()?;
            }
            return Ok(None);
        };
        if !stream.ours && !stream.local_closed {
            self.counts.rapid_resets += 1;
            self.rates.resets += 1;
            if self.rates.resets > self.limits.max_rate_resets {
                return Err(Violation::Flood(Flood::Resets));
            }
        }
        Ok(Some(Event::Reset { id, status }))
    }

    /// A PING with a number of this side's kind is an answer, the others are answered: Go does not tell them apart in
    /// any other way.
    fn ping_came(&mut self, id: u32) -> Result<Option<Event>, Violation> {
        if (id % 2 == 1) == self.is_client {
            let Some(at) = self.pings.iter().position(|ping| *ping == id) else {
                self.useless()?;
                return Ok(None);
            };
            self.pings.remove(at);
            return Ok(Some(Event::PingReply { id }));
        }
        self.counts.pings += 1;
        self.rates.pings += 1;
        if self.rates.pings > self.limits.max_rate_pings {
            return Err(Violation::Flood(Flood::Pings));
        }
        if !self.closing {
            self.queue.echo(id, self.rates.pings > self.limits.echoed_pings);
        }
        Ok(None)
    }

    fn go_away_came(&mut self, last: u32, status: GoAwayStatus) -> Result<Option<Event>, Violation> {
        if std::mem::replace(&mut self.peer_went_away, true) {
            self.useless()?;
            return Ok(None);
        }
        Ok(Some(Event::GoAway { last, status }))
    }

    fn dropped(&mut self, why: Dropped) -> Result<Event, Violation> {
        self.counts.dropped += 1;
        self.useless()?;
        Ok(Event::Dropped(why))
    }

    pub(super) fn useless(&mut self) -> Result<(), Violation> {
        self.counts.useless += 1;
        self.rates.useless += 1;
        if self.rates.useless > self.limits.max_rate_useless {
            return Err(Violation::Flood(Flood::Useless));
        }
        Ok(())
    }
}
