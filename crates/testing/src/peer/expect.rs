//! What a script expects to come next.

use std::fmt;
use std::io;
use std::panic::Location;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Message, Peer, RawFrame, message};

impl<T: AsyncRead + AsyncWrite + Unpin> Peer<T> {
    /// The next message or control frame; anything else, the end included, fails the test.
    #[track_caller]
    pub fn next_message(&mut self) -> impl Future<Output = Message> {
        let at = Location::caller();
        async move { self.message(at, "a message").await }
    }

    /// The next frame as it is; anything else, the end included, fails the test.
    #[track_caller]
    pub fn next_frame(&mut self) -> impl Future<Output = RawFrame> {
        let at = Location::caller();
        async move {
            match self.try_next_frame().await {
                Ok(Some(frame)) => frame,
                other => self.fail(at, "a frame", &other),
            }
        }
    }

    /// Exactly this binary message comes next.
    #[track_caller]
    pub fn expect_binary(&mut self, payload: &[u8]) -> impl Future<Output = ()> {
        self.expect(Location::caller(), Message::Binary(payload.to_vec()))
    }

    /// Exactly this text message comes next.
    #[track_caller]
    pub fn expect_text(&mut self, text: &str) -> impl Future<Output = ()> {
        self.expect(Location::caller(), Message::Text(text.as_bytes().to_vec()))
    }

    /// Exactly this ping comes next.
    #[track_caller]
    pub fn expect_ping(&mut self, payload: &[u8]) -> impl Future<Output = ()> {
        self.expect(Location::caller(), Message::Ping(payload.to_vec()))
    }

    /// Exactly this pong comes next.
    #[track_caller]
    pub fn expect_pong(&mut self, payload: &[u8]) -> impl Future<Output = ()> {
        self.expect(Location::caller(), Message::Pong(payload.to_vec()))
    }

    /// A Close with this code comes next; returns its reason.
    #[track_caller]
    pub fn expect_close(&mut self, code: u16) -> impl Future<Output = String> {
        let at = Location::caller();
        async move {
            match self.message(at, &format!("close {code}")).await {
                Message::Close(Some(got), reason) if got == code => reason,
                other => self.fail(at, &format!("close {code}"), &other),
            }
        }
    }

    /// A Close without a code comes next.
    #[track_caller]
    pub fn expect_close_without_code(&mut self) -> impl Future<Output = ()> {
        self.expect(Location::caller(), Message::Close(None, String::new()))
    }

    /// The stream ends here, in good order.
    #[track_caller]
    pub fn expect_eof(&mut self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            match self.try_next_frame().await {
                Ok(None) => {}
                other => self.fail(at, "the end of the stream", &other),
            }
        }
    }

    /// Binary messages of this channel come next, however cut, and their payloads add up to exactly `payload`.
    #[track_caller]
    pub fn expect_stream(&mut self, channel: u8, payload: &[u8]) -> impl Future<Output = ()> {
        let at = Location::caller();
        let what = format!("{} on channel {channel}", message::hex(payload));
        let payload = payload.to_vec();
        async move {
            let mut seen = 0;
            while seen < payload.len() {
                match self.message(at, &what).await {
                    Message::Binary(data)
                        if data.first() == Some(&channel) && payload[seen..].starts_with(&data[1..]) =>
                    {
                        seen += data.len() - 1;
                    }
                    other => self.fail(at, &format!("{what}, from byte {seen} on"), &other),
                }
            }
        }
    }

    async fn expect(&mut self, at: &'static Location<'static>, expected: Message) {
        let expected_text = format!("{expected:?}");
        let got = self.message(at, &expected_text).await;
        if got != expected {
            self.fail(at, &expected_text, &got)
        }
    }

    async fn message(&mut self, at: &'static Location<'static>, expected: &str) -> Message {
        let got: io::Result<Option<Message>> = self.try_next_message().await;
        match got {
            Ok(Some(message)) => message,
            Ok(None) => self.fail(at, expected, &"the end of the stream"),
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                self.fail(at, expected, &format!("nothing for {:?}", self.deadline))
            }
            Err(error) => self.fail(at, expected, &error),
        }
    }

    fn fail(&self, at: &Location<'_>, expected: &str, got: &dyn fmt::Debug) -> ! {
        panic!("{at}: expected {expected}\n  but got {got:?}\n{}", self.transcript())
    }
}
