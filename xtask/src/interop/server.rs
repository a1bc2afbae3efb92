//! The server under test: the real binary, started as an operator would, with a config of every kind of pod.

use std::{
    fmt::Write as _,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::{
    process::{Child, Command},
    time::{Instant, sleep, timeout},
};

use super::{client::excerpt, proc};

/// How soon it must serve.
const STARTS: Duration = Duration::from_secs(15);

/// A running `wsstream serve`.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    pid: u32,
    folder: TempDir,
    kubeconfig: PathBuf,
    log: PathBuf,
}

impl Server {
    /// Starts the binary with a config and waits until it has written its kubeconfig, which it does once it
    /// accepts.
    pub(super) async fn start(binary: &Path, folder: TempDir, pods: &str) -> Result<Self> {
        let at = |name: &str| folder.path().join(name);
        let (config, kubeconfig, log, home) =
            (at("config.toml"), at("kubeconfig"), at("server.log"), at("home"));
        fs::create_dir_all(at("work"))?;
        fs::create_dir_all(&home)?;
        fs::write(&config, pods.replace("@DIR@", &folder.path().to_string_lossy()))?;
        for gate in pods.lines().filter_map(|line| line.strip_prefix("# gate ")) {
            make_fifo(&at(gate))?;
        }
        let output = File::create(&log)?;
        let mut command = Command::new(binary);
        command
            .args(["serve", "--listen", "127.0.0.1:0", "--kubeconfig"])
            .arg(&kubeconfig)
            .arg("--config")
            .arg(&config)
            .env("HOME", &home)
            .env("RUST_LOG", std::env::var("RUST_LOG").unwrap_or_else(|_| "info".into()))
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output);
        let mut child = command.spawn().with_context(|| format!("cannot run {}", binary.display()))?;
        let pid = child.id().context("the server has no pid")?;
        let started = Instant::now();
        while !kubeconfig.is_file() {
            if let Some(status) = child.try_wait()? {
                bail!("the server ended with {status}:\n{}", excerpt(&fs::read(&log)?));
            }
            if started.elapsed() > STARTS {
                bail!("no kubeconfig after {} s:\n{}", STARTS.as_secs(), excerpt(&fs::read(&log)?));
            }
            sleep(Duration::from_millis(10)).await;
        }
        Ok(Self { child, pid, folder, kubeconfig, log })
    }

    /// A folder of this run, also for the remote side, which is this machine.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(super) fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    pub(super) fn log(&self) -> &Path {
        &self.log
    }

    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends the process of a pod that waits at its gate. Returns once the process has passed it.
    pub(super) async fn open_gate(&self, gate: &str) -> Result<()> {
        let path = self.folder.path().join(gate);
        // Opening blocks until the pod reads, so it may not run on the runtime's own threads.
        let write = tokio::task::spawn_blocking(move || fs::write(path, "go\n"));
        timeout(Duration::from_secs(10), write)
            .await
            .with_context(|| format!("pod {gate} is not at its gate"))???;
        Ok(())
    }

    /// SIGTERM, as a service manager would; returns how long it took to end.
    pub(super) async fn stop(mut self, limit: Duration) -> Result<Duration> {
        let started = Instant::now();
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("pid")?;
        kill_process(pid, Signal::TERM)?;
        match timeout(limit, self.child.wait()).await {
            Ok(status) if status.as_ref().is_ok_and(std::process::ExitStatus::success) => {
                Ok(started.elapsed())
            }
            Ok(status) => bail!("the server ended with {status:?} on SIGTERM"),
            Err(_) => bail!("the server still runs {} s after SIGTERM", limit.as_secs()),
        }
    }

    /// The reading of its process.
    pub(super) fn reading(&self) -> Result<proc::Reading> {
        proc::Reading::of(self.pid)
    }
}

/// However a run ends, the server is asked to end, and ends its pods: killed, it could not.
impl Drop for Server {
    fn drop(&mut self) {
        // Without an id the child has been waited for.
        if let Some(pid) = self.child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
            let _ = kill_process(pid, Signal::TERM);
        }
    }
}

fn make_fifo(path: &Path) -> Result<()> {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)
        .with_context(|| format!("cannot create {}", path.display()))
}

/// The lines that pod `story` has logged before any case starts.
pub(super) const STORY_LINES: usize = 20;

/// The config: each kind of pod that a case needs. `@DIR@` stands for the folder of the run.
pub(super) fn pods(gates: &[String]) -> String {
    let mut config = String::new();
    let mut pod = |name: &str, containers: &[(&str, &str, &str)]| {
        // Writing to a String cannot fail.
        let _ = writeln!(config, "[[pod]]\nname = \"{name}\"");
        for (container, kind, rest) in containers {
            let _ = writeln!(config, "[[pod.container]]\nname = \"{container}\"\nkind = \"{kind}\"\n{rest}");
        }
    };
    pod("host", &[("host", "host", "")]);
    // A history that never changes: 20 lines on stdout, one on stderr, then silence.
    pod(
        "story",
        &[(
            "main",
            "process",
            &shell(&format!(
                "i=1; while [ $i -le {STORY_LINES} ]; do echo line $i; i=$((i+1)); done; exec sleep 100000"
            )),
        )],
    );
    // New lines for as long as anybody follows, on both streams.
    pod(
        "ticker",
        &[(
            "main",
            "process",
            &shell("i=0; while :; do i=$((i+1)); echo tick $i; echo tock $i >&2; sleep 0.2; done"),
        )],
    );
    // A terminal that lives on when its clients leave.
    pod(
        "shell",
        &[(
            "main",
            "process",
            &format!("{}\ntty = true\nstdin = true", shell("while :; do PS1='ready> ' sh -i; done")),
        )],
    );
    // Input without a terminal.
    pod("echo", &[("main", "process", &format!("{}\nstdin = true", shell("exec cat")))]);
    pod(
        "two",
        &[
            ("first", "process", &shell("echo from first; exec sleep 100000")),
            ("second", "process", &shell("echo from second; exec sleep 100000")),
        ],
    );
    // Failed long before a case looks.
    pod("failed", &[("main", "process", &shell("echo last words >&2; exit 3"))]);
    for gate in gates {
        pod(
            gate,
            &[("main", "process", &shell(&format!("echo before; read line < '@DIR@/{gate}'; echo after")))],
        );
    }
    for gate in gates {
        let _ = writeln!(config, "# gate {gate}");
    }
    config
}

fn shell(script: &str) -> String {
    // A TOML literal string takes no escapes: the multi-line form lets the script hold quotes of its own.
    format!("command = [\"sh\", \"-c\", '''{script}''']")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_config_is_toml_with_every_pod() {
        let config: toml::Table = pods(&["gate-a".into()]).parse().unwrap();
        let pods = config["pod"].as_array().unwrap();
        let names: Vec<&str> = pods.iter().map(|pod| pod["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["host", "story", "ticker", "shell", "echo", "two", "failed", "gate-a"]);
        assert_eq!(pods[5]["container"].as_array().unwrap().len(), 2);
    }
}
