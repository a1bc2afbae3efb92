//! The servers of the real sweeps: ours as a process, and room for another one to compare it with.

use std::{
    fs::{self, File},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::peers::Peers;
use crate::workspace::{Workspace, show};

/// How soon a server must serve.
const STARTS: Duration = Duration::from_secs(20);

/// Threads for blocking work, which the runtime keeps for a while.
const SPARE_THREADS: usize = 2;

/// Whose server a sweep is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// `wsstream serve` over plain HTTP.
    Plain,
    /// `wsstream serve` over TLS.
    Tls,
    /// The server of Go's own streaming code, which `cargo xtask interop` builds from interop/go: for comparison.
    Go,
}

/// The programs, and a folder for what they write.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) binary: PathBuf,
    pub(crate) puppet: PathBuf,
    /// Programs of others: kubectl, and Go's, which are built when they are asked for.
    pub(crate) peers: Peers,
    pub(crate) folder: TempDir,
}

impl Place {
    /// Builds the binary under test.
    pub(crate) fn prepare(workspace: &Workspace, debug: bool) -> Result<Self> {
        let binary = match std::env::var_os("WSSTREAM_BIN") {
            Some(built) => built.into(),
            None => build(workspace, debug)?,
        };
        let folder = tempfile::Builder::new().prefix("wsstream-chaos-").tempdir()?;
        // Copies: a rebuild during a long run must not change what it runs.
        let copy = |from: &Path, name: &str| -> Result<PathBuf> {
            let to = folder.path().join(name);
            fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
            Ok(to)
        };
        let binary = copy(&binary, "wsstream")?;
        let puppet = copy(&std::env::current_exe()?, "puppet")?;
        Ok(Self { binary, puppet, peers: Peers::find(workspace), folder })
    }
}

/// `WSSTREAM_GO_SERVER` names another than interop/go's.
fn go_server(place: &Place) -> Result<PathBuf> {
    std::env::var_os("WSSTREAM_GO_SERVER")
        .map_or_else(|| Ok(place.peers.go()?.server), |path| Ok(path.into()))
}

/// `WSSTREAM_BIN` names one that is built already.
fn build(workspace: &Workspace, debug: bool) -> Result<PathBuf> {
    let mut args = vec!["build", "--quiet", "--package", "wsstream-cli"];
    if !debug {
        args.push("--release");
    }
    let built = show(&mut workspace.cargo(&args));
    if built != crate::report::Outcome::Passed {
        bail!("the binary does not build: {built:?}");
    }
    Ok(workspace.target.join(if debug { "debug" } else { "release" }).join("wsstream"))
}

/// A running server.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    /// Its process.
    pub(crate) pid: u32,
    /// Where it listens.
    pub(crate) address: SocketAddr,
    /// The kubeconfig that it wrote.
    kubeconfig: String,
    /// The token in it.
    pub(crate) token: String,
    pub(crate) target: Target,
    pub(crate) log: PathBuf,
    folder: PathBuf,
}

impl Running {
    /// Starts a server, with at most `descriptors` open files where that is given.
    pub(crate) async fn start(place: &Place, target: Target, descriptors: Option<u32>) -> Result<Self> {
        Self::start_with(place, target, descriptors, &[]).await
    }

    /// The same with more words on its command line.
    pub(crate) async fn start_with(
        place: &Place,
        target: Target,
        descriptors: Option<u32>,
        words: &[String],
    ) -> Result<Self> {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = place.folder.path().join(format!("server-{number}"));
        fs::create_dir_all(&folder)?;
        let (kubeconfig, log) = (folder.join("kubeconfig"), folder.join("log"));
        let output = File::create(&log)?;
        let mut command = match descriptors {
            _ if target == Target::Go => Command::new(go_server(place)?),
            None => Command::new(&place.binary),
            Some(limit) => {
                let mut command = Command::new("sh");
                command.args(["-c", &format!("ulimit -n {limit}; exec \"$0\" \"$@\"")]).arg(&place.binary);
                command
            }
        };
        if target != Target::Go {
            command.arg("serve");
        }
        command.args(["--listen", "127.0.0.1:0", "--kubeconfig"]).arg(&kubeconfig);
        if target == Target::Plain {
            command.arg("--insecure-http");
        }
        command.args(words);
        command
            .env("HOME", &folder)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "error".into()))
            .env("RUST_BACKTRACE", "1")
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        let mut child = command.spawn().context("cannot run the server")?;
        let pid = child.id().context("the server has no pid")?;
        let started = Instant::now();
        let text = loop {
            if let Ok(text) = fs::read_to_string(&kubeconfig)
                && (text.contains("token") || target == Target::Go && text.contains("current-context"))
            {
                break text;
            }
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}: {}", fs::read_to_string(&log)?);
            }
            if started.elapsed() > STARTS {
                bail!("no server after {STARTS:?}");
            }
            sleep(Duration::from_millis(5)).await;
        };
        // Flow or block style, quoted or not; the comment at the top speaks of a token, too.
        let fields: String =
            text.lines().filter(|line| !line.starts_with('#')).map(|line| format!("{line}\n")).collect();
        let field = |name: &str| {
            let value = fields.split_once(name)?.1.trim_start().trim_start_matches('"');
            Some(value.split(['"', '}', '\n', ',']).next().unwrap_or_default().trim().to_owned())
        };
        let url = field("server:").context("no server in the kubeconfig")?;
        let address = url.rsplit_once("//").context("no URL")?.1.trim_end_matches('/').parse()?;
        let token = field("token:").unwrap_or_default();
        Ok(Self { child, pid, address, kubeconfig: text, token, target, log, folder })
    }

    /// Writes a kubeconfig that leads to `address` instead.
    pub(crate) fn kubeconfig_for(&self, name: &str, address: SocketAddr) -> Result<PathBuf> {
        let path = self.folder.join(name);
        fs::write(&path, self.kubeconfig.replace(&self.address.to_string(), &address.to_string()))?;
        Ok(path)
    }

    /// Waits until `commands` supervised puppets run, and the server knows it.
    pub(crate) async fn supervises(&self, place: &Place, commands: usize) -> Result<()> {
        let started = Instant::now();
        while puppets(place) < commands {
            if started.elapsed() > STARTS {
                bail!("{} of {commands} commands run after {STARTS:?}", puppets(place));
            }
            sleep(Duration::from_millis(10)).await;
        }
        // A log is there when the server calls the command running.
        for number in 0..commands {
            let ask = async || {
                if self.target == Target::Plain {
                    let path = format!("/api/v1/namespaces/default/pods/p{number}/log");
                    return Ok::<_, anyhow::Error>(self.get(&path).await?.contains("200 OK"));
                }
                let kubeconfig = self.kubeconfig_for("kubeconfig-asks", self.address)?;
                let mut command = Command::new(&place.binary);
                command.args(["logs", "--quiet", &format!("p{number}")]).env("KUBECONFIG", kubeconfig);
                Ok(command.stdout(Stdio::null()).stderr(Stdio::null()).status().await?.success())
            };
            while !ask().await? {
                if started.elapsed() > STARTS {
                    bail!("command {number} does not run after {STARTS:?}");
                }
                sleep(Duration::from_millis(10)).await;
            }
        }
        Ok(())
    }

    /// The answer to a GET over plain HTTP, head and body.
    async fn get(&self, path: &str) -> Result<String> {
        let mut socket = TcpStream::connect(self.address).await?;
        let head = format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
            self.token
        );
        socket.write_all(head.as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    }

    /// Sends a signal to it.
    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for its end; true when it ended by itself within `limit`.
    pub(crate) async fn ends(&mut self, limit: Duration) -> bool {
        timeout(limit, self.child.wait()).await.is_ok()
    }

    /// Panics that its log tells of.
    pub(crate) fn panics(&self) -> u64 {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| line.contains("panicked at")).count() as u64
    }

    /// What it holds now.
    pub(crate) fn reading(&self) -> Result<Reading> {
        Reading::of(self.pid)
    }

    /// Connections that it holds, which a count of descriptors hides while its commands end and free theirs.
    pub(crate) fn connections(&self) -> usize {
        let port = format!(":{:04X}", self.address.port());
        let Ok(table) = fs::read_to_string("/proc/net/tcp") else { return 0 };
        let held = |line: &&str| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let field = |at: usize| fields.get(at).copied().unwrap_or_default();
            // 0A listens; without an inode no process holds it any more.
            field(1).ends_with(&port) && field(3) != "0A" && field(9) != "0"
        };
        table.lines().filter(held).count()
    }

    /// Waits until it holds no more than `before`, with a little to spare for threads of the runtime; the reading
    /// that it came to.
    pub(crate) async fn settles(&self, before: &Reading, limit: Duration) -> Result<(Reading, u64)> {
        let started = Instant::now();
        loop {
            let now = self.reading()?;
            let leaks = now.descriptors.saturating_sub(before.descriptors)
                + now.children.saturating_sub(before.children)
                + now.groups.saturating_sub(before.groups)
                // One or two come and go with the runtime's blocking work.
                + now.threads.saturating_sub(before.threads + SPARE_THREADS);
            if leaks == 0 || started.elapsed() > limit {
                return Ok((now, leaks as u64));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// What a process holds, as Linux says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) descriptors: usize,
    /// Descriptors that are ends of terminals.
    pub(crate) terminals: usize,
    pub(crate) threads: usize,
    pub(crate) children: usize,
    /// Control groups of commands, which a keeper makes where it may.
    pub(crate) groups: usize,
    /// In KiB.
    pub(crate) resident: u64,
}

impl Reading {
    fn of(pid: u32) -> Result<Self> {
        let folder = PathBuf::from(format!("/proc/{pid}"));
        let status = fs::read_to_string(folder.join("status")).context("the server is gone")?;
        let resident = status
            .lines()
            .find_map(|line| line.strip_prefix("VmRSS:")?.split_whitespace().next()?.parse().ok())
            .context("no VmRSS")?;
        // Keepers are children of one process that the server has for that.
        let (zygotes, others): (Vec<_>, Vec<_>) =
            children(&folder).into_iter().partition(|child| is_zygote(child));
        let kept: usize = zygotes.iter().map(|zygote| children(zygote).len()).sum();
        let open: Vec<_> = fs::read_dir(folder.join("fd"))?.flatten().map(|entry| entry.path()).collect();
        let is_terminal = |file: &PathBuf| {
            let name = file.to_string_lossy();
            name.contains("/ptmx") || name.contains("/pts/")
        };
        Ok(Self {
            descriptors: open.len(),
            terminals: open.iter().filter_map(|path| fs::read_link(path).ok()).filter(is_terminal).count(),
            threads: tasks(&folder).len(),
            children: others.len() + kept,
            groups: groups(&folder).unwrap_or(0),
            resident,
        })
    }
}

fn tasks(process: &Path) -> Vec<PathBuf> {
    let tasks = fs::read_dir(process.join("task"));
    tasks.into_iter().flatten().filter_map(|task| Some(task.ok()?.path())).collect()
}

fn children(process: &Path) -> Vec<PathBuf> {
    let lists = tasks(process).into_iter().filter_map(|task| fs::read_to_string(task.join("children")).ok());
    let numbers = |list: String| list.split_whitespace().map(|pid| Path::new("/proc").join(pid)).collect();
    lists.flat_map(|list| -> Vec<_> { numbers(list) }).collect()
}

/// The process that keepers come from.
fn is_zygote(process: &Path) -> bool {
    fs::read_to_string(process.join("comm")).is_ok_and(|name| name.trim() == "ws-zygote")
}

/// Control groups named after keepers, in the group (v2) that the process is in: those of its own keepers and those
/// whose keeper is gone. Other servers may have theirs beside them.
fn groups(process: &Path) -> Option<usize> {
    let groups = fs::read_to_string(process.join("cgroup")).ok()?;
    let own = groups.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let mounts = fs::read_to_string(process.join("mountinfo")).ok()?;
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?.split(' ').nth(4)?;
    let entries = fs::read_dir(Path::new(mount).join(own)).ok()?.flatten();
    let own: Vec<_> = children(process).into_iter().filter(|child| is_zygote(child)).collect();
    let counts = |keeper: &str| {
        let keeper = Path::new("/proc").join(keeper);
        !keeper.exists() || own.iter().any(|zygote| children(zygote).contains(&keeper))
    };
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    Some(names.filter(|name| name.strip_prefix("wsstream-").is_some_and(counts)).count())
}

/// Puppets of this run that live, wherever they belong.
pub(crate) fn puppets(place: &Place) -> usize {
    let path = place.puppet.to_string_lossy().into_owned();
    let Ok(processes) = fs::read_dir("/proc") else { return 0 };
    processes
        .filter_map(|process| fs::read(process.ok()?.path().join("cmdline")).ok())
        .filter(|words| words.starts_with(path.as_bytes()))
        .count()
}
