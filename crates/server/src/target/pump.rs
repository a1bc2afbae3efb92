//! Moves bytes between the ends of a command and whoever asked for them.
//!
//! A pump is a plain future without a queue: it reads a chunk, hands it on, and reads again once that is done, so that
//! back-pressure is the socket's. Pumps never talk to each other: a command that closes one stream, or a client that
//! stops listening to one, changes nothing for the others (protocol: a stdin cut when stdout closes is
//! containerd#13934).

use std::{convert::Infallible, future::Future, io};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use wsstream::remotecommand::{Input, Output, Resizes, TerminalSize};

use super::{
    command::DrainGrace,
    descriptor::{Descriptor, sleep},
};

/// Where input comes from.
pub(crate) trait Source: Send {
    /// The next chunk; `None`: it has ended; an error: it broke off. Cancel-safe.
    fn chunk(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;
}

/// Where output goes.
pub(crate) trait Sink: Send {
    /// Waits for room. An error means that nobody will ever take anything again.
    fn send(&mut self, data: Bytes) -> impl Future<Output = io::Result<()>> + Send;
}

/// Where terminal sizes come from.
pub(crate) trait Sizes: Send {
    /// The next size; `None`: no more will come. Cancel-safe.
    fn next(&mut self) -> impl Future<Output = Option<TerminalSize>> + Send;
}

impl Source for Input {
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        Self::chunk(self).await
    }
}

impl Sink for Output {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        Self::send(self, data).await
    }
}

impl Sizes for Resizes {
    async fn next(&mut self) -> Option<TerminalSize> {
        Self::next(self).await
    }
}

/// Output that nobody asked for is read all the same: the command must not block on it.
impl<S: Sink> Sink for Option<S> {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        match self {
            Some(sink) => sink.send(data).await,
            None => Ok(()),
        }
    }
}

/// After this many chunks a pump lets the others of its task run: readiness is not what holds it back when both the
/// command and the client are fast.
const TURN: u32 = 16;

/// Reads the output of a command to its end; or, once the command has exited, until nothing has come for the grace.
///
/// When the client is gone the output is still read, and thrown away: whether and how the command ends is for the
/// disconnect policy to say, not for a full pipe or a SIGPIPE.
pub(crate) async fn output(
    from: &Descriptor,
    mut to: impl Sink,
    exited: &CancellationToken,
    grace: DrainGrace,
) {
    let mut heard = true;
    let mut turn = 0;
    loop {
        let chunk = tokio::select! {
            // In this order: what is there is always taken, however late it is looked at.
            biased;
            chunk = from.read() => chunk,
            () = quiet(exited, grace) => {
                tracing::debug!("a background process keeps the output open; it counts as finished");
                return;
            }
        };
        match chunk {
            Ok(Some(data)) => {
                if heard && let Err(error) = to.send(data).await {
                    tracing::debug!(%error, "nobody takes the output any more; it is discarded");
                    heard = false;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(%error, "cannot read the output of a command");
                return;
            }
        }
        turn += 1;
        if turn % TURN == 0 {
            tokio::task::yield_now().await;
        }
    }
}

/// Resolves when the command has exited and nothing has interrupted the wait for the grace since.
async fn quiet(exited: &CancellationToken, grace: DrainGrace) {
    exited.cancelled().await;
    sleep(grace.0).await;
}

/// Feeds the input to a command until it ends or breaks off, and then closes it.
///
/// A command that closes its stdin early is no error: the rest is read and thrown away, so that whatever the client
/// sends behind it (sizes, CLOSE, Close) still arrives.
pub(crate) async fn input(mut from: impl Source, to: Descriptor) {
    let mut to = Some(to);
    loop {
        match from.chunk().await {
            Ok(Some(data)) => {
                if let Some(descriptor) = &to
                    && let Err(error) = descriptor.write_all(&data).await
                {
                    tracing::debug!(%error, "the command takes no more input; the rest is discarded");
                    to = None;
                }
            }
            Ok(None) => return,
            Err(error) => {
                tracing::debug!(%error, "the input broke off");
                return;
            }
        }
    }
}

/// Runs a side task of a session that ends without ending the session.
pub(crate) async fn aside(task: impl Future<Output = ()>) -> Infallible {
    task.await;
    std::future::pending().await
}

#[cfg(test)]
pub(crate) mod doubles {
    //! Ends that tests can hold.

    use super::*;
    use std::{collections::VecDeque, sync::Arc, sync::Mutex, time::Duration};

    /// A client that sends these chunks and then ends, breaks off or stays.
    pub(crate) struct Script {
        pub(crate) chunks: VecDeque<Bytes>,
        pub(crate) then: Then,
    }

    #[derive(Clone, Copy)]
    pub(crate) enum Then {
        End,
        Break,
        Stay,
        Repeat,
    }

    impl Script {
        pub(crate) fn new(chunks: &[&'static str], then: Then) -> Self {
            Self { chunks: chunks.iter().map(|chunk| Bytes::from_static(chunk.as_bytes())).collect(), then }
        }
    }

    impl Source for Script {
        async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
            // A real connection is not always ready at once either.
            tokio::task::yield_now().await;
            match self.chunks.pop_front() {
                Some(chunk) => {
                    if let Then::Repeat = self.then {
                        self.chunks.push_back(chunk.clone());
                    }
                    Ok(Some(chunk))
                }
                None => match self.then {
                    Then::End | Then::Repeat => Ok(None),
                    Then::Break => Err(io::ErrorKind::ConnectionReset.into()),
                    Then::Stay => std::future::pending().await,
                },
            }
        }
    }

    /// A client that keeps what it gets, at its own pace.
    #[derive(Clone, Default)]
    pub(crate) struct Taken {
        pub(crate) bytes: Arc<Mutex<Vec<u8>>>,
        pub(crate) pause: Duration,
        pub(crate) refuse: bool,
    }

    impl Taken {
        pub(crate) fn text(&self) -> String {
            String::from_utf8(self.bytes.lock().unwrap().clone()).unwrap()
        }

        /// Polls until the text is there.
        pub(crate) async fn wait_for(&self, text: &str) {
            let seen = async {
                while !String::from_utf8_lossy(&self.bytes.lock().unwrap()).contains(text) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            };
            let found = tokio::time::timeout(Duration::from_secs(20), seen).await;
            assert!(found.is_ok(), "{text:?} is not in {:?}", self.text());
        }
    }

    impl Sink for Taken {
        async fn send(&mut self, data: Bytes) -> io::Result<()> {
            if self.refuse {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            tokio::time::sleep(self.pause).await;
            self.bytes.lock().unwrap().extend_from_slice(&data);
            Ok(())
        }
    }

    /// A client without a terminal.
    pub(crate) struct NoSizes;

    impl Sizes for NoSizes {
        async fn next(&mut self) -> Option<TerminalSize> {
            None
        }
    }

    /// A client that sends these sizes, each when the text before it has been seen.
    pub(crate) struct SizesWhen(pub(crate) VecDeque<(Taken, &'static str, TerminalSize)>);

    impl Sizes for SizesWhen {
        async fn next(&mut self) -> Option<TerminalSize> {
            let (taken, text, size) = self.0.front()?.clone();
            taken.wait_for(text).await;
            self.0.pop_front();
            Some(size)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{doubles::*, *};
    use std::time::{Duration, Instant};

    fn pipe() -> (Descriptor, Descriptor) {
        let (reader, writer) = io::pipe().unwrap();
        (Descriptor::new(reader).unwrap(), Descriptor::new(writer).unwrap())
    }

    #[tokio::test]
    async fn the_grace_counts_only_quiet_time() {
        let (reader, writer) = pipe();
        let exited = CancellationToken::new();
        exited.cancel();
        // Much slower than the grace: four chunks, each held for longer than it.
        let taken = Taken { pause: Duration::from_millis(60), ..Taken::default() };
        let data = vec![b'x'; 4 * super::super::descriptor::READ_SIZE];
        let write = async {
            writer.write_all(&data).await.unwrap();
            // The writer stays: only quiet ends this.
            std::future::pending::<()>().await;
        };
        let pump = output(&reader, taken.clone(), &exited, DrainGrace(Duration::from_millis(20)));
        tokio::select! {
            () = pump => {}
            () = write => {}
        }
        assert_eq!(taken.bytes.lock().unwrap().len(), data.len());
    }

    #[tokio::test]
    async fn without_an_exit_silence_ends_nothing() {
        let (reader, _writer) = pipe();
        let exited = CancellationToken::new();
        let pump = output(&reader, Taken::default(), &exited, DrainGrace(Duration::ZERO));
        assert!(tokio::time::timeout(Duration::from_millis(50), pump).await.is_err());
    }

    #[tokio::test]
    async fn output_that_nobody_takes_is_read_to_its_end() {
        let (reader, writer) = pipe();
        let refuse = Taken { refuse: true, ..Taken::default() };
        let exited = CancellationToken::new();
        let write = async {
            writer.write_all(&vec![0; 1 << 20]).await.unwrap();
            drop(writer);
        };
        tokio::join!(write, output(&reader, refuse, &exited, DrainGrace::default()));
    }

    #[tokio::test]
    async fn input_that_nobody_reads_is_taken_to_its_end() {
        let (reader, writer) = pipe();
        drop(reader);
        let started = Instant::now();
        input(Script::new(&["a", "b", "c"], Then::End), writer).await;
        assert!(started.elapsed() < Duration::from_secs(10));
    }

    #[tokio::test]
    async fn the_end_and_the_loss_of_the_input_both_close_it() {
        for then in [Then::End, Then::Break] {
            let (reader, writer) = pipe();
            input(Script::new(&["a"], then), writer).await;
            assert_eq!(reader.read().await.unwrap().unwrap(), "a");
            assert_eq!(reader.read().await.unwrap(), None);
        }
    }
}
