//! Close codes and reasons: RFC 6455 sections 5.5.1 and 7.4.

use std::fmt;

/// The status code of a Close frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CloseCode(u16);

impl CloseCode {
    /// The purpose of the connection is fulfilled. Stock clients accept a session's status only with this code.
    pub const NORMAL: Self = Self(1000);
    /// The endpoint goes away: a server stops, an idle session ends.
    pub const GOING_AWAY: Self = Self(1001);
    /// The peer broke the WebSocket protocol.
    pub const PROTOCOL: Self = Self(1002);
    /// A kind of message that this side cannot take, such as text in a tunnel of bytes.
    pub const UNSUPPORTED: Self = Self(1003);
    /// A text was not UTF-8. Only a Close frame's reason is checked here.
    pub const INVALID_DATA: Self = Self(1007);
    /// The peer broke a rule that is not WebSocket's, such as a malformed channel CLOSE.
    pub const POLICY: Self = Self(1008);
    /// A message is larger than this side takes.
    pub const TOO_BIG: Self = Self(1009);
    /// This side failed: the session has no status, and none may be inferred.
    pub const INTERNAL: Self = Self(1011);
    /// This side has no room now.
    pub const TRY_AGAIN: Self = Self(1013);

    /// A code that may stand in a Close frame; `None` for the rest (RFC 6455 sections 7.4.1 and 7.4.2).
    #[must_use]
    pub fn new(code: u16) -> Option<Self> {
        matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999).then_some(Self(code))
    }

    /// The number on the wire.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Debug for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CloseCode({})", self.0)
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self.0 {
            1000 => "normal",
            1001 => "going away",
            1002 => "protocol error",
            1003 => "unsupported data",
            1007 => "invalid data",
            1008 => "policy violation",
            1009 => "message too big",
            1010 => "extension required",
            1011 => "internal server error",
            1012 => "service restart",
            1013 => "try again later",
            1014 => "bad gateway",
            _ => return write!(f, "{}", self.0),
        };
        write!(f, "{} ({name})", self.0)
    }
}

/// What a Close frame says: a code and a text, or nothing at all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CloseReason {
    /// `None` when the frame had no payload; clients report that as 1005.
    pub code: Option<CloseCode>,
    /// Why, for people; at most 123 bytes of UTF-8 on the wire.
    pub reason: String,
}

impl CloseReason {
    /// A code without a text.
    #[must_use]
    pub fn code(code: CloseCode) -> Self {
        Self { code: Some(code), reason: String::new() }
    }

    /// A code and a text. On the wire the text is cut to 123 bytes, at a character boundary.
    #[must_use]
    pub fn new(code: CloseCode, reason: impl Into<String>) -> Self {
        Self { code: Some(code), reason: reason.into() }
    }

    /// Whether the peer ended the session in good order. Only 1000 counts, as it does for client-go.
    #[must_use]
    pub fn is_normal(&self) -> bool {
        self.code == Some(CloseCode::NORMAL)
    }

    /// The payload of the Close frame.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let Some(code) = self.code else { return Vec::new() };
        let mut payload = code.get().to_be_bytes().to_vec();
        let mut end = self.reason.len().min(super::MAX_CONTROL - payload.len());
        while !self.reason.is_char_boundary(end) {
            end -= 1;
        }
        payload.extend_from_slice(self.reason.get(..end).unwrap_or_default().as_bytes());
        payload
    }

    /// Reads the payload of a Close frame; the error is the code to answer with and why.
    pub(super) fn decode(payload: &[u8]) -> Result<Self, super::ProtocolError> {
        match payload {
            [] => Ok(Self::default()),
            [_] => Err(super::ProtocolError::CloseLength),
            [high, low, reason @ ..] => {
                let number = u16::from_be_bytes([*high, *low]);
                let code = CloseCode::new(number).ok_or(super::ProtocolError::CloseCode(number))?;
                let reason = std::str::from_utf8(reason).map_err(|_| super::ProtocolError::CloseUtf8)?;
                Ok(Self { code: Some(code), reason: reason.to_owned() })
            }
        }
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            Some(code) => write!(f, "close {code}")?,
            None => f.write_str("close without a code")?,
        }
        if !self.reason.is_empty() {
            // A peer's text may hold control characters, and this line may reach a terminal or a log.
            write!(f, ": {}", self.reason.escape_debug())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ws::ProtocolError;

    #[test]
    fn a_reason_is_cut_at_a_character() {
        let close = CloseReason::new(CloseCode::INTERNAL, "é".repeat(100));
        let payload = close.encode();
        assert_eq!(payload.len(), 2 + 122);
        assert_eq!(CloseReason::decode(&payload).unwrap().reason, "é".repeat(61));
    }

    #[test]
    fn payloads_are_checked_as_rfc_6455_asks() {
        let rows: [(&[u8], Result<CloseReason, ProtocolError>); 6] = [
            (&[], Ok(CloseReason::default())),
            (&[3], Err(ProtocolError::CloseLength)),
            (&[0x03, 0xe8], Ok(CloseReason::code(CloseCode::NORMAL))),
            (&[0x03, 0xed], Err(ProtocolError::CloseCode(1005))),
            (&[0x03, 0xe7], Err(ProtocolError::CloseCode(999))),
            (&[0x03, 0xe8, 0xff], Err(ProtocolError::CloseUtf8)),
        ];
        for (payload, expect) in rows {
            assert_eq!(CloseReason::decode(payload), expect, "{payload:?}");
        }
    }
}
