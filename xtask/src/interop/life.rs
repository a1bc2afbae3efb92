//! What sessions leave behind, which must be nothing; and how the server itself starts and stops.

use std::{path::Path, process::Stdio, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use tokio::{
    process::Command,
    time::{Instant, sleep, timeout},
};

use super::{
    Env,
    case::{Case, Runner},
    client::{SHORT, finish, pipes, read_until, spawn},
    kubectl::{self, Version},
    proc::{self, Reading},
    server::{self, Server},
};

/// SIGTERM, ten seconds of grace, SIGKILL (what `serve` does by default when a client is gone), and room for a busy
/// machine.
const ORPHAN: Duration = Duration::from_secs(15);

/// What one session may cost for ever: less than any leak of a buffer, more than an allocator's drift.
const GROWTH_PER_SESSION: u64 = 2048;

struct Life {
    env: Arc<Env>,
    version: Version,
    oldest: Version,
}

/// Runs the cases.
pub(super) async fn run(env: &Arc<Env>, versions: &[Version], runner: &mut Runner<'_>) {
    let (Some(newest), Some(oldest)) = (versions.first(), versions.last()) else { return };
    let life = Life { env: Arc::clone(env), version: *newest, oldest: *oldest };
    let cases = vec![
        Case::new("killed kubectl leaves no process", killed_client),
        Case::new("killed kubectl on a terminal leaves no process", killed_terminal),
        Case::new("killed client, command that ignores SIGTERM", killed_stubborn),
        Case::new("1,000 sessions leave descriptors, threads and memory flat", thousand)
            .within(Duration::from_secs(400)),
        Case::new("serve without a config: fast, and its kubectl line works", default_serve),
        Case::new("an idle session is a failure to every kubectl", idle),
        Case::new("SIGTERM stops the server and its pods", stops),
    ];
    runner.group("life", &life, cases).await;
}

/// Starts `exec` with stock kubectl, reads the pids that the script prints, kills kubectl.
async fn kill_client(life: &Life, script: &str, pids: usize) -> Result<()> {
    let client = kubectl::find(&life.env, life.version)?;
    let mut child = spawn(&mut client.exec(&["-i", "host", "--", "bash", "-c", script]))?;
    let (_stdin, mut stdout, _stderr) = pipes(&mut child)?;
    let said = read_until(&mut stdout, "armed\n", SHORT).await?;
    let remote: Vec<u32> = said.lines().filter_map(|line| line.parse().ok()).collect();
    ensure!(
        remote.len() == pids && remote.iter().all(|pid| proc::runs(*pid)),
        "{pids} processes expected: {said}"
    );
    child.kill().await?;
    for pid in remote {
        proc::gone(pid, ORPHAN).await?;
    }
    Ok(())
}

async fn killed_client(life: &Life) -> Result<()> {
    // A child in the background too: the whole process group ends.
    kill_client(life, "echo $$; sleep 1000 & echo $!; echo armed; wait", 2).await
}

async fn killed_stubborn(life: &Life) -> Result<()> {
    kill_client(life, "trap '' TERM HUP PIPE; echo $$; echo armed; while :; do sleep 0.2; done", 1).await
}

async fn killed_terminal(life: &Life) -> Result<()> {
    let client = kubectl::find(&life.env, life.version)?;
    // No `exec`: a shell that is hung up just before it replaces itself forgets the signal it has taken.
    let script = "echo pid $$; while :; do sleep 0.2; done";
    let mut terminal = client.terminal(&["exec", "-it", "host", "--", "sh", "-c", script], (24, 80))?;
    terminal.expect("pid ").await?;
    let pid: u32 = terminal.expect("\r\n").await?.trim().parse().context("pid")?;
    ensure!(proc::runs(pid), "process {pid} expected");
    terminal.kill().await?;
    proc::gone(pid, ORPHAN).await.map(drop)
}

/// A server of its own: what other cases left open must not blur the reading.
async fn fresh(life: &Life, pods: &str) -> Result<Server> {
    let folder = tempfile::Builder::new().prefix("wsstream-interop-").tempdir()?;
    Server::start(&life.env.binary, folder, pods).await
}

async fn thousand(life: &Life) -> Result<()> {
    const SESSIONS: u64 = 1000;
    let server = fresh(life, &server::pods(&[])).await?;
    let session = async |count: u64| -> Result<()> {
        for turn in 0..count {
            let mut command = Command::new(&life.env.binary);
            command.args(["exec", "-i", "host", "--", "sh", "-c", "cat; exit 7"]);
            command.env("KUBECONFIG", server.kubeconfig()).env("HOME", server.folder().join("home"));
            let line = format!("session {turn}\n");
            finish(&mut command, line.as_bytes(), SHORT).await?.code(7)?.stdout(&line)?;
        }
        Ok(())
    };
    // What the first sessions allocate for good (thread stacks, arenas, caches) is not a leak.
    session(200).await?;
    let before = settled(&server, None).await?;
    session(SESSIONS).await?;
    let after = settled(&server, Some(before)).await?;
    let grown = after.resident.saturating_sub(before.resident) * 1024;
    ensure!(
        after.descriptors <= before.descriptors
            && after.threads <= before.threads
            && after.children <= before.children,
        "before {before:?}, after {SESSIONS} sessions {after:?}"
    );
    ensure!(
        grown <= SESSIONS * GROWTH_PER_SESSION,
        "{grown} bytes more after {SESSIONS} sessions: {before:?}, {after:?}"
    );
    println!("    before {before:?}\n    after  {after:?}");
    server.stop(Duration::from_secs(20)).await.map(drop)
}

/// The reading once it is back at what it was, or the last one after a while.
async fn settled(server: &Server, want: Option<Reading>) -> Result<Reading> {
    let started = Instant::now();
    let mut last = server.reading()?;
    loop {
        sleep(Duration::from_millis(300)).await;
        let now = server.reading()?;
        let back = match want {
            None => now.descriptors == last.descriptors && now.threads == last.threads,
            Some(want) => now.descriptors <= want.descriptors && now.threads <= want.threads,
        };
        if back || started.elapsed() > Duration::from_secs(20) {
            return Ok(now);
        }
        last = now;
    }
}

/// The first thing a person does: start it, paste the line it prints.
async fn default_serve(life: &Life) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("wsstream-interop-").tempdir()?;
    let kubeconfig = folder.path().join("kubeconfig");
    let mut command = Command::new(&life.env.binary);
    command.args(["serve", "--listen", "127.0.0.1:0", "--kubeconfig"]).arg(&kubeconfig);
    command.env("HOME", folder.path()).env_remove("RUST_LOG").stdin(Stdio::null());
    let started = Instant::now();
    let mut server = spawn(&mut command)?;
    let (_stdin, mut stdout, _stderr) = pipes(&mut server)?;
    let said = read_until(&mut stdout, "kubectl", SHORT).await?;
    let took = started.elapsed();
    ensure!(took < Duration::from_secs(1), "serving after {took:?}, a second was promised");
    let line = match kubectl_line(&said) {
        Some(line) if said.ends_with('\n') => line,
        // The line may have come in two pieces.
        _ => kubectl_line(&format!("{said}{}", read_until(&mut stdout, "\n", SHORT).await?))
            .context("no kubectl line")?,
    };
    ensure!(mode(&kubeconfig)? == 0o600, "the kubeconfig is mode {:o}", mode(&kubeconfig)?);
    // As pasted, on a machine whose `kubectl` is the stock one under test.
    let client = kubectl::find(&life.env, life.version)?;
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin)?;
    std::os::unix::fs::symlink(client.program(), bin.join("kubectl"))?;
    let path = std::env::join_paths(
        std::iter::once(bin).chain(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default())),
    )?;
    let mut paste = Command::new("sh");
    paste.args(["-c", &line]).env("PATH", path).env("HOME", folder.path()).env_remove("KUBECONFIG");
    let ended = finish(&mut paste, b"echo pasted\nexit\n", SHORT).await?;
    if ended.code != Some(0) {
        return Err(ended.fault("the printed line does not work as pasted"));
    }
    server.kill().await?;
    Ok(())
}

/// Over SPDY kubectl takes a session that ends without a status for a success.
async fn idle(life: &Life) -> Result<()> {
    let server = fresh(life, &format!("[server]\nidle_timeout = \"1s\"\n{}", server::pods(&[]))).await?;
    for (version, websockets) in [(life.version, "true"), (life.version, "false"), (life.oldest, "false")] {
        let client = kubectl::find(&life.env, version)?;
        let mut command = client.exec(&["host", "--", "sh", "-c", "echo begin; sleep 1000"]);
        command.env("KUBECONFIG", server.kubeconfig()).env(kubectl::WEBSOCKETS, websockets);
        let ended = finish(&mut command, b"", SHORT).await?;
        ended.code(1)?.stdout("begin\n")?.stderr_has(&["the session was idle for 1 s"])?;
    }
    server.stop(Duration::from_secs(20)).await.map(drop)
}

fn kubectl_line(said: &str) -> Option<String> {
    let line = said.lines().map(str::trim).find(|line| line.contains("kubectl "))?;
    let at = line.find("KUBECONFIG=").or_else(|| line.find("kubectl "))?;
    // With a terminal asked for, kubectl would insist on one; `-i` takes the same path without.
    Some(line.get(at..)?.replace("exec -it ", "exec -i "))
}

fn mode(path: &Path) -> Result<u32> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(std::fs::metadata(path)?.permissions().mode() & 0o777)
}

async fn stops(life: &Life) -> Result<()> {
    let server = fresh(life, &server::pods(&[])).await?;
    let pods = proc::children(server.pid());
    if pods.is_empty() {
        bail!("the server runs no pods");
    }
    let took = timeout(Duration::from_secs(30), server.stop(Duration::from_secs(20))).await??;
    for pid in pods {
        proc::gone(pid, Duration::from_secs(2)).await.with_context(|| format!("{took:?} after SIGTERM"))?;
    }
    Ok(())
}
