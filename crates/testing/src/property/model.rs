//! What a connection means, said a second time: whole messages in, what the peer did out.
//!
//! Written from the rules of the channel protocols and not from the machine in `wsstream-proto`, with no bytes, no cuts
//! and no queues, so that it can be read at a glance. The properties compare the two.

use wsstream_proto::channel::ChannelMode;
use wsstream_proto::connection::{Config, Dropped, Event, Role, SendError, Violation};
use wsstream_proto::subprotocol::{Encoding, Framing};
use wsstream_proto::ws::CloseReason;

use super::frames::Item;

/// Something the peer did, with the data of one channel joined as long as nothing comes between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seen {
    /// Bytes on a channel.
    Data(u8, Vec<u8>),
    /// A message without payload.
    Empty(u8),
    /// The channel's input has ended.
    HalfClosed(u8),
    /// A ping.
    Ping,
    /// A pong.
    Pong,
    /// The peer sends nothing more.
    Closed(Option<(u16, String)>),
    /// A message was dropped.
    Dropped(Why),
    /// The connection ends with this close code.
    Violation(u16),
}

/// Why a message was dropped, and the channel that it named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// No such channel.
    OutOfRange(u8),
    /// Not read here.
    NotRead(u8),
    /// Its sender had closed the channel.
    AfterClose(u8),
    /// Not base64.
    Base64(u8),
}

/// Adds `seen`, joined to the last one where both are data of one channel.
pub fn push(all: &mut Vec<Seen>, seen: Seen) {
    match (all.last_mut(), seen) {
        (Some(Seen::Data(before, bytes)), Seen::Data(channel, more)) if *before == channel => {
            bytes.extend(more);
        }
        (_, seen) => all.push(seen),
    }
}

/// The machine's event in the model's words.
#[must_use]
pub fn seen(event: Event) -> Seen {
    match event {
        Event::Data { channel, data } => Seen::Data(channel.0, data.to_vec()),
        Event::Empty { channel } => Seen::Empty(channel.0),
        Event::HalfClosed { channel } => Seen::HalfClosed(channel.0),
        Event::Ping => Seen::Ping,
        Event::Pong => Seen::Pong,
        Event::Closed(CloseReason { code, reason }) => Seen::Closed(code.map(|code| (code.get(), reason))),
        Event::Dropped(why) => Seen::Dropped(match why {
            Dropped::OutOfRange { channel } => Why::OutOfRange(channel.0),
            Dropped::NotRead { channel } => Why::NotRead(channel.0),
            Dropped::AfterClose { channel } => Why::AfterClose(channel.0),
            Dropped::Base64 { channel, .. } => Why::Base64(channel.0),
            other => panic!("a reason that the model does not know: {other}"),
        }),
        other => panic!("an event that the model does not know: {other:?}"),
    }
}

/// The machine's violation in the model's words.
#[must_use]
pub fn violation(violation: &Violation) -> Seen {
    Seen::Violation(violation.close_code().get())
}

/// Why something cannot be sent, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// The channel is not written here.
    NotWritable,
    /// Close was sent.
    Closing,
    /// CLOSE was sent for the channel.
    HalfClosed,
    /// There is no CLOSE here.
    NoHalfClose,
}

/// The machine's refusal in the model's words.
#[must_use]
pub fn refused(error: SendError) -> Refused {
    match error {
        SendError::NotWritable(_) => Refused::NotWritable,
        SendError::HalfClosed(_) => Refused::HalfClosed,
        SendError::Closing => Refused::Closing,
        SendError::NoHalfClose(_) => Refused::NoHalfClose,
        other => panic!("a refusal that the model does not know: {other}"),
    }
}

/// The state of one end.
#[derive(Debug, Clone)]
pub struct Model {
    server: bool,
    base64: bool,
    single: bool,
    v5: bool,
    channels: Vec<Channel>,
    sent_close: bool,
    /// The peer has closed, or broken a rule.
    over: bool,
}

#[derive(Debug, Clone)]
struct Channel {
    mode: ChannelMode,
    read_closed: bool,
    write_closed: bool,
}

impl Model {
    /// A fresh end.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let new = |mode: &ChannelMode| Channel { mode: *mode, read_closed: false, write_closed: false };
        Self {
            server: matches!(config.role, Role::Server),
            base64: config.subprotocol.encoding() == Encoding::Base64,
            single: config.subprotocol.framing() == Framing::Single,
            v5: config.subprotocol.half_close(),
            channels: config.channels.iter().map(new).collect(),
            sent_close: false,
            over: false,
        }
    }

    /// What a whole message or control frame from the peer means.
    pub fn receive(&mut self, item: &Item) -> Option<Seen> {
        if self.over {
            return None;
        }
        match item {
            Item::Ping(_) => Some(Seen::Ping),
            Item::Pong(_) => Some(Seen::Pong),
            Item::Close(reason) => {
                self.over = true;
                // A client answers at once; a server when its application is done.
                self.sent_close |= !self.server;
                Some(Seen::Closed(reason.clone()))
            }
            Item::Data { payload, .. } => self.message(payload),
        }
    }

    fn message(&mut self, message: &[u8]) -> Option<Seen> {
        if self.single {
            return Some(self.data(0, message));
        }
        let (first, payload) = message.split_first()?;
        let channel = if self.base64 { first.wrapping_sub(b'0') } else { *first };
        if self.v5 && channel == 255 {
            return self.close_signal(payload);
        }
        Some(self.data(channel, payload))
    }

    fn close_signal(&mut self, payload: &[u8]) -> Option<Seen> {
        let [number] = payload else { return Some(self.violate(1008)) };
        let Some(channel) = self.channels.get_mut(usize::from(*number)) else {
            return Some(self.violate(1008));
        };
        let first = !std::mem::replace(&mut channel.read_closed, true);
        (first && channel.mode.reads()).then_some(Seen::HalfClosed(*number))
    }

    fn violate(&mut self, code: u16) -> Seen {
        self.over = true;
        self.sent_close = true;
        Seen::Violation(code)
    }

    fn data(&self, number: u8, payload: &[u8]) -> Seen {
        let Some(channel) = self.channels.get(usize::from(number)) else {
            return Seen::Dropped(Why::OutOfRange(number));
        };
        if !channel.mode.reads() {
            return Seen::Dropped(Why::NotRead(number));
        }
        if channel.read_closed {
            return Seen::Dropped(Why::AfterClose(number));
        }
        let data = if self.base64 { go_base64(payload) } else { Some(payload.to_vec()) };
        match data {
            None => Seen::Dropped(Why::Base64(number)),
            Some(data) if data.is_empty() => Seen::Empty(number),
            Some(data) => Seen::Data(number, data),
        }
    }

    /// Whether a message for `channel` would be sent.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn send(&self, channel: u8) -> Result<(), Refused> {
        let state = self.channels.get(usize::from(channel)).filter(|state| state.mode.writes());
        let state = state.ok_or(Refused::NotWritable)?;
        if self.sent_close {
            return Err(Refused::Closing);
        }
        if state.write_closed { Err(Refused::HalfClosed) } else { Ok(()) }
    }

    /// Ends this end's half of a channel; `Ok(true)` when that sends a CLOSE.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn half_close(&mut self, channel: u8) -> Result<bool, Refused> {
        match self.send(channel) {
            Err(Refused::HalfClosed) => return Ok(false),
            other => other?,
        }
        if self.server || !self.v5 {
            return Err(Refused::NoHalfClose);
        }
        self.channels[usize::from(channel)].write_closed = true;
        Ok(true)
    }

    /// Closes this end; true when that sends a Close.
    pub fn close(&mut self) -> bool {
        !std::mem::replace(&mut self.sent_close, true)
    }

    /// Whether the peer has closed or broken a rule.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.over
    }

    /// Whether this end has sent Close.
    #[must_use]
    pub fn has_closed(&self) -> bool {
        self.sent_close
    }
}

/// Decodes as Go's `base64.StdEncoding` does: CR and LF are skipped, padding is required, the bits behind the last
/// byte are not looked at.
#[must_use]
pub fn go_base64(text: &[u8]) -> Option<Vec<u8>> {
    let text: Vec<u8> = text.iter().copied().filter(|byte| !matches!(byte, b'\r' | b'\n')).collect();
    if !text.len().is_multiple_of(4) {
        return None;
    }
    let mut out = Vec::new();
    let last = text.len() / 4;
    for (i, four) in text.chunks(4).enumerate() {
        let padding =
            if i + 1 == last { four.iter().rev().take_while(|byte| **byte == b'=').count() } else { 0 };
        if padding > 2 {
            return None;
        }
        let mut bits = 0u32;
        for byte in &four[..4 - padding] {
            bits = bits << 6 | u32::from(sextet(*byte)?);
        }
        bits <<= 6 * padding;
        out.extend(&bits.to_be_bytes()[1..4 - padding]);
    }
    Some(out)
}

fn sextet(byte: u8) -> Option<u8> {
    match byte {
        b'A'..=b'Z' => Some(byte - b'A'),
        b'a'..=b'z' => Some(byte - b'a' + 26),
        b'0'..=b'9' => Some(byte - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    }
}
