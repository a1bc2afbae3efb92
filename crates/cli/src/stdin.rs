//! Standard input without a blocked runtime and without stolen bytes.
//!
//! `tokio::io::stdin` reads ahead and sits in a read that nothing can end; `O_NONBLOCK` would change the
//! terminal for the shell that shares it; epoll refuses regular files. So one thread waits in `poll` for input or
//! for the end of the session, and reads only when asked: what the person types after the session belongs to the
//! shell.

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, read};
use rustix::stdio;
use std::io::{self, PipeReader, PipeWriter};
use tokio::sync::mpsc;

/// Standard input. Dropping it ends the thread, which then reads nothing more.
#[derive(Debug)]
pub(crate) struct Stdin {
    wanted: mpsc::Sender<Vec<u8>>,
    read: mpsc::Receiver<(Vec<u8>, io::Result<usize>)>,
    /// The buffer, while no read is in flight.
    idle: Option<Vec<u8>>,
    /// Closing it wakes the thread out of `poll`.
    _wake: PipeWriter,
}

/// As large as one message of the channel protocol carries.
const CHUNK: usize = 32 * 1024;

impl Stdin {
    /// Starts the thread.
    pub(crate) fn open() -> io::Result<Self> {
        let (woken, wake) = io::pipe()?;
        let (wanted, requests) = mpsc::channel(1);
        let (results, read) = mpsc::channel(1);
        std::thread::Builder::new()
            .name("stdin".to_owned())
            .spawn(move || serve(&woken, requests, &results))?;
        Ok(Self { wanted, read, idle: Some(vec![0; CHUNK]), _wake: wake })
    }

    /// The next bytes, at most 32 KiB; empty at end of input. Cancel-safe: a read in flight is picked up by the
    /// next call.
    pub(crate) async fn chunk(&mut self) -> io::Result<&[u8]> {
        if let Some(buffer) = self.idle.take() {
            // Capacity 1 and one buffer: there is always room.
            if self.wanted.try_send(buffer).is_err() {
                return Err(io::Error::other("the thread that reads standard input is gone"));
            }
        }
        let Some((buffer, result)) = self.read.recv().await else {
            return Err(io::Error::other("the thread that reads standard input is gone"));
        };
        let buffer = self.idle.insert(buffer);
        let length = result?;
        Ok(buffer.get(..length).unwrap_or_default())
    }
}

fn serve(
    woken: &PipeReader,
    mut requests: mpsc::Receiver<Vec<u8>>,
    results: &mpsc::Sender<(Vec<u8>, io::Result<usize>)>,
) {
    while let Some(mut buffer) = requests.blocking_recv() {
        let result = loop {
            let mut fds =
                [PollFd::from_borrowed_fd(stdio::stdin(), PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
            match poll(&mut fds, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
            let [input, end] = &fds;
            if !end.revents().is_empty() {
                return;
            }
            if input.revents().is_empty() {
                continue;
            }
            match read(stdio::stdin(), buffer.as_mut_slice()) {
                Ok(length) => break Ok(length),
                // Another process that shares this terminal or pipe was faster, or made it non-blocking.
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(error) => break Err(error.into()),
            }
        };
        if results.blocking_send((buffer, result)).is_err() {
            return;
        }
    }
}
