//! The versions of the channel protocol, as rows of one table, and the choice between them.
//!
//! Everything that differs between `channel.k8s.io`, `v4.channel.k8s.io`, `v5.channel.k8s.io` and their base64
//! forms is a column here, so that no other file compares names. A version is added by adding a row.

use std::borrow::Cow;

use thiserror::Error;

/// An offer that starts so is no protocol: it carries a bearer token in unpadded base64url, because browsers
/// cannot set an `Authorization` header on a WebSocket. It is a secret and never appears in an error text.
pub const BEARER_TOKEN_PREFIX: &str = "base64url.bearer.authorization.k8s.io.";

/// How a message is carried in a WebSocket frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Binary frames; the bytes as they are.
    Binary,
    /// Text frames; standard alphabet with padding, each message on its own.
    Base64,
}

/// Whether a message names a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Framing {
    /// The first byte names the channel (base64: one character, `'0'` + number).
    Channels,
    /// No channel byte: one stream, as the reader protocols (logs) have it.
    Single,
}

/// The generation of the remote command protocol that a name stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteVersion {
    /// `channel.k8s.io`, and over WebSocket also no name at all: stdin, stdout, stderr and a textual error stream.
    V1,
    /// `v2.channel.k8s.io`: half-close of stdin, which only SPDY can express; over WebSocket the same as v1.
    V2,
    /// `v3.channel.k8s.io`: terminal sizes.
    V3,
    /// `v4.channel.k8s.io`: the error stream is a JSON `Status` and carries the exit code.
    V4,
    /// `v5.channel.k8s.io`: the CLOSE message.
    V5,
}

/// One row of the table: a subprotocol name and what it promises.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subprotocol {
    name: Cow<'static, str>,
    encoding: Encoding,
    framing: Framing,
    version: Option<RemoteVersion>,
}

impl Subprotocol {
    /// No subprotocol requested: raw channels, as `channel.k8s.io`. Browsers' and C#'s attach ask for nothing.
    pub const NONE: Self = Self::remote("", Encoding::Binary, RemoteVersion::V1);
    /// `channel.k8s.io`: raw channels.
    pub const CHANNEL: Self = Self::remote("channel.k8s.io", Encoding::Binary, RemoteVersion::V1);
    /// `v2.channel.k8s.io`: over WebSocket it exists only as a name in offers; behaves as v1.
    pub const V2: Self = Self::remote("v2.channel.k8s.io", Encoding::Binary, RemoteVersion::V2);
    /// `v3.channel.k8s.io`: over WebSocket it exists only as a name in offers; v2 with sizes.
    ///
    /// Erratum: the v3 paragraph of upstream's documentation puts sizes on channel 3. On the wire they are on
    /// channel 4 in every version, and channel 3 carries the error stream.
    pub const V3: Self = Self::remote("v3.channel.k8s.io", Encoding::Binary, RemoteVersion::V3);
    /// `v4.channel.k8s.io`: JSON status.
    pub const V4: Self = Self::remote("v4.channel.k8s.io", Encoding::Binary, RemoteVersion::V4);
    /// `v5.channel.k8s.io`: JSON status and the CLOSE message.
    pub const V5: Self = Self::remote("v5.channel.k8s.io", Encoding::Binary, RemoteVersion::V5);
    /// `base64.channel.k8s.io`: v1 in text frames.
    pub const BASE64_CHANNEL: Self =
        Self::remote("base64.channel.k8s.io", Encoding::Base64, RemoteVersion::V1);
    /// `v4.base64.channel.k8s.io`: v4 in text frames.
    pub const V4_BASE64_CHANNEL: Self =
        Self::remote("v4.base64.channel.k8s.io", Encoding::Base64, RemoteVersion::V4);
    /// The reader's row for no subprotocol: binary messages without a channel byte.
    pub const READER_NONE: Self = Self::custom("", Encoding::Binary, Framing::Single);
    /// `binary.k8s.io`: one stream in binary messages.
    pub const BINARY: Self = Self::custom("binary.k8s.io", Encoding::Binary, Framing::Single);
    /// `base64.binary.k8s.io`: one stream in text messages.
    pub const BASE64_BINARY: Self = Self::custom("base64.binary.k8s.io", Encoding::Base64, Framing::Single);

    /// A row with a name of your own and no remote command version: no status, no sizes, no CLOSE.
    ///
    /// The name goes into an HTTP header, so it should be an HTTP token or empty; a name with a comma or with
    /// spaces around it is never matched by an offer.
    #[must_use]
    pub const fn custom(name: &'static str, encoding: Encoding, framing: Framing) -> Self {
        Self { name: Cow::Borrowed(name), encoding, framing, version: None }
    }

    /// As [`custom`](Self::custom), for a name that is known only at run time.
    #[must_use]
    pub const fn custom_owned(name: String, encoding: Encoding, framing: Framing) -> Self {
        Self { name: Cow::Owned(name), encoding, framing, version: None }
    }

    /// The same row with the promises of a remote command version, for private names of a public protocol.
    #[must_use]
    pub const fn with_version(mut self, version: RemoteVersion) -> Self {
        self.version = Some(version);
        self
    }

    const fn remote(name: &'static str, encoding: Encoding, version: RemoteVersion) -> Self {
        Self::custom(name, encoding, Framing::Channels).with_version(version)
    }

    /// The name on the wire. Empty: nothing was requested, and the answer carries no subprotocol header.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How messages are carried.
    #[must_use]
    pub const fn encoding(&self) -> Encoding {
        self.encoding
    }

    /// Whether messages name a channel.
    #[must_use]
    pub const fn framing(&self) -> Framing {
        self.framing
    }

    /// The remote command version, `None` for reader protocols and for custom rows without one.
    #[must_use]
    pub const fn version(&self) -> Option<RemoteVersion> {
        self.version
    }

    /// The error stream is a JSON `Status` (v4 and later). Elsewhere it is plain text, and empty means success.
    #[must_use]
    pub fn json_status(&self) -> bool {
        self.version >= Some(RemoteVersion::V4)
    }

    /// The version promises terminal sizes (v3 and later).
    ///
    /// A client consults this before it sends a size. A WebSocket server reads channel 4 whatever was
    /// negotiated, as upstream does.
    #[must_use]
    pub fn resize(&self) -> bool {
        self.version >= Some(RemoteVersion::V3)
    }

    /// One direction of one channel can be ended over WebSocket: the CLOSE message (v5 only).
    ///
    /// v2 to v4 promise the half-close of stdin over SPDY only; over WebSocket they have no bytes for it.
    #[must_use]
    pub fn half_close(&self) -> bool {
        self.version >= Some(RemoteVersion::V5)
    }

    /// The FIN of SPDY ends stdin (v2 to v4). The server of v1 closes its side of stdin and resets the error stream at
    /// the start, a fault of Kubernetes 1.0 that was kept.
    #[must_use]
    pub fn spdy_half_close(&self) -> bool {
        (Some(RemoteVersion::V2)..=Some(RemoteVersion::V4)).contains(&self.version)
    }

    /// The channel protocol of this exact, case-sensitive name; the empty name is [`NONE`](Self::NONE).
    /// Reader protocols are not found here.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        REMOTECOMMAND.iter().find(|row| row.name == name)
    }

    /// v2 and v3 over WebSocket exist only in offers: nobody serves them, so they never displace a better name.
    fn is_last_resort(&self) -> bool {
        matches!(self.version, Some(RemoteVersion::V2 | RemoteVersion::V3))
    }
}

/// Every channel protocol, best first: what a server of remote commands accepts.
pub static REMOTECOMMAND: &[Subprotocol] = &[
    Subprotocol::V5,
    Subprotocol::V4,
    Subprotocol::V4_BASE64_CHANNEL,
    Subprotocol::V3,
    Subprotocol::V2,
    Subprotocol::CHANNEL,
    Subprotocol::BASE64_CHANNEL,
    Subprotocol::NONE,
];

/// The default set of upstream's channel server, which knows nothing of remote commands.
pub static DEFAULT_CHANNELS: &[Subprotocol] =
    &[Subprotocol::NONE, Subprotocol::CHANNEL, Subprotocol::BASE64_CHANNEL];

/// The set of the one-way reader (logs).
pub static READER: &[Subprotocol] =
    &[Subprotocol::READER_NONE, Subprotocol::BINARY, Subprotocol::BASE64_BINARY];

/// The versions that exist over SPDY, best first. v5 is known to WebSocket only: its CLOSE is a FIN there.
pub static SPDY_REMOTECOMMAND: &[Subprotocol] =
    &[Subprotocol::V4, Subprotocol::V3, Subprotocol::V2, Subprotocol::CHANNEL];

/// The token of the `Upgrade` header that asks for SPDY.
pub const SPDY_UPGRADE: &str = "SPDY/3.1";

/// The header in which a SPDY client lists its versions, a line each, and the server answers with one.
pub const STREAM_PROTOCOL_VERSION: &str = "X-Stream-Protocol-Version";

/// The header in which a server that refuses all of them lists its own.
pub const ACCEPTED_STREAM_PROTOCOL_VERSIONS: &str = "X-Accepted-Stream-Protocol-Versions";

/// Whether the protocol of this exact name has the CLOSE message.
#[must_use]
pub fn supports_close(name: &str) -> bool {
    Subprotocol::by_name(name).is_some_and(Subprotocol::half_close)
}

/// The offers in all `Sec-WebSocket-Protocol` lines, in order; empty items are dropped.
///
/// RFC 6455 4.1 allows several lines and RFC 9110 5.3 makes them one list. Upstream reads only the first line.
pub fn parse_offers<'a>(lines: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    lines
        .into_iter()
        .flat_map(|line| line.split(','))
        .map(|item| item.trim_matches([' ', '\t']))
        .filter(|item| !item.is_empty())
        .collect()
}

/// Whether this exact, case-sensitive name is among the offers.
#[must_use]
pub fn contains_offer(offers: &[&str], name: &str) -> bool {
    offers.contains(&name)
}

/// Chooses the row to speak: the client's first offer that is supported, names compared exactly.
///
/// No offers at all stand for the one offer `""`, which is accepted only where the set has such a row. v2 and v3
/// are taken only when no other offer is supported, even if the client lists them first.
///
/// # Errors
/// [`NegotiationError`] when no offer is supported; upstream's answer to that is 403.
pub fn negotiate<'s>(
    supported: &'s [Subprotocol],
    offers: &[&str],
) -> Result<&'s Subprotocol, NegotiationError> {
    let offers = if offers.is_empty() { &[""] } else { offers };
    let first = |last_resort: bool| {
        offers.iter().find_map(|offer| {
            supported.iter().find(|row| row.name == *offer && row.is_last_resort() == last_resort)
        })
    };
    first(false).or_else(|| first(true)).ok_or_else(|| NegotiationError::new(supported, offers))
}

/// Client and server share no subprotocol. The client's fault, or a difference of versions.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("unable to negotiate protocol: client supports {offered:?}, server accepts {accepted:?}")]
pub struct NegotiationError {
    offered: Vec<String>,
    accepted: Vec<String>,
}

impl NegotiationError {
    fn new(supported: &[Subprotocol], offers: &[&str]) -> Self {
        let offered = offers.iter().map(|offer| match offer.strip_prefix(BEARER_TOKEN_PREFIX) {
            Some(_) => format!("{BEARER_TOKEN_PREFIX}<token>"),
            None => (*offer).to_owned(),
        });
        let accepted = supported.iter().map(|row| row.name().to_owned());
        Self { offered: offered.collect(), accepted: accepted.collect() }
    }

    /// What the client offered, in its order; `[""]` if nothing. Bearer tokens are replaced by a placeholder.
    #[must_use]
    pub fn offered(&self) -> &[String] {
        &self.offered
    }

    /// What the server would have accepted, in its order; `""` means that no subprotocol is acceptable too.
    #[must_use]
    pub fn accepted(&self) -> &[String] {
        &self.accepted
    }
}
