//! Two other WebSocket engines as judges of ours, and the list of what we know to differ.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use wsstream_proto::ws::ProtocolError;

use super::decoder::{self, Decoded};
use super::faults::Faults;
use super::frames::Item;

/// The longest message that all engines are told to take.
pub const LIMIT: u64 = 1 << 20;

/// A judge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// The crate `tungstenite`.
    Tungstenite,
    /// The crate `tokio-websockets`.
    TokioWebsockets,
}

/// All judges.
pub const OTHERS: [Engine; 2] = [Engine::Tungstenite, Engine::TokioWebsockets];

/// What a judge said about some bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Verdict {
    /// The messages it took.
    pub items: Vec<Item>,
    /// Whether it refused what came then; otherwise it waits for more, or has seen Close.
    pub refused: bool,
}

/// Why we and another engine may disagree. Whatever is not in this list is a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Difference {
    /// We take text as bytes (the Python client sends arbitrary bytes as text); they insist on UTF-8, each at its
    /// own time.
    TextThatIsNotUtf8,
    /// A length in more bytes than it needs (RFC 6455 section 5.2 asks for the fewest): tokio-websockets refuses it,
    /// tungstenite and we take it, for it changes nothing about what was said. In a control frame we refuse it too:
    /// there the length bits alone say that the frame is too long.
    LongLength,
    /// We refuse a frame by its header, they read the rest of it first; or they refuse it by the first two bytes, we read
    /// the rest of the header first. In both cases that rest is not there.
    EarlyRefusal,
    /// A Close code that may not be sent: tungstenite says "1002 Protocol violation" in its place (1014 among
    /// them, which the registry has), and others refuse.
    CloseCode,
}

/// Bytes to be read, and what was written; reading past the end waits forever.
#[derive(Debug, Default)]
struct Tape {
    input: VecDeque<u8>,
    output: Vec<u8>,
}

impl Tape {
    fn new(bytes: &[u8]) -> Self {
        Self { input: bytes.iter().copied().collect(), output: Vec::new() }
    }
}

impl Read for Tape {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if self.input.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        self.input.read(buf)
    }
}

impl Write for Tape {
    fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
        self.output.write(buf)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Tape {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut part = [0; 4096];
        let want = part.len().min(buf.remaining());
        match self.read(&mut part[..want]) {
            Ok(n) => {
                buf.put_slice(&part[..n]);
                Poll::Ready(Ok(()))
            }
            Err(_) => Poll::Pending,
        }
    }
}

impl AsyncWrite for Tape {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(self.write(buf))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Engine {
    /// What the engine makes of `bytes` from a peer of this kind.
    #[must_use]
    pub fn decode(self, bytes: &[u8], peer_is_client: bool) -> Verdict {
        match self {
            Self::Tungstenite => tungstenite_decode(bytes, peer_is_client),
            Self::TokioWebsockets => tokio_websockets_decode(bytes, peer_is_client),
        }
    }

    /// The bytes that the engine sends for `items`, as a client or as a server. Close must be the last.
    #[must_use]
    pub fn encode(self, items: &[Item], as_client: bool) -> Vec<u8> {
        match self {
            Self::Tungstenite => tungstenite_encode(items, as_client),
            Self::TokioWebsockets => tokio_websockets_encode(items, as_client),
        }
    }
}

fn tungstenite(bytes: &[u8], is_server: bool) -> WebSocket<Tape> {
    let limit = Some(LIMIT as usize);
    let config = WebSocketConfig::default().max_message_size(limit).max_frame_size(limit);
    let role = if is_server { Role::Server } else { Role::Client };
    WebSocket::from_raw_socket(Tape::new(bytes), role, Some(config))
}

fn tungstenite_decode(bytes: &[u8], peer_is_client: bool) -> Verdict {
    use tungstenite::{Error, Message};
    let mut socket = tungstenite(bytes, peer_is_client);
    let mut verdict = Verdict::default();
    loop {
        let item = match socket.read() {
            Ok(Message::Text(text)) => Item::Data { text: true, payload: text.as_bytes().to_vec() },
            Ok(Message::Binary(data)) => Item::Data { text: false, payload: data.to_vec() },
            Ok(Message::Ping(data)) => Item::Ping(data.to_vec()),
            Ok(Message::Pong(data)) => Item::Pong(data.to_vec()),
            Ok(Message::Close(frame)) => {
                Item::Close(frame.map(|frame| (frame.code.into(), frame.reason.as_str().to_owned())))
            }
            Ok(Message::Frame(_)) => unreachable!("reading gives no raw frames"),
            Err(Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => return verdict,
            Err(Error::ConnectionClosed) => return verdict,
            Err(_) => {
                verdict.refused = true;
                return verdict;
            }
        };
        let closed = matches!(item, Item::Close(_));
        verdict.items.push(item);
        if closed {
            return verdict;
        }
    }
}

fn tungstenite_encode(items: &[Item], as_client: bool) -> Vec<u8> {
    use tungstenite::Message;
    use tungstenite::protocol::CloseFrame;
    let mut socket = tungstenite(&[], !as_client);
    for item in items {
        let message = match item.clone() {
            Item::Data { text: true, payload } => {
                Message::text(String::from_utf8(payload).expect("text is UTF-8"))
            }
            Item::Data { text: false, payload } => Message::binary(payload),
            Item::Ping(data) => Message::Ping(data.into()),
            Item::Pong(data) => Message::Pong(data.into()),
            Item::Close(frame) => Message::Close(
                frame.map(|(code, reason)| CloseFrame { code: code.into(), reason: reason.into() }),
            ),
        };
        socket.send(message).expect("a tape takes everything");
    }
    std::mem::take(&mut socket.get_mut().output)
}

fn tokio_websockets(bytes: &[u8], is_server: bool) -> tokio_websockets::WebSocketStream<Tape> {
    let limits = tokio_websockets::Limits::default().max_payload_len(Some(LIMIT as usize));
    let tape = Tape::new(bytes);
    if is_server {
        tokio_websockets::ServerBuilder::new().limits(limits).serve(tape)
    } else {
        tokio_websockets::ClientBuilder::new().limits(limits).take_over(tape)
    }
}

fn tokio_websockets_decode(bytes: &[u8], peer_is_client: bool) -> Verdict {
    let mut socket = tokio_websockets(bytes, peer_is_client);
    let mut verdict = Verdict::default();
    // Pending: it wants more than there is.
    while let Some(Some(result)) = socket.next().now_or_never() {
        let Ok(message) = result else {
            verdict.refused = true;
            break;
        };
        let payload = message.as_payload().to_vec();
        verdict.items.push(if message.is_ping() {
            Item::Ping(payload)
        } else if message.is_pong() {
            Item::Pong(payload)
        } else if message.is_close() {
            let reason = payload.split_first_chunk();
            Item::Close(reason.map(|(code, reason)| {
                (u16::from_be_bytes(*code), String::from_utf8(reason.to_vec()).expect("it was checked"))
            }))
        } else {
            Item::Data { text: message.is_text(), payload }
        });
        if message.is_close() {
            break;
        }
    }
    verdict
}

fn tokio_websockets_encode(items: &[Item], as_client: bool) -> Vec<u8> {
    use tokio_websockets::{CloseCode, Message};
    let mut socket = tokio_websockets(&[], !as_client);
    for item in items {
        let message = match item.clone() {
            Item::Data { text: true, payload } => {
                Message::text(String::from_utf8(payload).expect("text is UTF-8"))
            }
            Item::Data { text: false, payload } => Message::binary(payload),
            Item::Ping(data) => Message::ping(data),
            Item::Pong(data) => Message::pong(data),
            Item::Close(None) => Message::close(None, ""),
            Item::Close(Some((code, reason))) => {
                Message::close(Some(CloseCode::try_from(code).expect("a legal code")), &reason)
            }
        };
        socket.send(message).now_or_never().expect("a tape never waits").expect("a tape takes everything");
    }
    std::mem::take(&mut socket.get_mut().output)
}

/// What `engine` makes of the Close codes in `items`: tungstenite does not know 1014.
#[must_use]
pub fn known_close_codes(engine: Engine, items: &[Item]) -> Vec<Item> {
    let mut items = items.to_vec();
    if engine == Engine::Tungstenite {
        for item in &mut items {
            if let Item::Close(Some((code @ 1014, reason))) = item {
                (*code, *reason) = (1002, "Protocol violation".into());
            }
        }
    }
    items
}

/// Reads `bytes` with all engines. Panics where they disagree and no [`Difference`] explains it; returns the
/// differences that were met.
pub fn compare(bytes: &[u8], peer_is_client: bool) -> Vec<(Engine, Difference)> {
    let ours = decoder::decode(&[bytes], peer_is_client, LIMIT);
    let mut met = Vec::new();
    for engine in OTHERS {
        let theirs = engine.decode(bytes, peer_is_client);
        if ours.items == theirs.items && ours.error.is_some() == theirs.refused {
            continue;
        }
        match explain(bytes, &ours, &theirs, engine) {
            Some(difference) => met.push((engine, difference)),
            None => {
                panic!("{engine:?} disagrees:\n  ours {ours:?}\n  theirs {theirs:?}\n  bytes {bytes:02x?}")
            }
        }
    }
    met
}

fn explain(bytes: &[u8], ours: &Decoded, theirs: &Verdict, engine: Engine) -> Option<Difference> {
    let same = ours.items.iter().zip(&theirs.items).take_while(|(a, b)| a == b).count();
    // Up to and with the first item that only one of us has: what came before was taken alike.
    let faults = Faults::of(bytes, same + 1);
    if same == theirs.items.len() && theirs.refused {
        // We took more than they did.
        return if faults.text {
            Some(Difference::TextThatIsNotUtf8)
        } else if faults.half_header && ours.error.is_none() && same == ours.items.len() {
            Some(Difference::EarlyRefusal)
        } else {
            (faults.long_length && engine == Engine::TokioWebsockets).then_some(Difference::LongLength)
        };
    }
    if same == ours.items.len() && ours.error.is_some() && same == theirs.items.len() {
        return Some(Difference::EarlyRefusal);
    }
    if faults.long_length && engine == Engine::Tungstenite && ours.error == Some(ProtocolError::LongControl) {
        return Some(Difference::LongLength);
    }
    let replaced = Some((1002, String::from("Protocol violation")));
    let theirs_is_replaced = theirs.items.get(same) == Some(&Item::Close(replaced));
    (engine == Engine::Tungstenite && theirs_is_replaced && faults.close_code)
        .then_some(Difference::CloseCode)
}
