//! One end of a SPDY session with its peer's bytes written by hand, for the tests of the machine.

#![allow(dead_code, reason = "each test file uses its part of this")]

use bytes::{Buf as _, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use wsstream_proto::spdy::dictionary::DICTIONARY;
use wsstream_proto::spdy::{Event, Headers, Limits, Session, StreamId, Violation};

pub(crate) const SYN_STREAM: u16 = 1;
pub(crate) const SYN_REPLY: u16 = 2;
pub(crate) const RST_STREAM: u16 = 3;
pub(crate) const SETTINGS: u16 = 4;
pub(crate) const NOOP: u16 = 5;
pub(crate) const PING: u16 = 6;
pub(crate) const GOAWAY: u16 = 7;
pub(crate) const HEADERS: u16 = 8;
pub(crate) const WINDOW_UPDATE: u16 = 9;
pub(crate) const CREDENTIAL: u16 = 10;

pub(crate) const FIN: u8 = 1;

pub(crate) fn id(number: u32) -> StreamId {
    StreamId::new(number).unwrap()
}

/// A control frame, its length told truly.
pub(crate) fn control(kind: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    lying(kind, flags, payload.len(), payload)
}

/// A control frame that announces `len`.
pub(crate) fn lying(kind: u16, flags: u8, len: usize, payload: &[u8]) -> Vec<u8> {
    let mut out = vec![0x80, 3];
    out.extend(kind.to_be_bytes());
    out.extend((u32::from(flags) << 24 | len as u32).to_be_bytes());
    out.extend(payload);
    out
}

pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_be_bytes()).collect()
}

/// DATA.
pub(crate) fn data(stream: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut out = words(&[stream, u32::from(flags) << 24 | payload.len() as u32]);
    out.extend(payload);
    out
}

pub(crate) fn rst(stream: u32, status: u32) -> Vec<u8> {
    control(RST_STREAM, 0, &words(&[stream, status]))
}

pub(crate) fn ping(number: u32) -> Vec<u8> {
    control(PING, 0, &words(&[number]))
}

pub(crate) fn go_away(last: u32, status: u32) -> Vec<u8> {
    control(GOAWAY, 0, &words(&[last, status]))
}

/// The plain form of a header block.
pub(crate) fn plain(headers: &[(&str, &str)]) -> Vec<u8> {
    let mut out = words(&[headers.len() as u32]);
    for text in headers.iter().flat_map(|(name, value)| [name, value]) {
        out.extend((text.len() as u32).to_be_bytes());
        out.extend(text.as_bytes());
    }
    out
}

/// Compresses header blocks as Go does: with the dictionary, and with a sync marker behind each.
pub(crate) struct Packer(Compress);

impl Packer {
    pub(crate) fn new() -> Self {
        Self::of(Compress::new(Compression::best(), true), true)
    }

    pub(crate) fn of(mut compress: Compress, dictionary: bool) -> Self {
        if dictionary {
            compress.set_dictionary(DICTIONARY).unwrap();
        }
        Self(compress)
    }

    pub(crate) fn pack(&mut self, plain: &[u8]) -> Vec<u8> {
        self.pack_with(plain, FlushCompress::Sync)
    }

    pub(crate) fn pack_with(&mut self, plain: &[u8], flush: FlushCompress) -> Vec<u8> {
        let mut out = Vec::with_capacity(plain.len() + 4096);
        let before = self.0.total_in();
        self.0.compress_vec(plain, &mut out, flush).unwrap();
        assert_eq!(self.0.total_in() - before, plain.len() as u64);
        out
    }

    pub(crate) fn syn_stream(&mut self, stream: u32, flags: u8, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut payload = words(&[stream, 0]);
        payload.extend([0, 0]);
        payload.extend(self.pack(&plain(headers)));
        control(SYN_STREAM, flags, &payload)
    }

    pub(crate) fn syn_reply(&mut self, stream: u32, flags: u8) -> Vec<u8> {
        let mut payload = words(&[stream]);
        payload.extend(self.pack(&plain(&[])));
        control(SYN_REPLY, flags, &payload)
    }

    pub(crate) fn headers(&mut self, stream: u32, flags: u8, headers: &[(&str, &str)]) -> Vec<u8> {
        let mut payload = words(&[stream]);
        payload.extend(self.pack(&plain(headers)));
        control(HEADERS, flags, &payload)
    }
}

/// A session, and the compression of its peer.
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) peer: Packer,
}

pub(crate) fn server() -> End {
    limited_server(Limits::default())
}

pub(crate) fn limited_server(limits: Limits) -> End {
    End { session: Session::server(limits), peer: Packer::new() }
}

pub(crate) fn client() -> End {
    let mut limits = Limits::default();
    limits.max_streams = 0;
    End { session: Session::client(limits), peer: Packer::new() }
}

impl End {
    /// What the machine makes of these bytes.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<Vec<Event>, Violation> {
        let mut input = BytesMut::from(bytes);
        let mut events = Vec::new();
        while let Some(event) = self.session.handle_input(&mut input)? {
            events.push(event);
        }
        Ok(events)
    }

    /// The one event that these bytes make.
    pub(crate) fn one(&mut self, bytes: &[u8]) -> Event {
        let mut events = self.bytes(bytes).unwrap();
        assert_eq!(events.len(), 1, "{events:?}");
        events.remove(0)
    }

    /// Nothing is reported of these bytes.
    pub(crate) fn silent(&mut self, bytes: &[u8]) {
        assert_eq!(self.bytes(bytes).unwrap(), []);
    }

    /// The peer opens a stream.
    pub(crate) fn opened(&mut self, stream: u32) {
        let frame = self.peer.syn_stream(stream, 0, &[("streamtype", "data")]);
        let headers = Headers::from_iter([("streamtype", "data")]);
        assert_eq!(self.one(&frame), Event::StreamOpened { id: id(stream), headers, fin: false });
    }

    /// The peer opens a stream and this side takes it; nothing of it is left to be sent.
    pub(crate) fn accepted(&mut self, stream: u32) {
        self.opened(stream);
        self.session.reply(id(stream), &Headers::default(), false).unwrap();
        self.sent();
    }

    /// This side opens a stream and the peer takes it.
    pub(crate) fn opens(&mut self, flags: u8) -> StreamId {
        let stream = self.session.open(&Headers::from_iter([("streamtype", "data")]), false).unwrap();
        let reply = self.peer.syn_reply(stream.get(), flags);
        let fin = flags & FIN != 0;
        assert_eq!(self.one(&reply), Event::Replied { id: stream, headers: Headers::default(), fin });
        self.sent();
        stream
    }

    /// All that can be written, as whole frames: control frames by their type and payload, without header blocks.
    pub(crate) fn sent(&mut self) -> Vec<Sent> {
        let mut bytes = Vec::new();
        while !self.session.outbox().is_empty() {
            let outbox = self.session.outbox();
            bytes.extend(outbox.copy_to_bytes(outbox.remaining()));
        }
        frames(&bytes)
    }
}

/// A frame that was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sent {
    SynStream(u32, bool),
    SynReply(u32, bool),
    Rst(u32, u32),
    Ping(u32),
    GoAway(u32, u32),
    Data(u32, Vec<u8>),
    Fin(u32),
}

pub(crate) fn frames(mut bytes: &[u8]) -> Vec<Sent> {
    let word = |bytes: &[u8], at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let mut sent = Vec::new();
    while !bytes.is_empty() {
        let (first, flags, len) = (word(bytes, 0), bytes[4], word(bytes, 4) & 0xff_ffff);
        let (frame, rest) = bytes.split_at(8 + len as usize);
        let body = &frame[8..];
        bytes = rest;
        sent.push(match first {
            0x8003_0001 => Sent::SynStream(word(body, 0), flags == FIN),
            0x8003_0002 => Sent::SynReply(word(body, 0), flags == FIN),
            0x8003_0003 => Sent::Rst(word(body, 0), word(body, 4)),
            0x8003_0006 => Sent::Ping(word(body, 0)),
            0x8003_0007 => Sent::GoAway(word(body, 0), word(body, 4)),
            stream if stream < 1 << 31 && flags == FIN && len == 0 => Sent::Fin(stream),
            stream if stream < 1 << 31 && flags == 0 => Sent::Data(stream, body.to_vec()),
            other => panic!("{other:08x} flags {flags} is never sent"),
        });
    }
    sent
}
