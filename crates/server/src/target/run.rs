//! One run of a supervised process, as the clients that attach to it and the readers of its log see it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
};

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wsstream::remotecommand::TerminalSize;

use super::{
    descriptor::Descriptor,
    history::{History, OutputStream},
    pump::{Sink, Source},
    queue::Queue,
    spawn::resize,
};

/// How many chunks of input wait for the process, and how large they are at most. All attached clients share them.
const QUEUED_INPUT: usize = 4;
const INPUT_CHUNK: usize = 32 * 1024;

/// The state that a running process shares with its clients.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) log: History,
    /// Cancelled when the process has exited.
    pub(crate) exited: CancellationToken,
    /// Cancelled when, after that, its output has been queued for every client.
    pub(crate) ended: CancellationToken,
    clients: Mutex<Clients>,
    /// `None`: the process was declared without stdin.
    input: Option<mpsc::Sender<InputPart>>,
    /// The terminal, while it exists. Weak: clients must not keep a terminal open.
    terminal: Mutex<Weak<Descriptor>>,
}

#[derive(Debug, Default)]
struct Clients {
    attached: Vec<Attached>,
    closed: bool,
}

/// One client's part of the output: a queue for each stream that it asked for.
#[derive(Debug)]
struct Attached {
    stdout: Option<Arc<Queue>>,
    stderr: Option<Arc<Queue>>,
}

/// The client's ends of its queues. Detaches when dropped.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) stdout: Option<Arc<Queue>>,
    pub(crate) stderr: Option<Arc<Queue>>,
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.stdout.iter().chain(&self.stderr).for_each(|queue| queue.abandon());
    }
}

/// What attached clients send.
#[derive(Debug)]
enum InputPart {
    Data(Bytes),
    End,
}

/// The process's end of the input of all clients.
#[derive(Debug)]
pub(crate) struct SharedInput(mpsc::Receiver<InputPart>);

impl Source for SharedInput {
    async fn chunk(&mut self) -> io::Result<Option<Bytes>> {
        Ok(match self.0.recv().await {
            Some(InputPart::Data(data)) => Some(data),
            // Also when the run is over and nobody can send any more.
            Some(InputPart::End) | None => None,
        })
    }
}

impl Run {
    /// A run that is about to begin, and the process's end of its input if it has one.
    pub(crate) fn new(history: usize, stdin: bool) -> (Arc<Self>, Option<SharedInput>) {
        let (input, shared) = if stdin {
            let (sender, receiver) = mpsc::channel(QUEUED_INPUT);
            (Some(sender), Some(SharedInput(receiver)))
        } else {
            (None, None)
        };
        let run = Self {
            log: History::new(history),
            exited: CancellationToken::new(),
            ended: CancellationToken::new(),
            clients: Mutex::default(),
            input,
            terminal: Mutex::default(),
        };
        (Arc::new(run), shared)
    }

    /// Joins the output from now on. When the run is over the queues are closed at once.
    pub(crate) fn attach(&self, stdout: bool, stderr: bool) -> Attachment {
        let attachment = Attachment {
            stdout: stdout.then(Arc::<Queue>::default),
            stderr: stderr.then(Arc::<Queue>::default),
        };
        let attached = Attached { stdout: attachment.stdout.clone(), stderr: attachment.stderr.clone() };
        let mut clients = self.clients();
        if clients.closed {
            attached.close();
        } else {
            clients.attached.push(attached);
        }
        attachment
    }

    /// Ends the run for everybody: clients get what is queued for them and then the end.
    pub(crate) fn end(&self) {
        self.log.close(Timestamp::now());
        let mut clients = self.clients();
        clients.closed = true;
        clients.attached.drain(..).for_each(|client| client.close());
        drop(clients);
        self.exited.cancel();
        self.ended.cancel();
    }

    /// Whether the process was declared with stdin.
    pub(crate) fn takes_input(&self) -> bool {
        self.input.is_some()
    }

    /// Sends input to the process; `false` once it takes no more. Not cancel-safe: part of `data` may have been sent.
    pub(crate) async fn send_input(&self, mut data: Bytes) -> bool {
        let Some(input) = &self.input else { return false };
        // In small pieces, so that the queue is bounded in bytes and clients take turns.
        while !data.is_empty() {
            let piece = data.split_to(data.len().min(INPUT_CHUNK));
            if input.send(InputPart::Data(piece)).await.is_err() {
                return false;
            }
        }
        true
    }

    /// Closes the process's stdin behind what has been sent.
    pub(crate) async fn end_input(&self) {
        if let Some(input) = &self.input {
            // Refused only when it has ended already.
            input.send(InputPart::End).await.ok();
        }
    }

    /// Makes the terminal known. Held weakly.
    pub(crate) fn set_terminal(&self, master: &Arc<Descriptor>) {
        *self.terminal.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(master);
    }

    /// Resizes the terminal, if there is one. A client that attaches sends a size that is off by one and then its own,
    /// so that the processes see a change and draw themselves anew: every size is passed on.
    pub(crate) fn resize(&self, size: TerminalSize) {
        let terminal = self.terminal.lock().unwrap_or_else(PoisonError::into_inner).upgrade();
        if let Some(master) = terminal
            && let Err(error) = resize(&master, size)
        {
            tracing::debug!(%error, "cannot resize a terminal");
        }
    }

    fn clients(&self) -> MutexGuard<'_, Clients> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queues(&self, stream: OutputStream) -> Vec<Arc<Queue>> {
        let mut clients = self.clients();
        clients.attached.retain(|client| !client.is_gone());
        clients.attached.iter().filter_map(|client| client.queue(stream).cloned()).collect()
    }
}

impl Attached {
    fn queue(&self, stream: OutputStream) -> Option<&Arc<Queue>> {
        match stream {
            OutputStream::Stdout => self.stdout.as_ref(),
            OutputStream::Stderr => self.stderr.as_ref(),
        }
    }

    fn is_gone(&self) -> bool {
        self.stdout.iter().chain(&self.stderr).all(|queue| queue.is_abandoned())
    }

    fn close(&self) {
        self.stdout.iter().chain(&self.stderr).for_each(|queue| queue.close());
    }
}

/// One output of the process: into the log, which never waits, and to every attached client, each of which may.
#[derive(Debug)]
pub(crate) struct Fanout {
    pub(crate) run: Arc<Run>,
    pub(crate) stream: OutputStream,
}

impl Sink for Fanout {
    async fn send(&mut self, data: Bytes) -> io::Result<()> {
        self.run.log.append(self.stream, &data, Timestamp::now());
        for queue in self.run.queues(self.stream) {
            // One after the other takes as long as all at once: until the slowest has room.
            queue.push(&data, &self.run.exited).await;
        }
        Ok(())
    }
}
