//! What the server and a keeper say to each other: lines of JSON, the first of each side with descriptors attached.

use std::{
    ffi::OsString,
    fmt,
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::io::Interest;

use super::super::descriptor::register;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// Three streams one way, two sides of a terminal the other.
const MOST_DESCRIPTORS: usize = 3;

/// How much is read at a time.
pub(super) const PIECE: usize = 4096;

/// Server to zygote: the socket of a session comes with it, for which a keeper is wanted. No order begins so.
pub(super) const SESSION: u8 = b'S';

/// Server to keeper, later: kill everything; the leader's exit is still reported.
pub(super) const KILL: u8 = b'K';

/// Server to keeper, at the end: leave the background alone and go.
pub(super) const RELEASE: u8 = b'R';

/// Server to keeper, first: what to run. The descriptors of the streams that are wanted come with it, in order.
#[derive(Debug, Serialize, Deserialize)]
pub(in super::super) struct Order {
    pub(in super::super) argv: Vec<String>,
    pub(in super::super) env: Vec<(String, String)>,
    pub(in super::super) clear_env: bool,
    pub(in super::super) cwd: Option<OsString>,
    /// Which of stdin, stdout and stderr are pipes; the others are the null device.
    pub(in super::super) streams: [bool; 3],
    /// Make a control group if possible.
    pub(in super::super) cgroup: bool,
    /// Columns and rows of a new terminal, in place of the streams.
    pub(in super::super) terminal: Option<(u16, u16)>,
}

/// Keeper to server.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum News {
    /// It runs. With a terminal, its controlling side and its other side come with it.
    Started { pid: i32, keeper: i32 },
    /// It does not.
    Failed { text: String },
    /// The leader has exited; its number stays taken until the keeper ends.
    Exited { code: Option<i32>, signal: Option<i32> },
}

/// Sends some of `data` with all of the descriptors; how much of it.
pub(super) fn send(socket: impl AsFd, data: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("too many descriptors for one message"));
    }
    Ok(sendmsg(socket, &[IoSlice::new(data)], &mut control, SendFlags::NOSIGNAL)?)
}

/// What a client is told of a keeper that was not started, by whichever side has found that out.
pub(super) fn not_started(error: impl fmt::Display) -> String {
    format!("cannot start the process that keeps the command: {error}")
}

/// Sends all of `data` over a socket that does not block. Not cancel-safe: what was sent is sent.
pub(super) async fn send_all(
    socket: BorrowedFd<'_>,
    mut data: &[u8],
    mut descriptors: &[BorrowedFd<'_>],
) -> io::Result<()> {
    while !data.is_empty() {
        match send(socket, data, descriptors) {
            Ok(sent) => {
                data = data.get(sent..).unwrap_or_default();
                descriptors = &[];
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                // Rare: more than the buffer of a socket waits. A copy, because two may wait for the same one.
                let copy = register(socket.try_clone_to_owned()?, Interest::WRITABLE)?;
                copy.writable().await?.retain_ready();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Receives some bytes and whatever descriptors come with them; 0 at the end.
pub(super) fn receive(
    socket: impl AsFd,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    receive_some(socket, PIECE, bytes, descriptors)
}

/// The same, at most so many bytes, which are [`PIECE`] or less.
pub(super) fn receive_some(
    socket: impl AsFd,
    most: usize,
    bytes: &mut Vec<u8>,
    descriptors: &mut Vec<OwnedFd>,
) -> io::Result<usize> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_DESCRIPTORS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut piece = [0; PIECE];
    // Close-on-exec at once: the command must not inherit them.
    let flags = RecvFlags::CMSG_CLOEXEC;
    let read = recvmsg(
        socket,
        &mut [IoSliceMut::new(piece.get_mut(..most).unwrap_or_default())],
        &mut control,
        flags,
    )?
    .bytes;
    bytes.extend_from_slice(piece.get(..read).unwrap_or_default());
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(received) = message {
            descriptors.extend(received);
        }
    }
    Ok(read)
}

/// One line. JSON escapes line ends inside.
pub(super) fn line(message: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(message)?;
    line.push(b'\n');
    Ok(line)
}

/// Takes the first line out of what has come, once it is whole.
pub(super) fn take<T: DeserializeOwned>(bytes: &mut Vec<u8>) -> io::Result<Option<T>> {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
    let line: Vec<u8> = bytes.drain(..=end).collect();
    Ok(Some(serde_json::from_slice(&line)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::os::unix::net::UnixStream;

    #[test]
    fn descriptors_travel_with_the_first_byte_and_long_lines_in_pieces() {
        let (here, there) = UnixStream::pair().unwrap();
        let (mut reader, writer) = io::pipe().unwrap();
        let text = "ü\n\"".repeat(PIECE);
        let order = line(&News::Failed { text: text.clone() }).unwrap();
        let sent = send(&here, &order, &[writer.as_fd(), writer.as_fd()]).unwrap();
        (&here).write_all(&order[sent..]).unwrap();
        drop(writer);
        let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
        let news = loop {
            assert!(receive(&there, &mut bytes, &mut descriptors).unwrap() > 0);
            if let Some(news) = take::<News>(&mut bytes).unwrap() {
                break news;
            }
        };
        assert!(matches!(news, News::Failed { text: received } if received == text));
        assert!(bytes.is_empty());
        assert_eq!(descriptors.len(), 2);
        for descriptor in descriptors {
            assert!(rustix::io::fcntl_getfd(&descriptor).unwrap().contains(rustix::io::FdFlags::CLOEXEC));
            std::fs::File::from(descriptor).write_all(b"x").unwrap();
        }
        let mut all = String::new();
        reader.read_to_string(&mut all).unwrap();
        assert_eq!(all, "xx");
        drop(here);
        assert_eq!(receive(&there, &mut bytes, &mut Vec::new()).unwrap(), 0);
    }
}
