//! The HTTP/1.1 upgrade by hand, so that a test can send any head at all and see the answer byte for byte.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::peer::Peer;

/// The key that [`Upgrade`] sends: the example of RFC 6455 section 1.3.
pub const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

/// The `Sec-WebSocket-Accept` that answers [`KEY`].
pub const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

/// How long an answer may take, in tokio's time.
const DEADLINE: Duration = Duration::from_secs(5);

/// A request that asks for an upgrade, good unless it is made bad.
#[derive(Debug, Clone)]
pub struct Upgrade {
    method: String,
    target: String,
    headers: Vec<(String, String)>,
}

impl Upgrade {
    /// A `GET` of `target` (path and query) with all that RFC 6455 asks for.
    #[must_use]
    pub fn get(target: &str) -> Self {
        let headers = [
            ("Host", "localhost"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
        ];
        Self {
            method: "GET".into(),
            target: target.into(),
            headers: headers.map(|(name, value)| (name.into(), value.into())).to_vec(),
        }
    }

    /// Another method.
    #[must_use]
    pub fn method(mut self, method: &str) -> Self {
        self.method = method.into();
        self
    }

    /// Another target (path and query).
    #[must_use]
    pub fn target(mut self, target: &str) -> Self {
        self.target = target.into();
        self
    }

    /// Adds a header line; lines of the same name stay.
    #[must_use]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Removes all lines of a header.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(n, _)| !n.eq_ignore_ascii_case(name));
        self
    }

    /// Adds a `Sec-WebSocket-Protocol` line.
    #[must_use]
    pub fn subprotocol(self, offers: &str) -> Self {
        self.header("Sec-WebSocket-Protocol", offers)
    }

    /// The head as it goes over the wire.
    #[must_use]
    pub fn head(&self) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head + "\r\n"
    }

    /// Sends the request and reads the head of the answer.
    pub async fn send<T: AsyncRead + AsyncWrite + Unpin>(&self, mut io: T) -> Answer<T> {
        timeout(DEADLINE, async {
            io.write_all(self.head().as_bytes()).await.expect("the request is sent");
            io.flush().await.expect("the request is flushed");
            Answer::read(io).await
        })
        .await
        .expect("the answer comes in time")
    }
}

/// The head of an HTTP answer, and the stream behind it.
#[derive(Debug)]
pub struct Answer<T> {
    /// The status code.
    pub status: StatusCode,
    /// The head as it came, with the empty line.
    pub head: String,
    /// The header lines.
    pub headers: HeaderMap,
    /// What was read behind the head.
    pub leftover: Vec<u8>,
    /// The stream.
    pub io: T,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Answer<T> {
    /// Reads the head of an answer. Panics on anything that is not HTTP/1.1.
    pub async fn read(mut io: T) -> Self {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
            let n = io.read_buf(&mut bytes).await.expect("the answer is read");
            assert!(
                n > 0,
                "the connection ended inside the answer's head: {:?}",
                String::from_utf8_lossy(&bytes)
            );
        };
        let leftover = bytes.split_off(end);
        let head = String::from_utf8(bytes).expect("the head is text");
        let mut lines = head.split("\r\n");
        let first = lines.next().unwrap_or_default();
        let status = first
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3)?.parse().ok())
            .unwrap_or_else(|| panic!("not an HTTP/1.1 status line: {first:?}"));
        let headers = lines
            .filter(|line| !line.is_empty())
            .map(|line| {
                let (name, value) =
                    line.split_once(':').unwrap_or_else(|| panic!("not a header line: {line:?}"));
                let name: HeaderName = name.parse().expect("a header name");
                let value: HeaderValue = value.trim().parse().expect("a header value");
                (name, value)
            })
            .fold(HeaderMap::new(), |mut headers, (name, value)| {
                headers.append(name, value);
                headers
            });
        Self { status, head, headers, leftover, io }
    }

    /// The only value of a header; `None` when it is absent, a panic when there are several.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let values: Vec<_> = self.headers.get_all(name).iter().collect();
        assert!(values.len() < 2, "several lines of {name}: {values:?}");
        values.first().map(|value| value.to_str().expect("a header of ASCII"))
    }

    /// The subprotocol that was agreed on.
    #[must_use]
    pub fn subprotocol(&self) -> Option<&str> {
        self.header("Sec-WebSocket-Protocol")
    }

    /// The scripted client behind a 101. Panics, with the answer's body, when it is another status or the answer
    /// does not fit [`KEY`].
    pub async fn into_peer(self) -> Peer<T> {
        if self.status != StatusCode::SWITCHING_PROTOCOLS {
            let head = self.head.clone();
            panic!("no upgrade: {head}{}", String::from_utf8_lossy(&self.body().await));
        }
        assert_eq!(self.header("Sec-WebSocket-Accept"), Some(ACCEPT), "{}", self.head);
        let Self { io, leftover, .. } = self;
        Peer::client(io).already_read(&leftover)
    }

    /// The body of an answer that is no upgrade: `Content-Length` bytes, or all up to the end of the stream.
    pub async fn body(self) -> Vec<u8> {
        let length = self.header("Content-Length").map(|n| n.parse::<usize>().expect("a number"));
        let chunked =
            self.header("Transfer-Encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked"));
        let Self { mut io, leftover: mut body, .. } = self;
        timeout(DEADLINE, async {
            let done = |body: &[u8]| match length {
                Some(length) => body.len() >= length,
                None => chunked && body.ends_with(b"0\r\n\r\n"),
            };
            while !done(&body) && io.read_buf(&mut body).await.expect("the body is read") > 0 {}
        })
        .await
        .expect("the body comes in time");
        if chunked { dechunk(&body) } else { body }
    }
}

/// The payload of a chunked body without trailers.
fn dechunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk size");
        let size =
            std::str::from_utf8(&rest[..line]).ok().and_then(|hex| usize::from_str_radix(hex, 16).ok());
        let size = size.expect("a chunk size in hexadecimal");
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 2 + size + 2..];
    }
}
