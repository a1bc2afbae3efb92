//! What a peer receives, and how it is shown to people.

use std::fmt;

use super::frame::{RawFrame, opcode};

/// A whole message or a control frame.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A binary message.
    Binary(Vec<u8>),
    /// A text message; its bytes need not be UTF-8.
    Text(Vec<u8>),
    /// A ping.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// A Close; without a code when its payload was shorter than two bytes.
    Close(Option<u16>, String),
}

impl Message {
    pub(super) fn data(kind: u8, payload: Vec<u8>) -> Self {
        if kind == opcode::TEXT { Self::Text(payload) } else { Self::Binary(payload) }
    }

    pub(super) fn control(kind: u8, payload: Vec<u8>) -> Self {
        match (kind, &payload[..]) {
            (opcode::PING, _) => Self::Ping(payload),
            (opcode::PONG, _) => Self::Pong(payload),
            (_, [high, low, reason @ ..]) => Self::Close(
                Some(u16::from_be_bytes([*high, *low])),
                String::from_utf8_lossy(reason).into_owned(),
            ),
            _ => Self::Close(None, String::new()),
        }
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Binary(payload) => write!(f, "binary {}", hex(payload)),
            Self::Text(payload) => write!(f, "text {}", hex(payload)),
            Self::Ping(payload) => write!(f, "ping {}", hex(payload)),
            Self::Pong(payload) => write!(f, "pong {}", hex(payload)),
            Self::Close(Some(code), reason) => write!(f, "close {code} {reason:?}"),
            Self::Close(None, _) => f.write_str("close without a code"),
        }
    }
}

/// Bytes as hexadecimal and as text, the first 48 of them.
pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write as _;
    let shown = &bytes[..bytes.len().min(48)];
    let mut out = String::new();
    for byte in shown {
        let _ = write!(out, "{byte:02x} ");
    }
    let more = if shown.len() < bytes.len() { "…" } else { "" };
    let _ = write!(out, "{more}\"{}{more}\" ({} bytes)", shown.escape_ascii(), bytes.len());
    out
}

pub(super) fn show_frame(frame: &RawFrame) -> String {
    let name = match frame.opcode {
        opcode::CONTINUATION => "continuation",
        opcode::TEXT => "text",
        opcode::BINARY => "binary",
        opcode::CLOSE => "close",
        opcode::PING => "ping",
        opcode::PONG => "pong",
        _ => "reserved",
    };
    let fin = if frame.fin { "" } else { ", more follows" };
    let reserved = if frame.reserved == 0 { "" } else { ", reserved bits" };
    let masked = if frame.mask.is_some() { ", masked" } else { "" };
    format!("{name}{fin}{reserved}{masked}: {}", hex(&frame.payload))
}
