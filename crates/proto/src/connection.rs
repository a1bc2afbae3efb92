//! The state machine of one connection: frames in, channel events out, and what may be sent when.
//!
//! # Calling contract
//!
//! 1. Append received bytes to a buffer and call [`Connection::handle_input`] until it returns `Ok(None)`. To
//!    apply back-pressure, stop calling it: it takes no more than the event it returns.
//! 2. Send with [`send`](Connection::send), [`half_close`](Connection::half_close), [`ping`](Connection::ping) and
//!    [`close`](Connection::close). Each queues whole frames in [`outbox`](Connection::outbox).
//! 3. Write the outbox to the wire whenever it is not empty; pongs and answers to errors appear there unasked.
//! 4. After `Err` or [`Event::Closed`] no more events come. The connection is over when
//!    [`is_finished`](Connection::is_finished), or when the wire ends.
//!
//! Deadlines are the caller's: there is no clock here.

use bytes::{Buf, Bytes, BytesMut};

use crate::channel::{
    ChannelId, ChannelMode, MAX_BASE64_CHANNEL, base64_channel, decode_base64, encode_base64,
};
use crate::subprotocol::{Encoding, Framing, Subprotocol};
use crate::ws::{CloseCode, CloseReason, Decoder, Frame, Opcode, Outbox, ProtocolError};

/// Which end of the connection this is.
#[derive(Debug, Clone, Copy)]
pub enum Role {
    /// Takes masked frames, sends unmasked ones, never sends CLOSE, and answers the peer's Close only when told.
    Server,
    /// Sends masked frames and answers the peer's Close at once: a server that closes takes nothing more.
    Client {
        /// Gives a fresh, unpredictable key for every frame (RFC 6455 section 5.3).
        mask: fn() -> [u8; 4],
    },
}

/// What a connection is made of.
#[derive(Debug, Clone)]
pub struct Config {
    /// Which end this is.
    pub role: Role,
    /// What the handshake agreed on.
    pub subprotocol: Subprotocol,
    /// The mode of each channel, from 0 on. Single-stream protocols have exactly channel 0.
    pub channels: Vec<ChannelMode>,
    /// The longest message taken, in bytes as on the wire.
    pub max_message: u64,
}

/// Something the peer did.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// Bytes for a channel that this side reads: never empty, and a view of the input except in base64. Where one
    /// message ends and the next begins has no meaning.
    Data {
        /// The channel.
        channel: ChannelId,
        /// The bytes.
        data: BytesMut,
    },
    /// A message without payload on a channel that this side reads: the ready signal, never end of input.
    Empty {
        /// The channel.
        channel: ChannelId,
    },
    /// The peer sends nothing more on this channel (CLOSE of v5). Reported once for each channel.
    HalfClosed {
        /// The channel.
        channel: ChannelId,
    },
    /// A ping came; its pong is in the outbox.
    Ping,
    /// A pong came.
    Pong,
    /// The peer sends nothing more at all.
    Closed(CloseReason),
    /// A message was dropped and the connection goes on. The reason is also counted.
    Dropped(Dropped),
}

/// Why one message was dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Dropped {
    /// There is no such channel.
    #[error("a message for channel {channel}, which does not exist")]
    OutOfRange {
        /// What the message named.
        channel: ChannelId,
    },
    /// This side does not read the channel.
    #[error("a message for channel {channel}, which is not read here")]
    NotRead {
        /// The channel.
        channel: ChannelId,
    },
    /// The peer had already closed the channel.
    #[error("a message for channel {channel} after its CLOSE")]
    AfterClose {
        /// The channel.
        channel: ChannelId,
    },
    /// The payload is not base64; nothing of it was delivered.
    #[error("a message for channel {channel} with {error}")]
    Base64 {
        /// The channel.
        channel: ChannelId,
        /// What is wrong.
        error: crate::channel::Base64Error,
    },
}

/// How many messages were dropped, by reason.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct DropCounts {
    /// The channel does not exist.
    pub out_of_range: u64,
    /// The channel is not read here. Usual, and no fault.
    pub not_read: u64,
    /// The channel was closed by its sender.
    pub after_close: u64,
    /// The payload was not base64.
    pub base64: u64,
}

/// How the peer broke the rules so that the connection has to end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// RFC 6455 was broken.
    #[error("{0}")]
    WebSocket(#[from] ProtocolError),
    /// A CLOSE message that is not exactly two bytes.
    #[error("a malformed channel CLOSE: it must be exactly 2 bytes")]
    MalformedClose,
    /// A CLOSE for a channel that does not exist.
    #[error("a CLOSE for channel {0}, which does not exist")]
    CloseOutOfRange(ChannelId),
}

impl Violation {
    /// The code of the Close frame that answers it.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::WebSocket(error) => error.close_code(),
            Self::MalformedClose | Self::CloseOutOfRange(_) => CloseCode::POLICY,
        }
    }
}

/// Why something could not be sent. Always the caller's doing, never the peer's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// This side does not write the channel, or it does not exist.
    #[error("channel {0} is not written here")]
    NotWritable(ChannelId),
    /// This side has sent CLOSE for the channel.
    #[error("channel {0} is closed for writing")]
    HalfClosed(ChannelId),
    /// This side has sent Close: nothing may follow it.
    #[error("the connection is closing")]
    Closing,
    /// The protocol has no way to end one channel (every version before v5), or this is a server: stock clients
    /// do not understand CLOSE from one.
    #[error("{0:?} cannot end one channel; only a client of v5.channel.k8s.io can")]
    NoHalfClose(&'static str),
    /// The channel's number has no character in the base64 protocols.
    #[error("channel {0} has no form in a base64 protocol")]
    NoBase64Form(ChannelId),
}

#[derive(Debug, Clone, Copy, Default)]
struct Channel {
    mode: ChannelMode,
    /// The peer has sent CLOSE.
    read_closed: bool,
    /// This side has sent CLOSE.
    write_closed: bool,
}

/// What happens to the message that is coming in.
#[derive(Debug)]
enum Inbound {
    /// Its first byte has not come yet.
    Start,
    /// Its bytes go to the channel as they come.
    Deliver { channel: ChannelId, any: bool },
    /// It is collected: base64 must be checked as a whole before any of it is delivered.
    Collect { channel: ChannelId, text: BytesMut },
    /// A CLOSE signal, of which this much has come.
    Signal { channel: Option<ChannelId>, extra: bool },
    /// Its rest is skipped.
    Skip(Option<Dropped>),
}

/// One connection. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Connection {
    role: Role,
    encoding: Encoding,
    framing: Framing,
    half_close: bool,
    channels: Vec<Channel>,
    decoder: Decoder,
    inbound: Inbound,
    outbox: Outbox,
    sent_close: bool,
    received_close: bool,
    failed: Option<Violation>,
    counts: DropCounts,
}

impl Connection {
    /// A connection whose handshake is done.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let Config { role, subprotocol, channels, max_message } = config;
        Self {
            role: *role,
            encoding: subprotocol.encoding(),
            framing: subprotocol.framing(),
            half_close: subprotocol.half_close(),
            channels: channels.iter().map(|mode| Channel { mode: *mode, ..Channel::default() }).collect(),
            decoder: Decoder::new(matches!(role, Role::Server), *max_message),
            inbound: Inbound::Start,
            outbox: Outbox::default(),
            sent_close: false,
            received_close: false,
            failed: None,
            counts: DropCounts::default(),
        }
    }

    /// Takes the next event from the front of `input`; `Ok(None)` when more input is needed.
    ///
    /// # Errors
    ///
    /// The peer broke a rule and the connection ends: the Close frame that says so is in the outbox. The same error
    /// is returned from then on.
    pub fn handle_input(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        if let Some(violation) = &self.failed {
            return Err(violation.clone());
        }
        if self.received_close {
            input.clear();
            return Ok(None);
        }
        self.next_event(input).inspect_err(|violation| {
            self.failed = Some(violation.clone());
            self.close(&CloseReason::new(violation.close_code(), violation.to_string()));
        })
    }

    fn next_event(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        while let Some(frame) = self.decoder.decode(input)? {
            let event = match frame {
                Frame::Data { last, payload, .. } => match self.handle_piece(payload, last)? {
                    Some(Event::Data { channel, data }) if last => Some(self.gather(channel, data, input)),
                    event => event,
                },
                Frame::Ping(payload) => {
                    self.control(Opcode::Pong, &payload);
                    Some(Event::Ping)
                }
                Frame::Pong(_) => Some(Event::Pong),
                Frame::Close(reason) => {
                    self.received_close = true;
                    input.clear();
                    if matches!(self.role, Role::Client { .. }) {
                        self.close(&CloseReason { code: reason.code, reason: String::new() });
                    }
                    Some(Event::Closed(reason))
                }
            };
            if event.is_some() {
                return Ok(event);
            }
        }
        Ok(None)
    }

    /// What the end of a message and those behind it have for one channel, as far as they have come.
    fn gather(&mut self, channel: ChannelId, mut data: BytesMut, input: &mut BytesMut) -> Event {
        if self.encoding == Encoding::Binary {
            let prefix = matches!(self.framing, Framing::Channels).then_some(channel.0);
            self.decoder.gather(&mut data, input, prefix);
            if self.decoder.is_inside_message() {
                self.inbound = Inbound::Deliver { channel, any: true };
            }
        }
        Event::Data { channel, data }
    }

    /// One piece of a data message.
    fn handle_piece(&mut self, mut piece: BytesMut, last: bool) -> Result<Option<Event>, Violation> {
        if matches!(self.inbound, Inbound::Start) {
            self.inbound = match self.framing {
                Framing::Single => self.begin(ChannelId(0)),
                Framing::Channels => match piece.first().copied() {
                    Some(byte) => {
                        piece.advance(1);
                        self.begin(match self.encoding {
                            Encoding::Binary => ChannelId(byte),
                            Encoding::Base64 => base64_channel(byte),
                        })
                    }
                    // An empty message names no channel: upstream ignores it, and kubectl sends some. An empty
                    // first fragment decides nothing yet.
                    None => return Ok(None),
                },
            };
        }
        let event = match &mut self.inbound {
            Inbound::Start => None,
            Inbound::Deliver { channel, any } => {
                let channel = *channel;
                if !piece.is_empty() {
                    *any = true;
                    Some(Event::Data { channel, data: piece })
                } else if last && !*any {
                    Some(Event::Empty { channel })
                } else {
                    None
                }
            }
            Inbound::Collect { text, channel } => {
                text.unsplit(piece);
                let (channel, text) = (*channel, if last { text.split() } else { BytesMut::new() });
                if last { Some(self.collected(channel, &text)) } else { None }
            }
            Inbound::Signal { channel, extra } => {
                for byte in piece {
                    *extra |= channel.replace(ChannelId(byte)).is_some();
                }
                if *extra {
                    return Err(Violation::MalformedClose);
                }
                if last {
                    let channel = channel.ok_or(Violation::MalformedClose)?;
                    self.signalled(channel)?
                } else {
                    None
                }
            }
            Inbound::Skip(why) => why.take().map(Event::Dropped),
        };
        if last {
            self.inbound = Inbound::Start;
        }
        Ok(event)
    }

    /// What is to be done with a message for `channel`.
    fn begin(&mut self, channel: ChannelId) -> Inbound {
        if self.half_close && channel == ChannelId::CLOSE {
            return Inbound::Signal { channel: None, extra: false };
        }
        let Some(state) = self.channels.get(usize::from(channel.0)) else {
            self.counts.out_of_range += 1;
            return Inbound::Skip(Some(Dropped::OutOfRange { channel }));
        };
        if !state.mode.reads() {
            self.counts.not_read += 1;
            return Inbound::Skip(Some(Dropped::NotRead { channel }));
        }
        if state.read_closed {
            self.counts.after_close += 1;
            return Inbound::Skip(Some(Dropped::AfterClose { channel }));
        }
        match self.encoding {
            Encoding::Binary => Inbound::Deliver { channel, any: false },
            Encoding::Base64 => Inbound::Collect { channel, text: BytesMut::new() },
        }
    }

    fn collected(&mut self, channel: ChannelId, text: &[u8]) -> Event {
        match decode_base64(text) {
            Ok(data) if data.is_empty() => Event::Empty { channel },
            Ok(data) => Event::Data { channel, data: BytesMut::from(Bytes::from(data)) },
            Err(error) => {
                self.counts.base64 += 1;
                Event::Dropped(Dropped::Base64 { channel, error })
            }
        }
    }

    fn signalled(&mut self, channel: ChannelId) -> Result<Option<Event>, Violation> {
        let state =
            self.channels.get_mut(usize::from(channel.0)).ok_or(Violation::CloseOutOfRange(channel))?;
        let first = !std::mem::replace(&mut state.read_closed, true);
        // For a channel that is not read here a CLOSE is legal and means nothing.
        Ok((first && state.mode.reads()).then_some(Event::HalfClosed { channel }))
    }

    /// Queues one message. An empty one is legal: it is the ready signal of a server.
    ///
    /// # Errors
    ///
    /// Nothing was queued; the error says why the channel takes nothing.
    pub fn send(&mut self, channel: ChannelId, payload: Bytes) -> Result<(), SendError> {
        self.may_send(channel)?;
        let mask = self.mask();
        match (self.encoding, self.framing) {
            (Encoding::Binary, Framing::Channels) => {
                self.outbox.message(Opcode::Binary, &[channel.0], payload, mask);
            }
            (Encoding::Binary, Framing::Single) => {
                self.outbox.message(Opcode::Binary, &[], payload, mask);
            }
            (Encoding::Base64, framing) => {
                let named = matches!(framing, Framing::Channels).then_some(channel);
                let text = encode_base64(named, &payload);
                self.outbox.message(Opcode::Text, &[], text.into(), mask);
            }
        }
        Ok(())
    }

    /// Whether [`send`](Self::send) would take a message for `channel` now.
    ///
    /// # Errors
    ///
    /// Why it would not.
    pub fn may_send(&self, channel: ChannelId) -> Result<(), SendError> {
        let state = self.channels.get(usize::from(channel.0)).filter(|state| state.mode.writes());
        let state = state.ok_or(SendError::NotWritable(channel))?;
        if self.sent_close {
            return Err(SendError::Closing);
        }
        if state.write_closed {
            return Err(SendError::HalfClosed(channel));
        }
        if self.encoding == Encoding::Base64 && channel > MAX_BASE64_CHANNEL {
            return Err(SendError::NoBase64Form(channel));
        }
        Ok(())
    }

    /// Says that nothing more will be sent on `channel`, behind what was: the CLOSE of v5. Doing it twice is the
    /// same as once.
    ///
    /// # Errors
    ///
    /// The version or the role has no such signal, the channel is not written here, or the connection is closing.
    pub fn half_close(&mut self, channel: ChannelId) -> Result<(), SendError> {
        match self.may_send(channel) {
            Err(SendError::HalfClosed(_)) => return Ok(()),
            other => other?,
        }
        if matches!(self.role, Role::Server) {
            return Err(SendError::NoHalfClose("a server"));
        }
        if !self.half_close {
            return Err(SendError::NoHalfClose("this version"));
        }
        if let Some(state) = self.channels.get_mut(usize::from(channel.0)) {
            state.write_closed = true;
        }
        let mask = self.mask();
        self.outbox.message(Opcode::Binary, &[ChannelId::CLOSE.0, channel.0], Bytes::new(), mask);
        Ok(())
    }

    /// Queues a ping; not after Close.
    pub fn ping(&mut self, payload: &[u8]) {
        self.control(Opcode::Ping, payload);
    }

    /// Queues a pong that nobody asked for (RFC 6455 section 5.5.3); not after Close.
    pub fn unsolicited_pong(&mut self) {
        self.control(Opcode::Pong, &[]);
    }

    /// Queues Close behind everything that was sent, once; nothing can be sent after it.
    pub fn close(&mut self, reason: &CloseReason) {
        if !self.sent_close {
            self.control(Opcode::Close, &reason.encode());
            self.sent_close = true;
        }
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) {
        if !self.sent_close {
            let mask = self.mask();
            self.outbox.control(opcode, payload, mask);
        }
    }

    fn mask(&self) -> Option<[u8; 4]> {
        match self.role {
            Role::Server => None,
            Role::Client { mask } => Some(mask()),
        }
    }

    /// The bytes that wait for the wire.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// How messages are written. In base64 they are given out whole, in binary as they come.
    #[must_use]
    pub fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Bytes of an unfinished base64 message that are held back until it is whole.
    #[must_use]
    pub fn collected_bytes(&self) -> usize {
        match &self.inbound {
            Inbound::Collect { text, .. } => text.len(),
            _ => 0,
        }
    }

    /// Frees what was collected of an unfinished message. For when no more input will be handled.
    pub fn discard_unfinished(&mut self) {
        self.inbound = Inbound::Skip(None);
    }

    /// Whether this side has queued Close.
    #[must_use]
    pub fn sent_close(&self) -> bool {
        self.sent_close
    }

    /// Whether the peer's Close has come.
    #[must_use]
    pub fn received_close(&self) -> bool {
        self.received_close
    }

    /// Whether both Close frames are through: nothing more will come or go.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.sent_close && self.received_close && self.outbox.is_empty()
    }

    /// What was dropped so far.
    #[must_use]
    pub fn drop_counts(&self) -> DropCounts {
        self.counts
    }
}
