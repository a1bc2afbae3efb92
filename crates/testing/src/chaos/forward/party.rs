//! The programs at the two ends of a connection: they say what they have to say, read to the end, and remember what that
//! end looked like.

use std::io;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use wsstream::portforward::{PortReader, PortStream};

use super::script::{Conversation, Mishap, Order};
use crate::chaos::content::{Checker, Content};
use crate::chaos::script::Taking;

/// How what a program read came to its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// In good order.
    Clean,
    /// Not: reset, aborted, lost.
    Broken(String),
}

/// What one program has seen and done so far.
#[derive(Debug, Clone)]
pub struct View {
    /// What it read.
    pub heard: Checker,
    /// How that ended; `None`: not yet.
    pub end: Option<End>,
    /// When that was.
    pub ended_at: Option<Instant>,
    /// It has begun to end its own direction in good order.
    pub closing: bool,
    /// When that was.
    pub closed_at: Option<Instant>,
    /// It has nothing more to say, or nobody takes it.
    pub silent: bool,
    /// What the server told about the connection, at the client.
    pub text: Option<String>,
}

impl View {
    /// Nothing was seen.
    #[must_use]
    pub fn new(heard: Checker) -> Self {
        Self { heard, end: None, closing: false, closed_at: None, ended_at: None, silent: false, text: None }
    }

    fn over(&mut self, end: End) {
        self.end = Some(end);
        self.ended_at = Some(Instant::now());
    }
}

/// When a program ends its direction, behind all that it has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closes {
    /// At once.
    WhenSaid,
    /// When it has heard all that there is, by count.
    WhenHeard,
    /// When the other direction has ended.
    BehindEnd,
}

/// A program: where it sees and what it is to do.
#[derive(Debug)]
pub struct Party {
    /// What it says.
    pub says: Content,
    /// How much of it.
    pub length: u64,
    /// How much it will hear.
    pub hears: u64,
    /// It speaks behind the other's end.
    pub after_end: bool,
    /// When it ends its direction.
    pub closes: Closes,
    /// How it reads.
    pub taking: Taking,
    /// It leaves without an end when it has said so much.
    pub leaves: Option<u64>,
    /// The sizes of its writes.
    pub seed: u64,
}

/// Whether a program did what it was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stay {
    /// To the end, whatever that was.
    Whole,
    /// It left on purpose: its side is to be reset.
    Left,
}

impl Party {
    /// The client's.
    #[must_use]
    pub fn client(one: &Conversation) -> Self {
        Self {
            says: one.content(0),
            length: one.up,
            hears: one.down,
            after_end: one.order == Order::TargetFirst,
            closes: Closes::WhenSaid,
            taking: one.near_takes,
            leaves: if let Mishap::ClientResets(at) = one.mishap { Some(at) } else { None },
            seed: one.seed,
        }
    }

    /// The target's.
    #[must_use]
    pub fn target(one: &Conversation) -> Self {
        Self {
            says: one.content(1),
            length: one.down,
            hears: one.up,
            after_end: one.order == Order::ClientFirst,
            closes: match one.order {
                Order::TargetCounts => Closes::WhenHeard,
                Order::ClientCounts => Closes::BehindEnd,
                _ => Closes::WhenSaid,
            },
            taking: one.far_takes,
            leaves: if let Mishap::TargetResets(at) = one.mishap { Some(at) } else { None },
            seed: one.seed ^ 1,
        }
    }

    /// Speaks and listens on `stream` to the end of both.
    pub async fn talk(
        self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        view: &watch::Sender<View>,
    ) -> Stay {
        let (reads, writes) = tokio::io::split(stream);
        self.converse(reads, writes, |_| false, view).await
    }

    /// The same on a forwarded stream, whose end may be no more than this side's own. It is whole again afterwards.
    pub async fn talk_through(self, stream: PortStream, view: &watch::Sender<View>) -> (Stay, PortStream) {
        let (mut reader, mut writer) = stream.split();
        let stay = self.converse(&mut reader, &mut writer, |reader| PortReader::is_cut(reader), view).await;
        (stay, PortStream::join(reader, writer))
    }

    async fn converse<R: AsyncRead + Unpin>(
        &self,
        reads: R,
        writes: impl AsyncWrite + Unpin,
        is_cut: impl Fn(&R) -> bool,
        view: &watch::Sender<View>,
    ) -> Stay {
        let mut listening = std::pin::pin!(self.listen(reads, is_cut, view));
        let mut speaking = std::pin::pin!(self.speak(writes, view));
        tokio::select! {
            clean = &mut listening => if clean { speaking.await } else { Stay::Whole },
            stay = &mut speaking => {
                if stay == Stay::Whole {
                    listening.await;
                }
                stay
            }
        }
    }

    /// Whether it may go on to speak.
    async fn listen<R: AsyncRead + Unpin>(
        &self,
        mut from: R,
        is_cut: impl Fn(&R) -> bool,
        view: &watch::Sender<View>,
    ) -> bool {
        let mut buffer = vec![0; 8 << 10];
        let mut rested = false;
        loop {
            match from.read(&mut buffer).await {
                Ok(0) => {
                    // Its own end has cut off what it reads, which is no fault of the connection.
                    let cut = || End::Broken("cut off by its own end".to_owned());
                    let end = if is_cut(&from) { cut() } else { End::Clean };
                    view.send_modify(|view| view.over(end));
                    return true;
                }
                Ok(n) => view.send_modify(|view| view.heard.feed(&buffer[..n])),
                Err(error) => {
                    view.send_modify(|view| view.over(End::Broken(error.to_string())));
                    return false;
                }
            }
            match self.taking {
                Taking::Slow(pause) => sleep(pause).await,
                Taking::Paused(pause) if !rested => {
                    rested = true;
                    sleep(pause).await;
                }
                Taking::Eager | Taking::Paused(_) => {}
            }
        }
    }

    async fn speak(&self, mut to: impl AsyncWrite + Unpin, view: &watch::Sender<View>) -> Stay {
        let mut seen = view.subscribe();
        if self.after_end {
            let _ = seen.wait_for(|view| view.end.is_some()).await;
        }
        // Where nobody takes it, what comes is still read.
        let stay = self.say(&mut to, view, &mut seen).await.unwrap_or(Stay::Whole);
        view.send_modify(|view| view.silent = true);
        stay
    }

    async fn say(
        &self,
        to: &mut (impl AsyncWrite + Unpin),
        view: &watch::Sender<View>,
        seen: &mut watch::Receiver<View>,
    ) -> io::Result<Stay> {
        let mut rng = SmallRng::seed_from_u64(self.seed);
        let until = self.leaves.unwrap_or(self.length).min(self.length);
        let mut sent = 0;
        while sent < until {
            let most = (until - sent).min(if rng.random_bool(0.3) { 32 << 10 } else { 3000 });
            let length = rng.random_range(1..=most);
            to.write_all(&self.says.bytes(sent, length as usize)).await?;
            to.flush().await?;
            sent += length;
        }
        if self.leaves.is_some() {
            return Ok(Stay::Left);
        }
        let by_count = self.closes == Closes::WhenHeard;
        if self.closes != Closes::WhenSaid {
            let heard = |view: &View| view.end.is_some() || by_count && view.heard.seen() >= self.hears;
            let _ = seen.wait_for(heard).await;
        }
        view.send_modify(|view| {
            view.closing = true;
            view.closed_at = Some(Instant::now());
        });
        to.shutdown().await?;
        Ok(Stay::Whole)
    }
}
