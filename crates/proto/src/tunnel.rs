//! A byte stream inside a WebSocket: the machine of the `SPDY/3.1+portforward.k8s.io` tunnel.
//!
//! Its binary messages carry the stream; where one ends and the next begins has no meaning. spdystream makes a message
//! of each of its small writes, some of them empty, so messages of any length are taken, piece by piece, and
//! empty ones are counted. Text is refused, as upstream refuses it.
//!
//! # Calling contract
//!
//! 1. Append received bytes to a buffer and call [`Tunnel::handle_input`] until it returns `Ok(None)`.
//! 2. Queue with [`Tunnel::send`], and write [`Tunnel::outbox`] to the wire whenever it is not empty; pongs appear there
//!    unasked. `send` takes what it is given: ask the outbox first.
//! 3. After [`Event::Closed`] no more events come. What this side sends still goes until [`Tunnel::close`].
//! 4. After an error no more events come and Close is in the outbox.
//! 5. Call [`Tunnel::reset_rates`] every 10 s.

use std::io::IoSlice;

use bytes::BytesMut;

use crate::connection::Role;
use crate::ws::{CloseCode, CloseReason, Decoder, Frame, Opcode, Outbox, ProtocolError};

/// Something that came through the tunnel.
#[derive(Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The next bytes of the stream: never empty, and a view of the input.
    Data(BytesMut),
    /// The peer closed. The stream is at its end when [`is_end`] says so, and broken otherwise.
    Closed(CloseReason),
}

/// Whether a Close is the end of the stream: 1000 as upstream has it, 1001 as a server says that stops, and none at all.
#[must_use]
pub fn is_end(reason: &CloseReason) -> bool {
    matches!(reason.code, None | Some(CloseCode::NORMAL | CloseCode::GOING_AWAY))
}

/// How the peer broke the rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// Of the WebSocket protocol.
    #[error("{0}")]
    Protocol(#[from] ProtocolError),
    /// A text message.
    #[error("a text message in a tunnel of bytes")]
    Text,
    /// More empty messages than a peer has use for.
    #[error("a flood of empty messages")]
    EmptyMessages,
}

impl Violation {
    /// The code of the Close frame that answers it.
    #[must_use]
    pub fn close_code(&self) -> CloseCode {
        match self {
            Self::Protocol(error) => error.close_code(),
            Self::Text => CloseCode::UNSUPPORTED,
            Self::EmptyMessages => CloseCode::POLICY,
        }
    }
}

/// One end of a tunnel. See the [module](self) for how to drive it.
#[derive(Debug)]
pub struct Tunnel {
    role: Role,
    decoder: Decoder,
    outbox: Outbox,
    max_empty: u32,
    /// Empty messages since the rates were last reset.
    empty: u32,
    /// The message that is coming in has been empty so far.
    says_nothing: bool,
    received_close: Option<CloseReason>,
    sent_close: bool,
    failed: Option<Violation>,
}

impl Tunnel {
    /// One end, with the number of empty messages that it takes between two calls of [`reset_rates`](Self::reset_rates).
    #[must_use]
    pub fn new(role: Role, max_empty: u32) -> Self {
        let peer_is_client = matches!(role, Role::Server);
        Self {
            role,
            // Pieces are handed on as they come, so no length is too long.
            decoder: Decoder::new(peer_is_client, u64::MAX),
            outbox: Outbox::default(),
            max_empty,
            empty: 0,
            says_nothing: false,
            received_close: None,
            sent_close: false,
            failed: None,
        }
    }

    /// Takes the next event from the front of `input`; `Ok(None)` when more input is needed, or the peer has closed.
    ///
    /// # Errors
    ///
    /// The peer broke a rule; Close is in the outbox. The same error is returned from then on.
    pub fn handle_input(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        if let Some(violation) = &self.failed {
            return Err(violation.clone());
        }
        if self.received_close.is_some() {
            return Ok(None);
        }
        self.next_event(input).inspect_err(|violation| {
            self.close(&CloseReason::new(violation.close_code(), violation.to_string()));
            self.failed = Some(violation.clone());
        })
    }

    fn next_event(&mut self, input: &mut BytesMut) -> Result<Option<Event>, Violation> {
        while let Some(frame) = self.decoder.decode(input)? {
            match frame {
                Frame::Data { opcode: Opcode::Text, .. } => return Err(Violation::Text),
                Frame::Data { first, last, payload, .. } => {
                    if let Some(data) = self.data_came(first, last, payload)? {
                        return Ok(Some(Event::Data(data)));
                    }
                }
                Frame::Ping(payload) if !self.sent_close => {
                    let mask = self.mask();
                    self.outbox.control(Opcode::Pong, &payload, mask);
                }
                Frame::Ping(_) | Frame::Pong(_) => {}
                Frame::Close(reason) => {
                    self.received_close = Some(reason.clone());
                    return Ok(Some(Event::Closed(reason)));
                }
            }
        }
        Ok(None)
    }

    /// A piece of a message. Only messages that are empty as a whole count: Go's servers end each longer one with an empty
    /// fragment.
    fn data_came(
        &mut self,
        first: bool,
        last: bool,
        payload: BytesMut,
    ) -> Result<Option<BytesMut>, Violation> {
        self.says_nothing = (first || self.says_nothing) && payload.is_empty();
        if last && self.says_nothing {
            self.empty += 1;
            if self.empty > self.max_empty {
                return Err(Violation::EmptyMessages);
            }
        }
        Ok(Some(payload).filter(|payload| !payload.is_empty()))
    }

    /// Queues one message of up to `max` bytes from the front of `parts` and returns how many it took; nothing is queued
    /// for no bytes, and 0 is returned behind Close.
    pub fn send(&mut self, parts: &[IoSlice<'_>], max: usize) -> usize {
        let len = parts.iter().map(|part| part.len()).sum::<usize>().min(max);
        if len == 0 || self.sent_close {
            return 0;
        }
        let mask = self.mask();
        self.outbox.gathered(Opcode::Binary, parts, len, mask);
        len
    }

    /// Ends this side's half of the stream, behind everything that was sent; with the peer's own reason where it closed
    /// first (RFC 6455 section 5.5.1). Doing it twice is the same as once.
    pub fn close(&mut self, reason: &CloseReason) {
        if !std::mem::replace(&mut self.sent_close, true) {
            let answer = self
                .received_close
                .as_ref()
                .map(|first| CloseReason { code: first.code, reason: String::new() });
            let payload = answer.as_ref().unwrap_or(reason).encode();
            let mask = self.mask();
            self.outbox.control(Opcode::Close, &payload, mask);
        }
    }

    /// Whether the peer has closed.
    #[must_use]
    pub fn received_close(&self) -> bool {
        self.received_close.is_some()
    }

    /// Whether Close was queued.
    #[must_use]
    pub fn sent_close(&self) -> bool {
        self.sent_close
    }

    /// The bytes that wait for the wire.
    pub fn outbox(&mut self) -> &mut Outbox {
        &mut self.outbox
    }

    /// Begins to count empty messages anew.
    pub fn reset_rates(&mut self) {
        self.empty = 0;
    }

    fn mask(&self) -> Option<[u8; 4]> {
        match self.role {
            Role::Server => None,
            Role::Client { mask } => Some(mask()),
        }
    }
}
