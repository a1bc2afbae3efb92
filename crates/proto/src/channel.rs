//! Channels: the byte that names one, the modes it can have, and the base64 form.
//!
//! A message of a channel protocol is one byte for the channel and then the payload. In the base64 protocols
//! the byte is the character `'0' + channel` and the payload is base64, each message encoded on its own
//! (protocol of Kubernetes' `wsstream`; alphabet and padding of RFC 4648 section 4).

use std::fmt;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// The number of a channel, 0 to 255. What a number means is the application's business; remotecommand's are
/// constants here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u8);

impl ChannelId {
    /// remotecommand: client to server.
    pub const STDIN: Self = Self(0);
    /// remotecommand: server to client.
    pub const STDOUT: Self = Self(1);
    /// remotecommand: server to client; unused with a terminal.
    pub const STDERR: Self = Self(2);
    /// remotecommand: the status that ends the session, server to client.
    pub const ERROR: Self = Self(3);
    /// remotecommand: terminal sizes, client to server.
    ///
    /// The comment on v3 in the Go sources says channel 3; every client and server sends sizes on 4.
    pub const RESIZE: Self = Self(4);
    /// Not a channel: the first byte of the CLOSE signal of `v5.channel.k8s.io`, `[255, channel]`.
    pub const CLOSE: Self = Self(255);
}

impl fmt::Display for ChannelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What this side does with a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChannelMode {
    /// Neither reads nor writes: what the peer sends is dropped, before it is decoded.
    #[default]
    Ignore,
    /// Reads what the peer sends.
    Read,
    /// Writes to the peer; what the peer sends is dropped.
    Write,
    /// Both.
    ReadWrite,
}

impl ChannelMode {
    /// Whether this side reads the channel.
    #[must_use]
    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// Whether this side writes the channel.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }

    /// The peer's mode for a channel that has this mode here.
    #[must_use]
    pub fn mirrored(self) -> Self {
        match self {
            Self::Read => Self::Write,
            Self::Write => Self::Read,
            both_or_none => both_or_none,
        }
    }
}

/// As Go's `StdEncoding` decodes: padding required, trailing bits not checked.
const LIKE_GO: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_allow_trailing_bits(true)
        .with_decode_padding_mode(DecodePaddingMode::RequireCanonical),
);

/// Why a base64 payload was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad base64: {0}")]
pub struct Base64Error(#[from] base64::DecodeError);

/// The base64 form of `payload`, behind the character of `channel` where the protocol has channels.
#[must_use]
pub fn encode_base64(channel: Option<ChannelId>, payload: &[u8]) -> String {
    let mut text = String::with_capacity(1 + payload.len().div_ceil(3) * 4);
    // Wrapping as upstream reads it: channels above 207 have no character of their own and are never offered.
    text.extend(channel.map(|ChannelId(n)| char::from(n.wrapping_add(b'0'))));
    LIKE_GO.encode_string(payload, &mut text);
    text
}

/// Decodes the payload of one base64 message (without its channel character).
///
/// CR and LF are skipped anywhere, as Go's decoder does.
///
/// # Errors
///
/// The text is not base64; nothing of it may be delivered.
pub fn decode_base64(text: &[u8]) -> Result<Vec<u8>, Base64Error> {
    let line_break = |byte: &u8| matches!(byte, b'\r' | b'\n');
    if text.iter().any(line_break) {
        let joined: Vec<u8> = text.iter().copied().filter(|byte| !line_break(byte)).collect();
        return Ok(LIKE_GO.decode(joined)?);
    }
    Ok(LIKE_GO.decode(text)?)
}

/// The highest channel number that has an unambiguous character in the base64 protocols: `'0' + 79` is the last
/// ASCII one, and Go's server sends two bytes from there on.
pub const MAX_BASE64_CHANNEL: ChannelId = ChannelId(79);

/// The channel of a base64 message's first character: its value less `'0'`, with 8-bit wrap-around as upstream has
/// it, so a character below `'0'` becomes a number out of range.
#[must_use]
pub fn base64_channel(character: u8) -> ChannelId {
    ChannelId(character.wrapping_sub(b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_examples_of_the_specification() {
        assert_eq!(encode_base64(Some(ChannelId::STDIN), b"foo\n"), "0Zm9vCg==");
        assert_eq!(encode_base64(Some(ChannelId::STDOUT), b"\n"), "1Cg==");
        assert_eq!(encode_base64(Some(ChannelId::STDOUT), b""), "1");
        assert_eq!(encode_base64(None, b"server"), "c2VydmVy");
        assert_eq!(encode_base64(Some(ChannelId(2)), &[0xfb, 0x20]), "2+yA=");
    }

    #[test]
    fn decoding_is_as_lenient_as_go_and_no_more() {
        let rows: [(&str, Option<&[u8]>); 8] = [
            ("", Some(b"")),
            ("Zm9vCg==", Some(b"foo\n")),
            ("Zm9v\r\nCg==\n", Some(b"foo\n")),
            // trailing bits are tolerated
            ("Zm9vCh==", Some(b"foo\n")),
            ("Zm9vCg", None),
            ("Zm9vCg=", None),
            ("Zm9_", None),
            ("!", None),
        ];
        for (text, expect) in rows {
            assert_eq!(decode_base64(text.as_bytes()).ok().as_deref(), expect, "{text:?}");
        }
    }

    #[test]
    fn a_base64_channel_is_not_limited_to_digits_and_wraps_below_them() {
        assert_eq!(base64_channel(b'4'), ChannelId::RESIZE);
        assert_eq!(base64_channel(b':'), ChannelId(10));
        assert_eq!(base64_channel(b' '), ChannelId(240));
    }
}
