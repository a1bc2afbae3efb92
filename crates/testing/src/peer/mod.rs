//! The other end of a WebSocket, scripted: a test of what a session does reads like its transcript.
//!
//! ```no_run
//! # use wsstream_testing::{Peer, Plan, awkward_pair};
//! # async fn f() {
//! # let (ours, theirs) = awkward_pair(Plan::smooth(), Plan::smooth(), 1024);
//! let mut peer = Peer::client(theirs);
//! peer.expect_binary(&[1]).await;
//! peer.send_binary(b"\x00abc").await;
//! peer.expect_binary(b"\x01abc").await;
//! peer.expect_close(1000).await;
//! peer.close(1000).await;
//! peer.expect_eof().await;
//! # }
//! ```
//!
//! Every expectation has a deadline and panics with what was expected, what came, the line of the test, and the
//! last lines of the transcript. The peer answers nothing by itself, not even pings, unless it is
//! [told to](Peer::answer_pings).

mod expect;
mod frame;
mod message;

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::{error::Elapsed, timeout};

pub use frame::{RawFrame, opcode};
pub use message::Message;

/// How many lines of the transcript a failure shows.
const SHOWN: usize = 16;

/// A scripted WebSocket peer over any stream whose upgrade is done.
#[derive(Debug)]
pub struct Peer<T> {
    io: T,
    is_client: bool,
    input: Vec<u8>,
    /// The opcode and the payload so far of a fragmented message.
    partial: Option<(u8, Vec<u8>)>,
    deadline: Duration,
    answer_pings: bool,
    reads: bool,
    keys: u32,
    log: VecDeque<String>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Peer<T> {
    /// The client's end: masks what it sends, and insists that what comes is not masked.
    pub fn client(io: T) -> Self {
        Self::new(io, true)
    }

    /// The server's end: masks nothing, and insists that what comes is masked.
    pub fn server(io: T) -> Self {
        Self::new(io, false)
    }

    fn new(io: T, is_client: bool) -> Self {
        Self {
            io,
            is_client,
            input: Vec::new(),
            partial: None,
            deadline: Duration::from_secs(5),
            answer_pings: false,
            reads: true,
            keys: 0x9e37_79b9,
            log: VecDeque::new(),
        }
    }

    /// Bytes that were read behind the HTTP head.
    #[must_use]
    pub fn already_read(mut self, bytes: &[u8]) -> Self {
        self.input.extend_from_slice(bytes);
        self
    }

    /// How long each step may take, in tokio's time; 5 seconds unless told otherwise.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// From now on pings are answered on the way to what is expected, and are no messages of the script.
    #[must_use]
    pub fn answer_pings(mut self) -> Self {
        self.answer_pings = true;
        self
    }

    // ---- sending ----

    /// Sends a binary message in one frame.
    pub async fn send_binary(&mut self, payload: &[u8]) {
        self.send_frame(true, opcode::BINARY, payload).await;
    }

    /// Sends a text message in one frame.
    pub async fn send_text(&mut self, text: &str) {
        self.send_frame(true, opcode::TEXT, text.as_bytes()).await;
    }

    /// Sends a ping.
    pub async fn ping(&mut self, payload: &[u8]) {
        self.send_frame(true, opcode::PING, payload).await;
    }

    /// Sends a pong.
    pub async fn pong(&mut self, payload: &[u8]) {
        self.send_frame(true, opcode::PONG, payload).await;
    }

    /// Sends Close with a code and no reason.
    pub async fn close(&mut self, code: u16) {
        self.send_frame(true, opcode::CLOSE, &code.to_be_bytes()).await;
    }

    /// Sends Close without a code.
    pub async fn close_without_code(&mut self) {
        self.send_frame(true, opcode::CLOSE, &[]).await;
    }

    /// Sends one frame, a fragment or one that is not legal; it is masked as this side masks.
    pub async fn send_frame(&mut self, fin: bool, opcode: u8, payload: &[u8]) {
        let mut frame = RawFrame::new(fin, opcode, payload);
        if self.is_client {
            frame = frame.masked(self.next_key());
        }
        self.send_raw(&frame.encode()).await;
    }

    /// Sends bytes as they are: half a frame, an unmasked one, rubbish.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(error) = self.try_send_raw(bytes).await {
            panic!("sending {} failed: {error}\n{}", message::hex(bytes), self.transcript());
        }
    }

    /// As [`send_raw`](Self::send_raw), for a wire that may be gone or full.
    ///
    /// # Errors
    ///
    /// The wire's, or [`io::ErrorKind::TimedOut`] when it took not all of it before the deadline.
    pub async fn try_send_raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.note(format!("> {}", message::hex(bytes)));
        let send = async {
            self.io.write_all(bytes).await?;
            self.io.flush().await
        };
        timeout(self.deadline, send).await.unwrap_or_else(|_: Elapsed| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Ends this side's half of the byte stream (a TCP FIN).
    pub async fn shutdown(&mut self) {
        self.note("> end of stream".into());
        self.io.shutdown().await.expect("the wire ends");
    }

    /// From now on nothing is read: expecting something is a mistake of the script until
    /// [`start_reading`](Self::start_reading). (Nothing is ever read except by an expectation.)
    pub fn stop_reading(&mut self) {
        self.reads = false;
    }

    /// The counterpart of [`stop_reading`](Self::stop_reading).
    pub fn start_reading(&mut self) {
        self.reads = true;
    }

    /// The stream, with the bytes that were read from it and not looked at; the connection is not closed by this.
    pub fn into_parts(self) -> (T, Vec<u8>) {
        (self.io, self.input)
    }

    fn next_key(&mut self) -> [u8; 4] {
        // xorshift: any key will do, and it should differ from frame to frame.
        self.keys ^= self.keys << 13;
        self.keys ^= self.keys >> 17;
        self.keys ^= self.keys << 5;
        self.keys.to_be_bytes()
    }

    // ---- receiving ----

    /// The next frame, `None` at the end of the stream.
    ///
    /// # Errors
    ///
    /// The wire's; [`io::ErrorKind::UnexpectedEof`] inside a frame; [`io::ErrorKind::TimedOut`] at the deadline.
    pub async fn try_next_frame(&mut self) -> io::Result<Option<RawFrame>> {
        assert!(self.reads, "the script has stopped reading");
        let read = async {
            loop {
                if let Some(frame) = RawFrame::decode(&mut self.input) {
                    return Ok(Some(frame));
                }
                if self.io.read_buf(&mut self.input).await? == 0 {
                    return if self.input.is_empty() {
                        Ok(None)
                    } else {
                        Err(io::ErrorKind::UnexpectedEof.into())
                    };
                }
            }
        };
        let result = timeout(self.deadline, read)
            .await
            .unwrap_or_else(|_: Elapsed| Err(io::ErrorKind::TimedOut.into()));
        match &result {
            Ok(Some(frame)) => self.note(format!("< {}", message::show_frame(frame))),
            Ok(None) => self.note("< end of stream".into()),
            Err(error) => self.note(format!("< {error}")),
        }
        result
    }

    /// The next whole message or control frame, `None` at the end of the stream. Panics when the other side breaks
    /// a rule of RFC 6455 that this peer knows.
    ///
    /// # Errors
    ///
    /// As [`try_next_frame`](Self::try_next_frame).
    pub async fn try_next_message(&mut self) -> io::Result<Option<Message>> {
        loop {
            let Some(frame) = self.try_next_frame().await? else { return Ok(None) };
            if let Err(rule) = self.check(&frame) {
                panic!("{rule}: {}\n{}", message::show_frame(&frame), self.transcript());
            }
            if frame.opcode == opcode::PING && self.answer_pings {
                self.pong(&frame.payload).await;
                continue;
            }
            if frame.opcode >= opcode::CLOSE {
                return Ok(Some(Message::control(frame.opcode, frame.payload)));
            }
            let (kind, mut payload) = self.partial.take().unwrap_or((frame.opcode, Vec::new()));
            payload.extend(frame.payload);
            if frame.fin {
                return Ok(Some(Message::data(kind, payload)));
            }
            self.partial = Some((kind, payload));
        }
    }

    /// What a conforming endpoint may send.
    fn check(&self, frame: &RawFrame) -> Result<(), &'static str> {
        let control = frame.opcode >= opcode::CLOSE;
        match frame {
            RawFrame { mask: Some(_), .. } if self.is_client => Err("a server masks nothing"),
            RawFrame { mask: None, .. } if !self.is_client => Err("a client masks every frame"),
            RawFrame { reserved: 1.., .. } => Err("a reserved bit is set"),
            RawFrame { opcode: 3..=7 | 11.., .. } => Err("a reserved opcode"),
            RawFrame { fin: false, .. } if control => Err("a fragmented control frame"),
            RawFrame { payload, .. } if control && payload.len() > 125 => {
                Err("a control frame over 125 bytes")
            }
            RawFrame { opcode: opcode::CONTINUATION, .. } if self.partial.is_none() => {
                Err("a continuation of nothing")
            }
            RawFrame { opcode: opcode::TEXT | opcode::BINARY, .. } if self.partial.is_some() => {
                Err("a message inside a fragmented one")
            }
            _ => Ok(()),
        }
    }

    fn note(&mut self, line: String) {
        if self.log.len() == SHOWN {
            self.log.pop_front();
        }
        self.log.push_back(line);
    }

    fn transcript(&self) -> String {
        let lines: Vec<_> = self.log.iter().map(String::as_str).collect();
        format!("the last {} lines ('>' is the scripted peer):\n  {}", lines.len(), lines.join("\n  "))
    }
}
