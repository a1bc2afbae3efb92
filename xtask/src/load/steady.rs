//! Sessions that run all the time: commands with endless output, read as fast as it comes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{Instant, MissedTickBehavior, interval, sleep},
};

use super::server::{PODS, Server, head};

/// A masked pong without payload: whom nothing comes from counts as dead.
const PONG: [u8; 6] = [0x8a, 0x80, 0, 0, 0, 0];

pub(super) struct Steady {
    bytes: Arc<AtomicU64>,
    sessions: JoinSet<bool>,
    stop: watch::Sender<bool>,
}

impl Steady {
    pub(super) async fn start(server: &Server, count: usize) -> Result<Self> {
        let bytes = Arc::new(AtomicU64::new(0));
        let stop = watch::Sender::new(false);
        let mut sessions = JoinSet::new();
        for _ in 0..count {
            let mut io = TcpStream::connect(server.address).await?;
            io.write_all(server.upgrade(0, PODS[0], &["cat", "/dev/zero"], "", false).as_bytes()).await?;
            let answer = head(&mut io).await?;
            ensure!(answer.starts_with("HTTP/1.1 101"), "a running session was refused: {answer}");
            sessions.spawn(read(io, Arc::clone(&bytes), stop.subscribe()));
        }
        Ok(Self { bytes, sessions, stop })
    }

    /// Bytes a second of one of them.
    pub(super) async fn rate_over(&self, time: Duration) -> f64 {
        let (began, before) = (Instant::now(), self.bytes.load(Ordering::Relaxed));
        sleep(time).await;
        let bytes = self.bytes.load(Ordering::Relaxed) - before;
        bytes as f64 / began.elapsed().as_secs_f64() / self.sessions.len() as f64
    }

    /// Leaves; how many were still running.
    pub(super) async fn stop(mut self) -> usize {
        self.stop.send_replace(true);
        let mut left = 0;
        while let Some(session) = self.sessions.join_next().await {
            left += usize::from(session.unwrap_or(false));
        }
        left
    }
}

/// Whether it ran until it was stopped.
async fn read(mut io: TcpStream, bytes: Arc<AtomicU64>, mut stop: watch::Receiver<bool>) -> bool {
    let mut buffer = vec![0; 64 << 10];
    let mut pongs = interval(Duration::from_secs(10));
    pongs.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            read = io.read(&mut buffer) => match read {
                Ok(0) | Err(_) => return false,
                Ok(n) => _ = bytes.fetch_add(n as u64, Ordering::Relaxed),
            },
            _ = pongs.tick() => if io.write_all(&PONG).await.is_err() { return false },
            _ = stop.changed() => return true,
        }
    }
}
