//! A server of our own, commands with their output, and a person at a terminal.

use rustix::termios::{LocalModes, OptionalActions, Termios, Winsize, tcgetattr, tcsetattr, tcsetwinsize};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

/// Every wait in these tests ends here. Far above what anything takes: it only turns a hang into a failure.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// `wsstream` with an environment that says nothing about clusters, proxies or logs.
pub(crate) fn wsstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_wsstream"));
    for name in CLEARED {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").stdin(Stdio::null()).kill_on_drop(true);
    command
}

const CLEARED: [&str; 10] = [
    "KUBECONFIG",
    "KUBERNETES_SERVICE_HOST",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "http_proxy",
    "https_proxy",
    "RUST_LOG",
    "XDG_RUNTIME_DIR",
    "XDG_STATE_HOME",
    "COLUMNS",
];

/// Runs to the end.
pub(crate) async fn run(command: &mut Command) -> Output {
    timeout(LIMIT, command.output()).await.expect("the command hangs").unwrap()
}

/// Runs with `input` on standard input, closed at its end.
pub(crate) async fn run_with_input(command: &mut Command, input: &[u8]) -> Output {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let feed = async move {
        // The command may end before it has read everything.
        let _ = stdin.write_all(input).await;
    };
    let (output, ()) = tokio::join!(timeout(LIMIT, child.wait_with_output()), feed);
    output.expect("the command hangs").unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Polls until `done` says so.
pub(crate) async fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    while !done() {
        assert!(tokio::time::Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// `wsstream serve` on a free port.
pub(crate) struct Server {
    pub(crate) child: Child,
    pub(crate) directory: TempDir,
    pub(crate) kubeconfig: PathBuf,
    /// What it printed, up to the kubectl line.
    pub(crate) banner: String,
    /// Held open: a server whose reader is gone is not the case here.
    _output: BufReader<ChildStdout>,
}

impl Server {
    /// With further arguments. Returns once the banner is there.
    pub(crate) async fn start(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        let mut child = wsstream()
            .args(["serve", "--listen", ":0", "--kubeconfig"])
            .arg(&kubeconfig)
            .args(arguments)
            .env("RUST_LOG", "warn")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let banner = read_banner(&mut output).await;
        Self { child, directory, kubeconfig, banner, _output: output }
    }

    /// `wsstream VERB … --kubeconfig FILE`, for arguments that may end in `-- COMMAND`.
    pub(crate) fn client(&self, arguments: &[&str]) -> Command {
        client(&self.kubeconfig, arguments)
    }

    pub(crate) async fn exec(&self, arguments: &[&str]) -> Output {
        run(&mut self.client(&[&["exec"], arguments].concat())).await
    }

    /// Waits until the supervised commands of these containers have been started: they start beside the server,
    /// and until then the server answers `waiting to start`, as Kubernetes does.
    pub(crate) async fn started(self, containers: &[&str]) -> Self {
        for container in containers {
            let (pod, container) = container.split_once('/').unwrap_or((container, container));
            let deadline = tokio::time::Instant::now() + LIMIT;
            loop {
                let output = run(&mut self.client(&["logs", "-c", container, pod])).await;
                if output.status.code() == Some(0) {
                    break;
                }
                assert!(tokio::time::Instant::now() < deadline, "{}", stderr(&output));
            }
        }
        self
    }

    pub(crate) fn signal(&self, signal: rustix::process::Signal) {
        signal_child(&self.child, signal);
    }
}

pub(crate) async fn read_banner(output: &mut BufReader<ChildStdout>) -> String {
    let mut banner = String::new();
    let read = async {
        while !banner.contains("\nkubectl ") {
            assert_ne!(output.read_line(&mut banner).await.unwrap(), 0, "the server ended: {banner}");
        }
    };
    timeout(LIMIT, read).await.expect("the server does not start");
    banner
}

pub(crate) fn client(kubeconfig: &Path, arguments: &[&str]) -> Command {
    let (verb, rest) = arguments.split_first().unwrap();
    let mut command = wsstream();
    command.arg(verb).arg("--kubeconfig").arg(kubeconfig).args(rest);
    command
}

pub(crate) fn signal_child(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(child.id().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

/// A program on a terminal, and the person in front of it.
pub(crate) struct Tty {
    pty: pty_process::Pty,
    /// Kept open so that the settings outlive the program, as they do in a terminal window.
    terminal: pty_process::Pts,
    pub(crate) child: Child,
    seen: String,
    /// The settings before the program came.
    pub(crate) found: String,
}

impl Tty {
    /// Starts `command` on a terminal of this size.
    pub(crate) fn start(command: &Command, width: u16, height: u16) -> Self {
        let (pty, terminal) = pty_process::open().unwrap();
        pty.resize(pty_process::Size::new(height, width)).unwrap();
        let found = settings(&tcgetattr(&terminal).unwrap());
        let command = command.as_std();
        let mut on_tty =
            pty_process::Command::new(command.get_program()).args(command.get_args()).kill_on_drop(true);
        for (name, value) in command.get_envs() {
            on_tty = match value {
                Some(value) => on_tty.env(name, value),
                None => on_tty.env_remove(name),
            };
        }
        let child = on_tty.spawn_borrowed(&terminal).unwrap();
        Self { pty, terminal, child, seen: String::new(), found }
    }

    pub(crate) async fn type_in(&mut self, keys: &str) {
        self.pty.write_all(keys.as_bytes()).await.unwrap();
    }

    /// Waits until `text` is on the screen, and forgets what is above it.
    pub(crate) async fn expect(&mut self, text: &str) {
        let read = async {
            let mut buffer = [0; 4096];
            loop {
                if let Some(at) = self.seen.find(text) {
                    self.seen.drain(..at + text.len());
                    return;
                }
                let length = self.pty.read(&mut buffer).await.unwrap();
                self.seen.push_str(&String::from_utf8_lossy(&buffer[..length]));
            }
        };
        if timeout(LIMIT, read).await.is_err() {
            panic!("{text:?} does not appear; on the screen: {:?}", self.seen);
        }
    }

    pub(crate) fn resize(&self, width: u16, height: u16) {
        let size = Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
        tcsetwinsize(&self.terminal, size).unwrap();
    }

    /// The settings of the terminal, to be compared.
    pub(crate) fn settings(&self) -> String {
        settings(&tcgetattr(&self.terminal).unwrap())
    }

    /// Puts ordinary settings in place, as a shell does whose job was stopped.
    pub(crate) fn set_sane(&self) {
        let mut termios = tcgetattr(&self.terminal).unwrap();
        termios.local_modes |= LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG;
        tcsetattr(&self.terminal, OptionalActions::Now, &termios).unwrap();
    }

    pub(crate) async fn ended(&mut self) -> std::process::ExitStatus {
        let wait = async {
            let mut buffer = [0; 4096];
            loop {
                tokio::select! {
                    status = self.child.wait() => return status.unwrap(),
                    // A terminal that nobody reads holds the program up.
                    length = self.pty.read(&mut buffer) => {
                        self.seen.push_str(&String::from_utf8_lossy(&buffer[..length.unwrap()]));
                    }
                }
            }
        };
        timeout(LIMIT, wait).await.expect("the program does not end")
    }
}

fn settings(termios: &Termios) -> String {
    format!(
        "{:?} {:?} {:?} {:?} {:?}",
        termios.input_modes,
        termios.output_modes,
        termios.control_modes,
        termios.local_modes,
        termios.special_codes
    )
}
