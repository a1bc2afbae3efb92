//! One end of a connection with its peer's bytes written by hand, for the tests of the machine.

#![allow(dead_code, reason = "each test file uses its part of this")]

use bytes::{Buf as _, Bytes, BytesMut};
use wsstream_proto::channel::{ChannelId, ChannelMode};
use wsstream_proto::connection::{Config, Connection, Dropped, Event, Role, Violation};
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_proto::ws::{CloseCode, CloseReason};

pub(crate) const TEXT: u8 = 1;
pub(crate) const BINARY: u8 = 2;
pub(crate) const CONTINUATION: u8 = 0;
pub(crate) const CLOSE: u8 = 8;
pub(crate) const PING: u8 = 9;
pub(crate) const PONG: u8 = 10;

/// The key of every masked frame in these tests.
pub(crate) const KEY: [u8; 4] = [0xa1, 0, 0x3c, 0xff];

/// A machine, and what its peer sends.
pub(crate) struct End {
    pub(crate) machine: Connection,
    masked: bool,
}

/// The modes of a server of remote commands: stdin, stdout, stderr, error, resize.
pub(crate) const REMOTE: [ChannelMode; 5] =
    [ChannelMode::Read, ChannelMode::Write, ChannelMode::Write, ChannelMode::Write, ChannelMode::Read];

pub(crate) fn server(subprotocol: Subprotocol, channels: &[ChannelMode]) -> End {
    limited(Role::Server, subprotocol, channels, 1 << 20)
}

pub(crate) fn client(subprotocol: Subprotocol, channels: &[ChannelMode]) -> End {
    limited(Role::Client { mask: || KEY }, subprotocol, channels, 1 << 20)
}

pub(crate) fn limited(
    role: Role,
    subprotocol: Subprotocol,
    channels: &[ChannelMode],
    max_message: u64,
) -> End {
    let masked = matches!(role, Role::Server);
    let config = Config { role, subprotocol, channels: channels.to_vec(), max_message };
    End { machine: Connection::new(&config), masked }
}

/// A frame of a client (masked) or of a server.
pub(crate) fn frame(masked: bool, fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![u8::from(fin) << 7 | opcode];
    let bit = u8::from(masked) << 7;
    match payload.len() {
        len @ 0..=125 => out.push(bit | len as u8),
        len => {
            out.push(bit | 126);
            out.extend((len as u16).to_be_bytes());
        }
    }
    let key = if masked { KEY } else { [0; 4] };
    if masked {
        out.extend(key);
    }
    out.extend(payload.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key));
    out
}

impl End {
    /// What the machine makes of one frame.
    pub(crate) fn frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) -> Result<Vec<Event>, Violation> {
        self.bytes(&frame(self.masked, fin, opcode, payload))
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Violation> {
        let mut input = BytesMut::from(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.machine.handle_input(&mut input)? {
            events.push(event);
        }
        Ok(events)
    }

    /// What the machine makes of one whole binary message.
    pub(crate) fn binary(&mut self, message: &[u8]) -> Vec<Event> {
        self.frame(true, BINARY, message).unwrap()
    }

    /// What the machine makes of one whole text message.
    pub(crate) fn text(&mut self, message: &str) -> Vec<Event> {
        self.frame(true, TEXT, message.as_bytes()).unwrap()
    }

    /// Everything that waits for the wire, as it stands there.
    pub(crate) fn sent(&mut self) -> Vec<u8> {
        let outbox = self.machine.outbox();
        outbox.copy_to_bytes(outbox.remaining()).to_vec()
    }

    pub(crate) fn send(&mut self, channel: u8, payload: &'static [u8]) {
        self.machine.send(ChannelId(channel), Bytes::from_static(payload)).unwrap();
    }
}

pub(crate) fn data(channel: u8, bytes: &[u8]) -> Event {
    Event::Data { channel: ChannelId(channel), data: BytesMut::from(bytes) }
}

pub(crate) fn empty(channel: u8) -> Event {
    Event::Empty { channel: ChannelId(channel) }
}

pub(crate) fn half_closed(channel: u8) -> Event {
    Event::HalfClosed { channel: ChannelId(channel) }
}

pub(crate) fn closed(code: u16) -> Event {
    Event::Closed(CloseReason::code(CloseCode::new(code).unwrap()))
}

pub(crate) fn out_of_range(channel: u8) -> Event {
    Event::Dropped(Dropped::OutOfRange { channel: ChannelId(channel) })
}

pub(crate) fn not_read(channel: u8) -> Event {
    Event::Dropped(Dropped::NotRead { channel: ChannelId(channel) })
}

pub(crate) fn after_close(channel: u8) -> Event {
    Event::Dropped(Dropped::AfterClose { channel: ChannelId(channel) })
}
