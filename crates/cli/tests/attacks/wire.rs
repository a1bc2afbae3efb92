//! Bytes on a socket, as an attacker writes them: no library between that would refuse to.

use crate::support::LIMIT;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// The head of an answer and what came of its body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

/// Sends bytes on a connection of its own and reads the first answer; `None` where there is none but an end.
pub(crate) async fn send(address: SocketAddr, bytes: &[u8]) -> Option<Answer> {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // The server may refuse before it has read everything.
    let _ = socket.write_all(bytes).await;
    answer(&mut socket).await
}

/// Reads one answer.
pub(crate) async fn answer(socket: &mut (impl AsyncRead + Unpin)) -> Option<Answer> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match timeout(LIMIT, socket.read_u8()).await.expect("no answer and no end") {
            Ok(byte) => head.push(byte),
            Err(_) => return None,
        }
    }
    let head = String::from_utf8(head).unwrap();
    let code = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.to_ascii_lowercase();
    let length = length.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    timeout(LIMIT, socket.read_exact(&mut body)).await.expect("half a body").unwrap();
    Some(Answer { code, head, body: String::from_utf8(body).unwrap() })
}

/// A frame of a client (RFC 6455 section 5.2), masked with zeros.
pub(crate) fn frame(opcode: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0x80 | opcode];
    match u16::try_from(payload.len()).unwrap() {
        short @ 0..126 => frame.push(0x80 | u8::try_from(short).unwrap()),
        long => {
            frame.push(0x80 | 126);
            frame.extend(long.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Reads messages of channels until the server closes, and yields what came on each.
pub(crate) async fn channels(socket: &mut (impl AsyncRead + AsyncWrite + Unpin)) -> [String; 5] {
    let mut found: [String; 5] = Default::default();
    let read = async {
        loop {
            let (Ok(first), Ok(second)) = (socket.read_u8().await, socket.read_u8().await) else { return };
            let length = match second {
                126 => u64::from(socket.read_u16().await.unwrap()),
                127 => socket.read_u64().await.unwrap(),
                short => u64::from(short),
            };
            let mut payload = vec![0; usize::try_from(length).unwrap()];
            socket.read_exact(&mut payload).await.unwrap();
            if first & 0x0f == 8 {
                return;
            }
            if let Some((channel, data)) = payload.split_first() {
                found[usize::from(*channel)].push_str(&String::from_utf8_lossy(data));
            }
        }
    };
    timeout(LIMIT, read).await.expect("the session does not end");
    found
}
