//! A TCP proxy under a plan, between any client and any server: kubectl and Go's server as well as ours.
//!
//! A cut is what TCP has: FIN is a shutdown of both directions, RST a close with a linger time of zero. Whatever a
//! plan says happens to every connection through the proxy, so one proxy is made for one session. What the plan does not
//! cut arrives: when a server resets its connection, the client first gets all that had been sent before.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::lane::Lane;
use super::link::Record;
use super::plan::{Fault, Plan, Way};

/// How long a cut connection's sockets are still read, so that closing them does not turn FIN into RST.
const LINGER: Duration = Duration::from_secs(2);

/// What both directions of a connection know.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Runs,
    Fin,
    Reset,
    Vanished,
}

#[derive(Debug, Default)]
struct Counts {
    passed: [AtomicU64; 2],
    fired: AtomicU32,
    connections: AtomicU32,
}

/// A running proxy; dropped, it and its connections end at once.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    counts: Arc<Counts>,
    task: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port of loopback and passes what comes to `upstream`, each connection under `plan`.
    ///
    /// # Errors
    ///
    /// No port, or no descriptors.
    pub async fn start(upstream: SocketAddr, plan: Plan) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let counts = Arc::<Counts>::default();
        let shared = Arc::clone(&counts);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                let (plan, counts) = (plan.clone(), Arc::clone(&shared));
                counts.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(async move {
                    if let Ok(server) = TcpStream::connect(upstream).await {
                        relay(client, server, &plan, &counts).await;
                    }
                });
                while connections.try_join_next().is_some() {}
            }
        });
        Ok(Self { address, counts, task })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What has happened so far, on all connections together.
    #[must_use]
    pub fn record(&self) -> Record {
        let passed = [0, 1].map(|way: usize| self.counts.passed[way].load(Ordering::Relaxed));
        Record { passed, fired: self.counts.fired.load(Ordering::Relaxed) }
    }

    /// How many connections have come.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.counts.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Joins two sockets under a plan until both directions are over.
async fn relay(client: TcpStream, server: TcpStream, plan: &Plan, counts: &Counts) {
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (fate, _) = watch::channel(Fate::Runs);
    let (client_reads, client_writes) = client.into_split();
    let (server_reads, server_writes) = server.into_split();
    let (answered, _) = watch::channel(false);
    let pipe = |way| Pipe { lane: Lane::new(plan, way), way, fate: &fate, answered: &answered, counts };
    let (up, down) = (pipe(Way::Up), pipe(Way::Down));
    let (from_client, from_server) =
        tokio::join!(up.run(client_reads, server_writes), down.run(server_reads, client_writes));
    let last = *fate.borrow();
    match last {
        Fate::Reset => {
            for (reads, writes) in [from_client, from_server] {
                let _ = SockRef::from(AsRef::<TcpStream>::as_ref(&reads)).set_linger(Some(Duration::ZERO));
                // Dropped, it would send FIN first.
                writes.forget();
            }
        }
        Fate::Fin => {
            let drain = |mut half: (OwnedReadHalf, OwnedWriteHalf)| async move {
                let _ = half.1.shutdown().await;
                let _ = timeout(LINGER, tokio::io::copy(&mut half.0, &mut tokio::io::sink())).await;
            };
            tokio::join!(drain(from_client), drain(from_server));
        }
        Fate::Runs | Fate::Vanished => {}
    }
}

struct Pipe<'a> {
    lane: Lane,
    way: Way,
    fate: &'a watch::Sender<Fate>,
    /// Whether all that comes from the server has been handed on.
    answered: &'a watch::Sender<bool>,
    counts: &'a Counts,
}

impl Pipe<'_> {
    /// Moves bytes until the end of this direction or of the connection.
    async fn run(
        mut self,
        mut from: OwnedReadHalf,
        mut to: OwnedWriteHalf,
    ) -> (OwnedReadHalf, OwnedWriteHalf) {
        let mut fate = self.fate.subscribe();
        let ended = async move {
            let _ = fate.wait_for(|fate| *fate != Fate::Runs).await;
            let last = *fate.borrow();
            if last == Fate::Vanished {
                // Nothing passes and nobody is told, until the proxy is dropped.
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            // A cut is over in both directions at once.
            biased;
            () = ended => {}
            () = self.moves(&mut from, &mut to) => {}
        }
        if self.way == Way::Down {
            let _ = self.answered.send(true);
        }
        (from, to)
    }

    /// The server takes nothing more: throws away what the client sends, until it ends or has had its time for the
    /// server's last words.
    async fn unheard(&self, from: &mut OwnedReadHalf) {
        let mut answered = self.answered.subscribe();
        let over = async {
            let _ = answered.wait_for(|answered| *answered).await;
            sleep(LINGER).await;
        };
        let mut nowhere = tokio::io::sink();
        tokio::select! {
            _ = tokio::io::copy(from, &mut nowhere) => {}
            () = over => drop(self.fate.send(Fate::Reset)),
        }
    }

    async fn moves(&mut self, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) {
        let mut buffer = vec![0; 64 << 10];
        let mut out = Vec::new();
        let mut length = 0;
        let mut at_end = false;
        let mut fired = 0;
        loop {
            // A fault may stand before the first byte.
            let mut start = 0;
            loop {
                let (used, fault) = self.lane.process(&buffer[start..length], &mut out);
                start += used;
                self.counts.fired.fetch_add(self.lane.fired() - fired, Ordering::Relaxed);
                fired = self.lane.fired();
                self.counts.passed[self.way.index()].fetch_add(used as u64, Ordering::Relaxed);
                if self.deliver(&mut out, to).await.is_err() {
                    match self.way {
                        Way::Down => drop(self.fate.send(Fate::Reset)),
                        // The other direction hands on what the server has sent before it went; then all ends.
                        Way::Up => self.unheard(from).await,
                    }
                    return;
                }
                match fault {
                    None if start == length => break,
                    Some(fault) if self.fault(fault, from, to).await => return,
                    None | Some(_) => {}
                }
            }
            if at_end {
                let _ = to.shutdown().await;
                return;
            }
            match from.read(&mut buffer).await {
                Ok(0) => {
                    at_end = true;
                    length = 0;
                }
                Ok(n) => length = n,
                Err(_) if self.way == Way::Down => {
                    // A reset behind the last bytes. Passed on at once it would overtake those that the client has
                    // not read, which it does on no wire between two Linux machines; so FIN goes first.
                    let _ = to.shutdown().await;
                    sleep(LINGER).await;
                    let _ = self.fate.send(Fate::Reset);
                    return;
                }
                Err(_) => {
                    let _ = self.fate.send(Fate::Reset);
                    return;
                }
            }
        }
    }

    async fn deliver(&mut self, out: &mut Vec<u8>, to: &mut OwnedWriteHalf) -> io::Result<()> {
        let mut at = 0;
        while at < out.len() {
            let most = self.lane.pace.rate.map_or(usize::MAX, |rate| (rate / 20).max(1) as usize);
            let n = self.lane.piece(out.len() - at).min(most);
            if let Some(delay) = self.lane.pace.delay {
                sleep(delay).await;
            }
            to.write_all(&out[at..at + n]).await?;
            if let Some(rate) = self.lane.pace.rate {
                sleep(Duration::from_secs_f64(n as f64 / rate as f64)).await;
            }
            at += n;
        }
        out.clear();
        Ok(())
    }

    /// Whether this direction is over.
    async fn fault(&mut self, fault: Fault, from: &mut OwnedReadHalf, to: &mut OwnedWriteHalf) -> bool {
        let fate = match fault {
            Fault::Fin => Fate::Fin,
            Fault::Reset => Fate::Reset,
            Fault::Vanish => Fate::Vanished,
            Fault::Stall(Some(time)) => {
                sleep(time).await;
                return false;
            }
            Fault::Stall(None) => std::future::pending().await,
            Fault::HalfClose => {
                let _ = to.shutdown().await;
                let _ = tokio::io::copy(from, &mut tokio::io::sink()).await;
                return true;
            }
            Fault::Flip(_) => return false,
        };
        let _ = self.fate.send(fate);
        // The whole connection's end is done where both directions meet.
        std::future::pending().await
    }
}
