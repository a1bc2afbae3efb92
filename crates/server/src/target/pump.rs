//! Moves bytes between the ends of a command and whoever asked for them.
//!
//! A pump is a plain future without a queue: it reads a chunk, hands it on, and reads again once that is done, so that
//! back-pressure is the socket's. Pumps never talk to each other: a command that closes one stream, or a client that
//! stops listening to one, changes nothing for the others (protocol: a stdin cut when stdout closes is
//! containerd#13934).

use std::{convert::Infallible, future::Future, io};

use bytes::Bytes;
use futures_util::FutureExt as _;
use tokio_util::sync::CancellationToken;
use wsstream::remotecommand::{Input, Output};

use super::{
    command::DrainGrace,
    descriptor::{Descriptor, sleep},
};

/// Where input comes from.
pub(crate) trait Source: Send {
    /// The next chunk; `None`: it has ended; an error: it broke off. Cancel-safe.
    fn chunk(&mut self) -> impl Future<Output = io::Result<Option<Bytes>>> + Send;

    /// What is there already, to go on with it in one write.
    fn try_chunk(&mut self) -> Option<Bytes> {
        None
    }
}

/// Where output goes.
pub(crate) trait Sink: Send {
    /// Waits for room. An error means that nobody will ever take anything again.
    fn send(&mut self, data: Bytes) -> impl Future<Output = io::Result<()>> + Send;
}

impl Source for Input {
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        Self::chunk(self).await
    }

    fn try_chunk(&mut self) -> Option<Bytes> {
        Self::try_chunk(self)
    }
}

impl Sink for Output {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        Self::send(self, data).await
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
            Ok(Some(first)) => {
                let more = from.try_chunk().unwrap_or_default();
                if let Some(descriptor) = &to
                    && let Err(error) = descriptor.write_both(&first, &more).await
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
pub(crate) fn aside(task: impl Future<Output = ()>) -> impl Future<Output = Infallible> {
    // Not an `async fn`, which would hold the task twice.
    task.then(|()| std::future::pending())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::{Arc, Mutex},
        time::Duration,
    };

    /// A client that sends these chunks and then ends or breaks off.
    struct Script(Vec<&'static str>, io::Result<()>);

    impl Source for Script {
        async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
            if self.0.is_empty() {
                return std::mem::replace(&mut self.1, Ok(())).map(|()| None);
            }
            Ok(Some(self.0.remove(0).into()))
        }
    }

    /// A client that sends so many more chunks.
    struct Countdown(Arc<Mutex<u32>>);

    impl Source for Countdown {
        async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
            let mut left = self.0.lock().unwrap();
            *left = left.saturating_sub(1);
            Ok((*left > 0).then(|| Bytes::from_static(b"more")))
        }
    }

    /// A client that keeps what it gets, at its own pace, or takes nothing.
    #[derive(Clone, Default)]
    struct Taken {
        bytes: Arc<Mutex<Vec<u8>>>,
        pause: Duration,
        refuse: bool,
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
        let left = Arc::new(Mutex::new(100));
        input(Countdown(Arc::clone(&left)), writer).await;
        assert_eq!(*left.lock().unwrap(), 0);
    }

    #[tokio::test]
    async fn the_end_and_the_loss_of_the_input_both_close_it() {
        for then in [Ok(()), Err(io::ErrorKind::ConnectionReset.into())] {
            let (reader, writer) = pipe();
            input(Script(vec!["a"], then), writer).await;
            assert_eq!(reader.read().await.unwrap().unwrap(), "a");
            assert_eq!(reader.read().await.unwrap(), None);
        }
    }
}
