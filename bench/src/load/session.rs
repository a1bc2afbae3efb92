//! One session of the load: opened, drained or fed, ended as a good client ends it.

use std::io::{Read, Write};
use std::net::Shutdown;

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::frames::{Frames, masked};
use super::stream::Stream;
use crate::process::{Peer, TOKEN, Wire};

/// How much the reader waits for, and how near to the end it stops to wait.
const LOW_WATER: u32 = 128 << 10;
const NEAR_THE_END: u64 = 512 << 10;

/// What a session asks for.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// The command and its arguments.
    pub command: &'a [String],
    /// Whether it takes input. A raw peer relays input when it does and output otherwise.
    pub stdin: bool,
    /// Whether its output is wanted beside its input. The others have theirs in any case.
    pub both: bool,
    /// Whether it gets a terminal.
    pub tty: bool,
}

/// An open session.
#[derive(Debug)]
pub struct Session {
    stream: Stream,
    wire: Wire,
    frames: Frames,
    buffer: Vec<u8>,
}

/// How a session went.
#[derive(Debug)]
pub struct End {
    /// Bytes of output.
    pub bytes: u64,
    /// Messages of output and status.
    pub messages: u64,
}

/// Reads the answer to an upgrade, and gives back what has come behind it.
///
/// # Errors
///
/// It is none that switches protocols.
pub fn switched(from: &mut impl Read, name: &str) -> Result<Vec<u8>> {
    let (mut head, mut part) = (Vec::new(), [0; 4096]);
    let end = loop {
        let read = from.read(&mut part)?;
        ensure!(read > 0, "{name} closed the connection: {}", String::from_utf8_lossy(&head));
        head.extend_from_slice(&part[..read]);
        if let Some(end) = head.windows(4).position(|four| four == b"\r\n\r\n") {
            break end + 4;
        }
    };
    ensure!(head.starts_with(b"HTTP/1.1 101"), "{name} refused: {}", String::from_utf8_lossy(&head));
    Ok(head.split_off(end))
}

impl Ask<'_> {
    /// A command without input or terminal.
    #[must_use]
    pub fn output(command: &[String]) -> Ask<'_> {
        Ask { command, stdin: false, both: false, tty: false }
    }

    /// One that takes input.
    #[must_use]
    pub fn input(command: &[String]) -> Ask<'_> {
        Ask { stdin: true, ..Ask::output(command) }
    }
}

impl Session {
    /// Connects and asks.
    ///
    /// # Errors
    ///
    /// The peer cannot be reached or refuses.
    pub fn open(peer: &Peer, ask: Ask<'_>) -> Result<Self> {
        let mut stream = Stream::connect(peer.address, peer.tls)?;
        let mut frames = Frames::default();
        if peer.wire == Wire::Raw {
            let verb = if ask.stdin { "stdin" } else { "stdout" };
            let verb = if ask.tty { "tty" } else { verb };
            let verb = if ask.both { "both" } else { verb };
            // A function of the relay itself is named like one of the others' servers.
            let command = ask.command.join(" ");
            let line = command
                .strip_prefix('@')
                .map_or_else(|| format!("{verb} {command}\n"), |own| format!("{own}\n"));
            stream.write_all(line.as_bytes())?;
        } else {
            stream.write_all(request(peer, ask).as_bytes())?;
            frames.push(&switched(&mut stream, peer.name)?);
        }
        Ok(Self { stream, wire: peer.wire, frames, buffer: vec![0; 256 << 10] })
    }

    /// The bare connection, for one that lies idle: no buffer is kept for it.
    #[must_use]
    pub fn into_stream(self) -> Stream {
        self.stream
    }

    /// Reads the output, which has `expected` bytes, to the end of the session. A lazy reader waits for much at once; a
    /// plain one takes whatever is there, and has the server pay for waking it.
    ///
    /// # Errors
    ///
    /// The session did not end with success, or the output is not whole.
    pub fn drain(mut self, expected: u64, lazy: bool) -> Result<End> {
        let mut waiting = 1;
        let raw = self.wire == Wire::Raw;
        loop {
            let have = if raw { self.frames.bytes[1] } else { self.frames.bytes[1] + self.frames.bytes[3] };
            let wanted = if lazy && have + NEAR_THE_END < expected { LOW_WATER } else { 1 };
            if wanted != waiting {
                self.stream.low_water(wanted)?;
                waiting = wanted;
            }
            if self.frames.closed {
                break;
            }
            let read = self.stream.read(&mut self.buffer)?;
            if read == 0 {
                break;
            }
            if raw {
                self.frames.bytes[1] += read as u64;
            } else {
                self.frames.push(&self.buffer[..read]);
            }
        }
        if !raw {
            ensure!(self.frames.closed, "the session was lost after {} bytes", self.frames.bytes[1]);
            let status = String::from_utf8_lossy(&self.frames.status);
            ensure!(status.contains("\"Success\""), "the session failed: {status}");
            // A good client answers the Close and waits for the end.
            self.stream.write_all(&masked(8, &1000_u16.to_be_bytes()))?;
            let _ = self.stream.socket().shutdown(Shutdown::Write);
            while self.stream.read(&mut self.buffer).is_ok_and(|read| read > 0) {}
        }
        let bytes = self.frames.bytes[1];
        ensure!(bytes == expected, "{bytes} bytes came of {expected}");
        Ok(End { bytes, messages: self.frames.messages })
    }

    /// Writes `bytes` of input in messages of `size`, many to a write, then waits for the end of the command.
    ///
    /// # Errors
    ///
    /// The session did not end with success.
    pub fn feed(mut self, bytes: u64, size: usize) -> Result<End> {
        write_input(&mut self.stream, self.wire, bytes, size)?;
        if self.wire == Wire::Raw {
            match self.stream.read(&mut self.buffer)? {
                1 => return Ok(End { bytes: 0, messages: 0 }),
                read => bail!("the relay ended with {read} bytes"),
            }
        }
        self.drain(0, false)
    }

    /// The same beside a reader that gets all of it back. Without TLS.
    ///
    /// # Errors
    ///
    /// The session did not end with success, or the output is not whole.
    pub fn turn(self, bytes: u64, size: usize) -> Result<End> {
        let (mut writer, wire) = (self.stream.socket().try_clone()?, self.wire);
        std::thread::scope(|scope| {
            let input = scope.spawn(move || write_input(&mut writer, wire, bytes, size));
            let end = self.drain(bytes, true)?;
            input.join().map_err(|_| anyhow!("the writer panicked"))??;
            Ok(end)
        })
    }
}

fn write_input(to: &mut impl Write, wire: Wire, bytes: u64, size: usize) -> Result<()> {
    let message = if wire == Wire::Raw { vec![0; size] } else { super::frames::input(size) };
    let many = ((64 << 10) / size).max(1);
    let block = message.repeat(many);
    let payload = (many * size) as u64;
    ensure!(bytes.is_multiple_of(payload), "{bytes} bytes are no whole number of blocks");
    for _ in 0..bytes / payload {
        to.write_all(&block).context("the session ended during its input")?;
    }
    Ok(())
}

/// The upgrade for v4, which every server speaks: its input has no end, so commands count.
fn request(peer: &Peer, ask: Ask<'_>) -> String {
    let words: String =
        ask.command.iter().map(|word| format!("command={}&", word.replace('@', "%40"))).collect();
    let stdin = if ask.stdin { "stdin=true&" } else { "" };
    let tty = if ask.tty { "tty=true&" } else { "" };
    format!(
        "GET /api/v1/namespaces/default/pods/host/exec?{words}{stdin}{tty}stdout=true HTTP/1.1\r\n\
         Host: {}\r\nAuthorization: Bearer {TOKEN}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         Sec-WebSocket-Protocol: v4.channel.k8s.io\r\n\r\n",
        peer.address
    )
}
