//! What crictl and its stand-in are made to do.

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command},
    time::{Instant, sleep, timeout},
};

use super::Client;
use crate::{
    interop::{
        client::{SHORT, feed, finish, hash, pipes, read_until, spawn, transfer},
        terminal::Terminal,
    },
    payload::Payload,
};

/// The ids of the example.
const CONTAINER: &str = "app1";
const POD: &str = "pod1";

impl Client {
    /// The arguments up to the verb and its transport.
    fn words(&self, verb: &str) -> Vec<String> {
        let endpoint = self.runtime.endpoint();
        let words = ["--runtime-endpoint", &endpoint, "--image-endpoint", &endpoint, verb];
        let mut words: Vec<String> = words.map(str::to_owned).into();
        if matches!(verb, "exec" | "attach" | "port-forward") {
            words.extend(["--transport".to_owned(), self.transport.to_owned()]);
        }
        words
    }

    fn command(&self, verb: &str, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(self.words(verb)).args(args);
        // crictl looks for its configuration there; a proxy is not for loopback.
        command.env("HOME", self.env.server.folder());
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy();
            if key.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(&*key);
            }
        }
        command
    }

    fn shell(&self, flags: &[&str], script: &str) -> Command {
        let mut command = self.command("exec", flags);
        command.args([CONTAINER, "sh", "-c", script]);
        command
    }

    /// Starts a forwarder to these ports and waits until it listens.
    async fn forward(&self, ports: &[u16]) -> Result<Forwarder> {
        let specs: Vec<String> = ports.iter().map(|port| format!(":{port}")).collect();
        let mut words = vec![POD];
        words.extend(specs.iter().map(String::as_str));
        let mut child = spawn(&mut self.command("port-forward", &words))?;
        let (stdin, mut stdout, stderr) = pipes(&mut child)?;
        let last = format!("-> {}\n", ports.last().context("no ports")?);
        let text = read_until(&mut stdout, &last, SHORT).await?;
        let local = |port: &u16| {
            let line = text.lines().find(|line| line.ends_with(&format!("-> {port}")))?;
            line.strip_prefix("Forwarding from 127.0.0.1:")?.split(' ').next()?.parse().ok()
        };
        let ports = ports.iter().map(local).collect::<Option<_>>();
        let ports = ports.with_context(|| format!("no local ports in {text:?}"))?;
        Ok(Forwarder { ports, child, _pipes: (stdin, stdout, stderr) })
    }
}

/// A running `port-forward`, killed when this is dropped.
struct Forwarder {
    ports: Vec<u16>,
    child: Child,
    /// Open: what it says about connections must not end it. It is not much.
    _pipes: (ChildStdin, ChildStdout, ChildStderr),
}

impl Forwarder {
    async fn connect(&self, index: usize) -> Result<TcpStream> {
        let port = *self.ports.get(index).context("no such port")?;
        TcpStream::connect(("127.0.0.1", port)).await.context("connecting to the forwarder")
    }
}

/// crictl ends with 1 whatever the command's code is, and says the code.
pub(super) async fn streams(client: &Client) -> Result<()> {
    let ended = finish(&mut client.shell(&[], "echo out; echo err >&2; echo more"), b"", SHORT).await?;
    ended.code(0)?.stdout("out\nmore\n")?.stderr_has(&["err\n"])?;
    let ended = finish(&mut client.shell(&[], "echo tail; exit 7"), b"", SHORT).await?;
    ended.code(1)?.stdout("tail\n")?.stderr_has(&["command terminated with exit code 7"])?;
    Ok(())
}

pub(super) async fn half_close(client: &Client) -> Result<()> {
    let mut command = client.shell(&["-i"], "cat; echo after; exit 3");
    let ended = finish(&mut command, b"hello\n", SHORT).await?;
    ended.code(1)?.stdout("hello\nafter\n")?.stderr_has(&["exit code 3"])?;
    Ok(())
}

pub(super) async fn terminal(client: &Client) -> Result<()> {
    let script = "stty size; trap 'stty size; exit 0' WINCH; echo armed; while :; do sleep 0.05; done";
    let mut words = client.words("exec");
    words.extend(["-i", "-t", CONTAINER, "bash", "-c", script].map(str::to_owned));
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let home = client.env.server.folder();
    let mut terminal = Terminal::start(&client.program, &words, &[("HOME", home)], (33, 101))?;
    terminal.expect("33 101").await?;
    terminal.expect("armed").await?;
    terminal.resize(44, 155)?;
    terminal.expect("44 155").await?;
    terminal.exits(0).await
}

pub(super) async fn stdin_big(client: &Client) -> Result<()> {
    let sizes = &client.env.sizes;
    let mut command = client.command("exec", &["-i", CONTAINER, "sha256sum"]);
    transfer(&mut command, sizes.big, None, sizes.limit).await?.hashed_by_remote(sizes.big)
}

pub(super) async fn stdout_slow(client: &Client) -> Result<()> {
    let sizes = &client.env.sizes;
    let (helper, count) = (client.env.helper.to_string_lossy(), sizes.big.to_string());
    let mut command = client.command("exec", &[CONTAINER, &helper, "emit", "--bytes", &count]);
    transfer(&mut command, 0, Some(sizes.slow), sizes.limit).await?.complete(sizes.big, 0)
}

/// The main process stays when the client goes: crictl is killed, as it takes the first signal for nothing.
pub(super) async fn attach(client: &Client) -> Result<()> {
    for round in ["one", "two"] {
        let mut child = spawn(&mut client.command("attach", &["-i", CONTAINER]))?;
        let (mut stdin, mut stdout, _stderr) = pipes(&mut child)?;
        stdin.write_all(format!("{round}\n").as_bytes()).await?;
        read_until(&mut stdout, &format!("got {round}\n"), SHORT).await?;
        child.kill().await?;
    }
    Ok(())
}

pub(super) async fn forward(client: &Client) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let forwarder = client.forward(&[listener.local_addr()?.port()]).await?;
    let bytes = client.env.sizes.big / 8;
    for _ in 0..2 {
        let mut near = forwarder.connect(0).await?;
        let (far, _) = timeout(SHORT, listener.accept()).await??;
        let (mut far_reads, mut far_writes) = far.into_split();
        let (near_reads, near_writes) = near.split();
        // The upload ends first; then the download comes.
        let upload = async { tokio::join!(feed(near_writes, bytes), hash(&mut far_reads, None)) };
        let (sent, received) = timeout(client.env.sizes.limit, upload).await?;
        sent?;
        ensure!(received? == (bytes, Payload::hash(bytes)), "the upload differs");
        let download = async { tokio::join!(feed(&mut far_writes, bytes), hash(near_reads, None)) };
        let (sent, received) = timeout(client.env.sizes.limit, download).await?;
        sent?;
        ensure!(received? == (bytes, Payload::hash(bytes)), "the download differs");
    }
    Ok(())
}

/// One connection that fails ends no other one, and not the forwarder.
pub(super) async fn refused(client: &Client) -> Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let closed = TcpListener::bind("127.0.0.1:0").await?.local_addr()?.port();
    let mut forwarder = client.forward(&[listener.local_addr()?.port(), closed]).await?;
    let bytes = client.env.sizes.big;
    let mut near = forwarder.connect(0).await?;
    let (mut far, _) = timeout(SHORT, listener.accept()).await??;
    let sending = tokio::spawn(async move { feed(&mut far, bytes).await });
    near.read_exact(&mut [0; 1]).await?;
    // Read all the while: a stream that nobody reads holds up every other one in Go's client.
    let reading = tokio::spawn(hash(near, None));

    let mut bad = forwarder.connect(1).await?;
    let mut nothing = Vec::new();
    match timeout(SHORT, bad.read_to_end(&mut nothing)).await {
        // The client closes or resets it.
        Ok(Ok(0) | Err(_)) => {}
        Ok(Ok(_)) => bail!("a refused port says {nothing:?}"),
        Err(_) => bail!("a refused port stays open"),
    }
    let (rest, _) = timeout(client.env.sizes.limit, reading).await???;
    sending.await??;
    ensure!(rest + 1 == bytes, "{rest} of {bytes} bytes behind the first");
    ensure!(forwarder.child.try_wait()?.is_none(), "the forwarder has ended");
    let mut again = forwarder.connect(0).await?;
    let (mut far, _) = timeout(SHORT, listener.accept()).await??;
    far.write_all(b"again").await?;
    drop(far);
    let mut text = String::new();
    timeout(SHORT, again.read_to_string(&mut text)).await??;
    ensure!(text == "again", "{text:?} over the connection that follows");
    Ok(())
}

pub(super) async fn errors(client: &Client) -> Result<()> {
    let ended = finish(&mut client.command("exec", &["nobody", "true"]), b"", SHORT).await?;
    ended.code(1)?.stderr_has(&["NotFound", "no container", "nobody"])?;
    let ended = finish(&mut client.command("port-forward", &["nobody", ":80"]), b"", SHORT).await?;
    ended.code(1)?.stderr_has(&["NotFound", "no pod", "nobody"])?;
    let ended = finish(&mut client.command("exec", &[CONTAINER, "no-such-binary"]), b"", SHORT).await?;
    ended.code(1)?.stderr_has(&["Internal error occurred", "no-such-binary"])?;
    Ok(())
}

/// What crictl asks a runtime besides.
pub(super) async fn services(client: &Client) -> Result<()> {
    for (verb, args, expected) in [
        ("version", &[][..], "wsstream-example"),
        ("ps", &[], CONTAINER),
        ("pods", &[], POD),
        ("info", &[], "RuntimeReady"),
        ("inspect", &[CONTAINER], "CONTAINER_RUNNING"),
        ("inspectp", &[POD], "SANDBOX_READY"),
    ] {
        finish(&mut client.command(verb, args), b"", SHORT).await?.code(0)?.stdout_has(&[expected])?;
    }
    let script = ["--sync", CONTAINER, "sh", "-c", "echo at once; echo also >&2"];
    let ended = finish(&mut client.command("exec", &script), b"", SHORT).await?;
    ended.code(0)?.stdout_has(&["at once\n", "also\n"])?;
    Ok(())
}

pub(super) async fn nothing_left(client: &Client) -> Result<()> {
    let once = async || finish(&mut client.shell(&["-i"], "cat"), b"x", SHORT).await?.code(0)?.stdout("x");
    once().await?;
    let before = client.runtime.reading()?;
    for _ in 0..20 {
        once().await?;
    }
    let started = Instant::now();
    loop {
        let after = client.runtime.reading()?;
        // A connection of the last session may still be on its way out.
        if after.children <= before.children && after.descriptors <= before.descriptors + 2 {
            return Ok(());
        }
        ensure!(started.elapsed() < SHORT, "before: {before:?}, after: {after:?}");
        sleep(std::time::Duration::from_millis(50)).await;
    }
}
