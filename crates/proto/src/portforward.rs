//! Port-forward: which ports a request names, which channels or streams belong to one connection, and what they say
//! first.
//!
//! Two shapes exist. Over SPDY, plain or [in a WebSocket](Subprotocol::PORTFORWARD_TUNNEL), each connection is a pair of
//! streams with the same request id, opened when it is needed. Over the [v4 channels](PORTFORWARD_WEBSOCKET) the URL names
//! the ports, each of which is one connection for the life of the WebSocket on a pair of channels.

use std::fmt;

use thiserror::Error;

use crate::channel::{ChannelId, ChannelMode};
use crate::remotecommand::Spelling;
use crate::spdy::{Headers, StreamId};
use crate::stream_type::{STREAM_TYPE, StreamType};
use crate::subprotocol::{Encoding, Framing, Subprotocol};

/// The header that names a stream's port, in decimal.
pub const PORT: &str = "port";

/// The header that names the connection a stream belongs to.
pub const REQUEST_ID: &str = "requestid";

/// How many ports one request over channels may name: their channels just fit into the base64 form, and each is a
/// connection that is opened at once.
pub const MAX_PORTS: usize = 40;

impl Subprotocol {
    /// `portforward.k8s.io`: pairs of streams over SPDY.
    pub const PORTFORWARD: Self = Self::custom("portforward.k8s.io", Encoding::Binary, Framing::Single);
    /// `SPDY/3.1+portforward.k8s.io`: the bytes of such a SPDY connection in the messages of a WebSocket, whose
    /// boundaries mean nothing. KEP-4006 calls it by another name; this is the one on the wire.
    pub const PORTFORWARD_TUNNEL: Self =
        Self::custom("SPDY/3.1+portforward.k8s.io", Encoding::Binary, Framing::Single);

    /// This is the tunnel, and no channel protocol.
    #[must_use]
    pub fn is_tunnel(&self) -> bool {
        *self == Self::PORTFORWARD_TUNNEL
    }
}

/// What a server of port-forward takes over WebSocket. Clients offer v5 before v4 and must not get it: its CLOSE breaks
/// them here. Without a name the channels are those of v4, as the C# client has it.
pub static PORTFORWARD_WEBSOCKET: &[Subprotocol] =
    &[Subprotocol::PORTFORWARD_TUNNEL, Subprotocol::V4, Subprotocol::V4_BASE64_CHANNEL, Subprotocol::NONE];

/// What a server of port-forward takes over plain SPDY.
pub static PORTFORWARD_SPDY: &[Subprotocol] = &[Subprotocol::PORTFORWARD];

/// Reads a port, 1 to 65535.
///
/// # Errors
/// It is none; the text is upstream's.
pub fn parse_port(text: &str) -> Result<u16, PortError> {
    match text.parse() {
        Ok(0) => Err(PortError::Zero(text.to_owned())),
        // Rust takes a sign where Go's unsigned parser does not.
        Ok(port) if text.bytes().all(|byte| byte.is_ascii_digit()) => Ok(port),
        _ => Err(PortError::NotAPort(text.chars().take(64).collect())),
    }
}

/// A text that is no port.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PortError {
    /// Not a number from 0 to 65535.
    #[error("unable to parse {0:?} as a port: it must be a number from 1 to 65535")]
    NotAPort(String),
    /// Port 0 can be listened on but not connected to.
    #[error("port {0:?} must be > 0")]
    Zero(String),
}

const fn parameter(spelling: Spelling) -> &'static str {
    match spelling {
        Spelling::ApiServer => "ports",
        Spelling::Kubelet => "port",
    }
}

/// The ports that the part of a URL after `?` names, in order: the parameter `ports` (at the kubelet: `port`), repeated,
/// or with commas, or both. A port that is named twice is two connections.
///
/// Only channels need them: over SPDY each stream names its own.
///
/// # Errors
/// The client's fault, HTTP 400.
pub fn parse_ports(query: &str, spelling: Spelling) -> Result<Vec<u16>, PortsError> {
    let name = parameter(spelling);
    let mut ports = Vec::new();
    let mut named = false;
    for (key, value) in form_urlencoded::parse(query.as_bytes()) {
        if key != name {
            continue;
        }
        named = true;
        if value.is_empty() {
            return Err(PortsError::Empty(name));
        }
        for text in value.split(',') {
            ports.push(parse_port(text)?);
            if ports.len() > MAX_PORTS {
                return Err(PortsError::TooMany);
            }
        }
    }
    if named { Ok(ports) } else { Err(PortsError::Missing(name)) }
}

/// The same rules for ports that were named some other way than by a query.
///
/// # Errors
/// There is none, one is 0, or there are more than [`MAX_PORTS`].
pub fn check_ports(ports: &[u16]) -> Result<Vec<u16>, PortsError> {
    if ports.is_empty() {
        return Err(PortsError::NoneGiven);
    }
    if ports.contains(&0) {
        return Err(PortError::Zero("0".to_owned()).into());
    }
    if ports.len() > MAX_PORTS {
        return Err(PortsError::TooMany);
    }
    Ok(ports.to_vec())
}

/// The part of a URL after `?` that names `ports`, which every server understands: the parameter repeated.
#[must_use]
pub fn ports_query(ports: &[u16], spelling: Spelling) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    for port in ports {
        query.append_pair(parameter(spelling), &port.to_string());
    }
    query.finish()
}

/// A query that names no ports that could be forwarded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PortsError {
    /// The parameter is not there.
    #[error("query parameter {0:?} is required")]
    Missing(&'static str),
    /// No port was named where none could be in a query.
    #[error("channels need at least one port; use SPDY/3.1 or its tunnel to name them later")]
    NoneGiven,
    /// The parameter has no value.
    #[error("query parameter {0:?} cannot be empty")]
    Empty(&'static str),
    /// One of the values is no port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// More than [`MAX_PORTS`].
    #[error("more than {MAX_PORTS} ports in one request; open several, or use SPDY/3.1 or its tunnel")]
    TooMany,
}

/// The channels of the port at `index` in the URL: its data and its error text. `None` from [`MAX_PORTS`] on.
#[must_use]
pub fn channels_of(index: usize) -> Option<(ChannelId, ChannelId)> {
    let data = u8::try_from(index).ok().filter(|_| index < MAX_PORTS)? * 2;
    Some((ChannelId(data), ChannelId(data + 1)))
}

/// The modes of the channels for so many ports, on the server's side.
pub fn channel_modes(ports: usize) -> impl Iterator<Item = ChannelMode> {
    (0..ports.min(MAX_PORTS)).flat_map(|_| [ChannelMode::ReadWrite, ChannelMode::Write])
}

/// What the server sends first on both channels of a port, before any data: the port, least significant byte first.
#[must_use]
pub const fn preamble(port: u16) -> [u8; 2] {
    port.to_le_bytes()
}

/// The port that a preamble names.
#[must_use]
pub const fn preamble_port(preamble: [u8; 2]) -> u16 {
    u16::from_le_bytes(preamble)
}

/// What ties the two streams of one connection together: any text, a number that counts from 0 in Go's client.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(String);

impl RequestId {
    /// The id of a client's connection.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number.to_string())
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A peer's text must not break a line of the log.
        self.0.escape_debug().fmt(f)
    }
}

/// Which half of a connection a stream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Half {
    /// Its bytes, both ways.
    Data,
    /// Why it failed: the server's text, empty if it did not.
    Error,
}

impl Half {
    const fn stream_type(self) -> StreamType {
        match self {
            Self::Data => StreamType::Data,
            Self::Error => StreamType::Error,
        }
    }
}

/// What the headers of one stream say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamRequest {
    /// Which half it is.
    pub half: Half,
    /// The port to connect to.
    pub port: u16,
    /// The connection it belongs to.
    pub request: RequestId,
}

impl StreamRequest {
    /// Reads the headers of the stream `id`.
    ///
    /// Clients from before request ids (Kubernetes 1.1) open error and data one right after the other; there the error
    /// stream's number stands for the id, as upstream has it.
    ///
    /// # Errors
    /// The stream is to be refused; the text is for the log.
    pub fn parse(headers: &Headers, id: StreamId) -> Result<Self, StreamRequestError> {
        let port = headers.text(PORT).filter(|port| !port.is_empty()).ok_or(StreamRequestError::NoPort)?;
        let port = parse_port(port)?;
        let half = match headers.get(STREAM_TYPE).filter(|kind| !kind.is_empty()) {
            None => return Err(StreamRequestError::NoType),
            Some(kind) => match StreamType::by_name(kind) {
                Some(StreamType::Data) => Half::Data,
                Some(StreamType::Error) => Half::Error,
                _ => {
                    let kind = String::from_utf8_lossy(kind).chars().take(64).collect();
                    return Err(StreamRequestError::WrongType(kind));
                }
            },
        };
        let request = match headers.text(REQUEST_ID).filter(|id| !id.is_empty()) {
            Some(text) if text.len() > MAX_REQUEST_ID => return Err(StreamRequestError::LongId),
            Some(text) => RequestId(text.to_owned()),
            None if half == Half::Error => RequestId(id.get().to_string()),
            None => RequestId(id.get().saturating_sub(2).to_string()),
        };
        Ok(Self { half, port, request })
    }

    /// The headers that say this.
    #[must_use]
    pub fn headers(&self) -> Headers {
        Headers::from_iter([
            (STREAM_TYPE, self.half.stream_type().name()),
            (PORT, &self.port.to_string()),
            (REQUEST_ID, &self.request.0),
        ])
    }
}

/// The longest request id taken, in bytes; a 64-bit counter has 20 digits, a UUID 36.
const MAX_REQUEST_ID: usize = 64;

/// Why a stream is refused. The texts are upstream's where it has the case.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamRequestError {
    /// No port is named.
    #[error("\"port\" header is required")]
    NoPort,
    /// What is named is no port.
    #[error(transparent)]
    Port(#[from] PortError),
    /// Nothing says which half it is.
    #[error("\"streamType\" header is required")]
    NoType,
    /// Neither data nor error.
    #[error("invalid stream type {0:?}")]
    WrongType(String),
    /// An id that is longer than any that has been seen.
    #[error("the request id is longer than {MAX_REQUEST_ID} bytes")]
    LongId,
}
