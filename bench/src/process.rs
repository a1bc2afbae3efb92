//! Peers as processes: started on the server's core, asked for their CPU, ended with the bench.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;

use crate::place::{LOAD_CORE, Place, SERVER_CORE, pin};

/// The token of servers that want one. Loopback only, and for as long as a run takes.
pub const TOKEN: &str = "bench-bench-bench-bench-bench-bench";

/// How a peer is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wire {
    /// A line that says what to do, then bytes.
    Raw,
    /// An HTTP upgrade, then channels.
    WebSocket,
}

/// A server under test.
#[derive(Debug)]
pub struct Peer {
    /// What the tables call it.
    pub name: &'static str,
    /// How it is spoken to.
    pub wire: Wire,
    /// Where it listens.
    pub address: SocketAddr,
    /// Whether it wants TLS.
    pub tls: bool,
    child: Child,
    // Open as long as the peer: one that writes would be killed by a closed pipe.
    _stdout: BufReader<ChildStdout>,
    _folder: Option<tempfile::TempDir>,
}

impl Peer {
    /// Starts a command on the server's core and waits for the line in which it says where it listens.
    ///
    /// # Errors
    ///
    /// It cannot be started, or says nothing.
    pub fn start(name: &'static str, wire: Wire, command: &mut Command) -> Result<Self> {
        pin(SERVER_CORE);
        let spawned = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
        pin(LOAD_CORE);
        let mut child = spawned.with_context(|| format!("cannot start {name}"))?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut line = String::new();
        stdout.read_line(&mut line)?;
        let address = line.split_whitespace().last().unwrap_or_default();
        let address = address.trim_start_matches("http://").trim_start_matches("https://");
        let Ok(address) = address.parse() else { bail!("{name} said {line:?} and not where it listens") };
        Ok(Self { name, wire, address, tls: false, child, _stdout: stdout, _folder: None })
    }

    /// The relays without WebSocket: the limit.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn raw(place: &Place) -> Result<Self> {
        Self::start("raw", Wire::Raw, Command::new(&place.own).args(["peer", "raw"]))
    }

    /// The library in a small server of its own.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn library(place: &Place) -> Result<Self> {
        Self::start("library", Wire::WebSocket, Command::new(&place.own).args(["peer", "library"]))
    }

    /// The library with one budget for what waits in all its sessions.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn bounded(place: &Place) -> Result<Self> {
        Self::start("library", Wire::WebSocket, Command::new(&place.own).args(["peer", "bounded"]))
    }

    /// The server crate in a program of its own, with room for more connections than the program allows.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn embedded(place: &Place) -> Result<Self> {
        Self::start("server crate", Wire::WebSocket, Command::new(&place.own).args(["peer", "server"]))
    }

    /// The program that people run.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn serve(place: &Place, name: &'static str, flags: &[&str]) -> Result<Self> {
        let folder = tempfile::tempdir()?;
        let tokens = folder.path().join("tokens");
        std::fs::write(&tokens, TOKEN)?;
        let mut command = Command::new(&place.wsstream);
        command.args(["serve", "--listen", "127.0.0.1:0", "--token-file"]).arg(&tokens);
        command.arg("--kubeconfig").arg(folder.path().join("kubeconfig"));
        command.args(flags).stderr(Stdio::null());
        let mut peer = Self::start(name, Wire::WebSocket, &mut command)?;
        peer.tls = !flags.contains(&"--insecure-http");
        peer._folder = Some(folder);
        Ok(peer)
    }

    /// Go's streaming server, when it was built.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn go(place: &Place) -> Result<Option<Self>> {
        let Some(program) = &place.go_server else { return Ok(None) };
        // Its log would be part of its cost and of nobody's interest.
        Self::start("Go", Wire::WebSocket, Command::new(program).stderr(Stdio::null())).map(Some)
    }

    /// The relay, the library, the program without TLS, and Go's server when it was built: in this order.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub fn all(place: &Place) -> Result<Vec<Self>> {
        let ours = Self::serve(place, "wsstream serve", &["--insecure-http"])?;
        let mut peers = vec![Self::raw(place)?, Self::library(place)?, ours];
        peers.extend(Self::go(place)?);
        Ok(peers)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The CPU that the process has used so far, user and system, all threads, children apart: what getrusage says, read
    /// from outside and to the nanosecond.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn cpu(&self) -> Result<Duration> {
        let pid = Pid::from_raw(i32::try_from(self.child.id())?);
        let time =
            clock_gettime(clock_getcpuclockid(pid)?).with_context(|| format!("{} is gone", self.name))?;
        Ok(time.into())
    }

    /// Anonymous memory of the process that is in RAM, in KiB: its heap and stacks, without the program's pages, which all
    /// processes share.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn resident(&self) -> Result<f64> {
        resident(self.child.id())
    }

    /// The same of its descendants together, as far as they are `program`: keepers are children of a child.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn resident_children(&self, program: &str) -> Result<f64> {
        let (mut sum, mut left) = (0.0, vec![self.child.id()]);
        while let Some(pid) = left.pop() {
            for pid in children(pid) {
                if name_of(pid) == program {
                    sum += resident(pid).unwrap_or(0.0);
                }
                left.push(pid);
            }
        }
        Ok(sum)
    }

    /// The part of [`cpu`](Self::cpu) that the process has spent in the kernel, of all it has spent so far: 0 to 1. Sampled
    /// in steps of 10 ms, so of use for seconds of CPU only.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn kernel_part(&self) -> Result<f64> {
        let [user, kernel, ..] = ticks(self.child.id())?;
        Ok(kernel / (user + kernel))
    }

    /// The CPU of its children that have ended and were waited for, and of a child that forks keepers, in steps of 10 ms.
    ///
    /// # Errors
    ///
    /// It is gone.
    pub fn cpu_of_children(&self) -> Result<Duration> {
        let [_, _, user, kernel] = ticks(self.child.id())?;
        let forks = children(self.child.id()).into_iter().filter(|pid| name_of(*pid) == "ws-zygote");
        let forks: f64 = forks.flat_map(ticks).flatten().sum();
        Ok(Duration::from_secs_f64((user + kernel + forks) / 100.0))
    }
}

/// User and system time of a process, and of its children that were waited for, in hundredths of a second.
fn ticks(pid: u32) -> Result<[f64; 4]> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, fields) = stat.rsplit_once(')').context("an odd stat")?;
    let ticks: Vec<f64> = fields.split_whitespace().skip(11).take(4).flat_map(str::parse).collect();
    ticks.try_into().map_err(|_| anyhow::anyhow!("an odd stat"))
}

/// None of one that has ended meanwhile.
fn children(pid: u32) -> Vec<u32> {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    children.split_whitespace().flat_map(str::parse).collect()
}

fn name_of(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned()
}

fn resident(pid: u32) -> Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).context("no RssAnon")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
