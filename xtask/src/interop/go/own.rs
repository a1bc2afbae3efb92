//! Our client against Go's own streaming server, over WebSocket and SPDY: the CRI server for everything before v5, the
//! API server's translator in front of its SPDY side for v5.
//!
//! That server has defects of its own: it closes without waiting for its peer, so that a tail may be lost. A case
//! that meets one asserts what our client must make of it: the whole truth, or *lost*, and never success.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::{Peers, server::Server};
use crate::{
    interop::{
        Env, MIB,
        case::{Case, Runner},
        client::{SHORT, Transfer, excerpt, feed, finish, pipes, read_until, spawn, transfer},
        terminal::Terminal,
    },
    payload::{self, Payload},
    report::Outcome,
};

/// A protocol and what can be expected of it.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    /// A word for `--transport`.
    transport: &'static str,
    /// Its name on the wire, or `none`, the client's word for offering no subprotocol.
    name: &'static str,
    /// Whether its status carries an exit code.
    code: bool,
    /// Whether the end of the input is carried: by the CLOSE of v5, by the FIN of SPDY.
    half_closes: bool,
}

const fn websocket(name: &'static str, code: bool, half_closes: bool) -> Protocol {
    Protocol { transport: "websocket", name, code, half_closes }
}

const fn spdy(name: &'static str, code: bool, half_closes: bool) -> Protocol {
    Protocol { transport: "spdy", name, code, half_closes }
}

const PROTOCOLS: &[Protocol] = &[
    websocket("v5.channel.k8s.io", true, true),
    websocket("v4.channel.k8s.io", true, false),
    websocket("v4.base64.channel.k8s.io", true, false),
    websocket("channel.k8s.io", false, false),
    websocket("base64.channel.k8s.io", false, false),
    // This server answers with an empty header.
    websocket("none", false, false),
    spdy("v4.channel.k8s.io", true, true),
    spdy("v3.channel.k8s.io", false, true),
    spdy("v2.channel.k8s.io", false, true),
    spdy("channel.k8s.io", false, false),
];

/// What goes through the byte proxy in a cluster, and loses its tail there.
const PROXIED: &[Protocol] = &[
    websocket("v4.channel.k8s.io", true, false),
    websocket("v4.base64.channel.k8s.io", true, false),
    spdy("v4.channel.k8s.io", true, true),
];

/// The exit codes of our client that are not the remote's, as `wsstream --help` lists them.
const REFUSED: i32 = 1;
const NO_STATUS: i32 = 253;
const LOST: i32 = 254;

/// Our client, and the server it talks to.
struct Own {
    env: Arc<Env>,
    /// The server's program and its flags, to start another.
    program: PathBuf,
    args: &'static [&'static str],
    kubeconfig: PathBuf,
}

struct Row {
    own: Arc<Own>,
    protocol: Protocol,
}

/// Runs every case against Go's server.
pub(super) async fn run(env: &Arc<Env>, peers: &Peers, runner: &mut Runner<'_>) {
    if !runner.wants_group("go server") {
        return;
    }
    for (group, args, protocols) in
        [("go server", &[][..], PROTOCOLS), ("go server proxied", &["--proxied"][..], PROXIED)]
    {
        let started = Instant::now();
        let name = group.replace(' ', "-");
        let server = match Server::start(&peers.server, env.server.folder(), &name, args).await {
            Ok(server) => server,
            Err(error) => {
                let log_from = runner.log_length();
                let outcome = Outcome::Failed(format!("{error:#}"));
                runner.record(&format!("{group}/starts"), started.elapsed(), outcome, log_from);
                continue;
            }
        };
        let own = Arc::new(Own {
            env: Arc::clone(env),
            program: peers.server.clone(),
            args,
            kubeconfig: server.kubeconfig().to_owned(),
        });
        for protocol in protocols {
            let row = Row { own: Arc::clone(&own), protocol: *protocol };
            let carrier = if protocol.transport == "spdy" { "spdy " } else { "" };
            runner
                .group(&format!("{group} {carrier}{}", protocol.name), &row, rows(env, protocol.code))
                .await;
        }
        if args.is_empty() {
            let cases = vec![
                Case::new("v2 and v3 over WebSocket are refused", refused),
                Case::new("attach/reaches stdin, and its end", attach_websocket),
                Case::new("attach/over SPDY reaches stdin, and its end", attach_spdy),
                Case::new("errors/wrong pod", wrong_pod),
            ];
            runner.group(group, &*own, cases).await;
        }
    }
}

fn rows(env: &Env, code: bool) -> Vec<Case<Row>> {
    let mut cases = vec![
        Case::new("streams and exit 0", Row::zero),
        Case::new("exit 7 and 255", Row::codes),
        Case::new("missing binary", Row::missing),
        Case::new("stdout of 4 MiB, hashed", Row::output),
        Case::new("stdin", Row::input),
        Case::new("killed server is never a success", Row::killed_server),
    ];
    if code {
        let big = env.sizes.limit;
        cases.extend([
            Case::new("big stdin, hashed", Row::stdin_big).within(big),
            Case::new("big stdout to a slow reader: whole, or lost", Row::stdout_slow).within(big),
            Case::new("exit under a flood of stdin: the code, or lost", Row::flooded),
            Case::new("-it/first size, resize, exit code", Row::terminal),
        ]);
    }
    cases
}

impl Own {
    fn command(&self, args: &[&str]) -> Command {
        self.command_with(&self.kubeconfig, args)
    }

    fn command_with(&self, kubeconfig: &Path, args: &[&str]) -> Command {
        let mut command = Command::new(&self.env.binary);
        command
            .args(args)
            .env("HOME", self.env.server.folder().join("home"))
            .env("KUBECONFIG", kubeconfig)
            .env_remove("RUST_LOG");
        command
    }
}

impl Row {
    /// This server resets the error stream of v1 over SPDY before it could say anything (`httpstream.go`), which leaves
    /// a client without a word about the end.
    fn mute(&self) -> bool {
        self.protocol.transport == "spdy" && self.protocol.name == "channel.k8s.io"
    }

    fn words<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        let mut words =
            vec!["exec", "--transport", self.protocol.transport, "--protocol", self.protocol.name];
        words.extend(args);
        words
    }

    fn command(&self, args: &[&str]) -> Command {
        self.own.command(&self.words(args))
    }

    /// What a clean end with the remote's exit code 0 looks like here.
    fn success(&self) -> i32 {
        if self.protocol.code { 0 } else { NO_STATUS }
    }

    async fn zero(&self) -> Result<()> {
        let mut command = self.command(&["host", "--", "sh", "-c", "echo out; echo err >&2; echo more"]);
        let ended = finish(&mut command, b"", SHORT).await?.code(self.success())?.stdout("out\nmore\n")?;
        // Without a status our client adds a line that says so.
        ended.stderr_has(&["err\n"])?;
        Ok(())
    }

    async fn codes(&self) -> Result<()> {
        for code in [7, 255] {
            let script = format!("echo tail; echo err >&2; exit {code}");
            let mut command = self.command(&["host", "--", "sh", "-c", &script]);
            let ended = finish(&mut command, b"", SHORT).await?.stdout("tail\n")?.stderr_has(&["err\n"])?;
            if self.protocol.code {
                ended.code(code)?;
            } else if self.mute() {
                ended.code(NO_STATUS)?;
            } else {
                // Before v4 the error channel carries words: a failure all the same.
                ended.code(REFUSED)?.stderr_has(&[&format!("exit code {code}")])?;
            }
        }
        Ok(())
    }

    async fn missing(&self) -> Result<()> {
        let mut command = self.command(&["host", "--", "no-such-program-here"]);
        let ended = finish(&mut command, b"", SHORT).await?;
        if self.mute() {
            ended.code(NO_STATUS)?.stdout("")?;
        } else {
            ended.code(REFUSED)?.stdout("")?.stderr_has(&["no-such-program-here"])?;
        }
        Ok(())
    }

    async fn output(&self) -> Result<()> {
        let bytes = 4 * MIB + 1;
        let ended = self.emit(bytes, 0, None, SHORT).await?;
        self.honest(&ended, bytes, self.success())
    }

    async fn input(&self) -> Result<()> {
        if self.protocol.half_closes {
            let (script, code) = if self.protocol.code {
                ("cat; echo after; exit 7", 7)
            } else {
                ("cat; echo after", self.success())
            };
            let mut command = self.command(&["-i", "host", "--", "sh", "-c", script]);
            finish(&mut command, b"hello\n", SHORT).await?.code(code)?.stdout("hello\nafter\n")?;
            return Ok(());
        }
        // Nothing ends the input here: the command must know how much it wants.
        let mut command = self.command(&["-i", "host", "--", "sh", "-c", "head -c 6; echo after"]);
        finish(&mut command, b"hello\n", SHORT).await?.code(self.success())?.stdout("hello\nafter\n")?;
        Ok(())
    }

    /// The server dies under the session: on no protocol is that a success, or an end without complaint.
    async fn killed_server(&self) -> Result<()> {
        let Own { env, program, args, .. } = &*self.own;
        let server = Server::start(program, env.server.folder(), "go-server-to-kill", args).await?;
        let words = self.words(&["host", "--", "sh", "-c", "echo armed; exec sleep 1000"]);
        let mut child = spawn(&mut self.own.command_with(server.kubeconfig(), &words))?;
        let (_stdin, mut stdout, mut stderr) = pipes(&mut child)?;
        read_until(&mut stdout, "armed\n", SHORT).await?;
        server.kill().await?;
        let code = timeout(SHORT, child.wait()).await??.code();
        ensure!(code == Some(LOST), "exit code {LOST} expected, got {code:?}");
        read_until(&mut stderr, "lost", SHORT).await?;
        Ok(())
    }

    async fn stdin_big(&self) -> Result<()> {
        let sizes = self.own.env.sizes;
        let script = if self.protocol.half_closes {
            "sha256sum".to_owned()
        } else {
            format!("head -c {} | sha256sum", sizes.big)
        };
        let mut command = self.command(&["-i", "host", "--", "sh", "-c", &script]);
        let ended = transfer(&mut command, sizes.big, None, sizes.limit).await?;
        let want = payload::digest(format!("{}  -\n", Payload::hash(sizes.big)).as_bytes());
        ensure!(
            ended.code == Some(0) && ended.hash == want,
            "the remote hash of {} bytes differs, or exit {:?}: {}",
            sizes.big,
            ended.code,
            excerpt(&ended.stderr)
        );
        Ok(())
    }

    async fn stdout_slow(&self) -> Result<()> {
        let sizes = self.own.env.sizes;
        let ended = self.emit(sizes.big, 7, Some(sizes.slow), sizes.limit).await?;
        self.honest(&ended, sizes.big, 7)
    }

    /// The command ends while its input still comes in: this server closes a socket with unread bytes in it, which
    /// resets the connection and may destroy the output and the status on their way.
    async fn flooded(&self) -> Result<()> {
        let mut child = spawn(&mut self.command(&["-i", "host", "--", "sh", "-c", "echo tail; exit 7"]))?;
        let (stdin, mut stdout, _stderr) = pipes(&mut child)?;
        // Without end: it fails when the client has ended.
        let feeder = tokio::spawn(async move { feed(stdin, u64::MAX / 2).await.is_err() });
        let ended = timeout(SHORT, child.wait()).await;
        feeder.abort();
        match ended??.code() {
            // A status that is believed came behind all of the output.
            Some(7) => read_until(&mut stdout, "tail\n", SHORT).await.map(drop),
            Some(LOST) => {
                println!("    {}: the status was lost to a reset, and reported as lost", self.protocol.name);
                Ok(())
            }
            code => bail!("exit code 7 or {LOST} expected, got {code:?}"),
        }
    }

    async fn terminal(&self) -> Result<()> {
        // The command starts before its terminal has a size there.
        let script = "until [ \"$(stty size)\" = '33 101' ]; do sleep 0.05; done; echo first; \
                      until [ \"$(stty size)\" = '44 155' ]; do sleep 0.05; done; echo second; exit 9";
        let home = self.own.env.server.folder().join("home");
        let env = [("HOME", home.as_path()), ("KUBECONFIG", self.own.kubeconfig.as_path())];
        let words = self.words(&["-it", "host", "--", "sh", "-c", script]);
        let mut terminal = Terminal::start(&self.own.env.binary, &words, &env, (33, 101))?;
        terminal.expect("first\r\n").await?;
        terminal.resize(44, 155)?;
        terminal.expect("second\r\n").await?;
        terminal.exits(9).await
    }

    async fn emit(&self, bytes: u64, exit: u8, rate: Option<u64>, limit: Duration) -> Result<Transfer> {
        let helper = self.own.env.helper.to_string_lossy().into_owned();
        let (bytes, exit) = (bytes.to_string(), exit.to_string());
        let mut command = self.command(&["host", "--", &helper, "emit", "--bytes", &bytes, "--exit", &exit]);
        transfer(&mut command, 0, rate, limit).await
    }

    /// Everything with the right end, or a session that our client itself calls lost.
    fn honest(&self, ended: &Transfer, length: u64, code: i32) -> Result<()> {
        if ended.code == Some(LOST) {
            println!(
                "    {}: this server lost the tail ({} of {length} bytes), and our client says so",
                self.protocol.name, ended.bytes
            );
            return Ok(());
        }
        ended.complete(length, code)
    }
}

async fn refused(own: &Own) -> Result<()> {
    for protocol in ["v2.channel.k8s.io", "v3.channel.k8s.io"] {
        let mut command =
            own.command(&["exec", "--transport", "websocket", "--protocol", protocol, "host", "--", "true"]);
        finish(&mut command, b"", SHORT).await?.code(REFUSED)?.stdout("")?.stderr_has(&["403 Forbidden"])?;
    }
    Ok(())
}

async fn attach_websocket(own: &Own) -> Result<()> {
    attach(own, "websocket").await
}

async fn attach_spdy(own: &Own) -> Result<()> {
    attach(own, "spdy").await
}

async fn attach(own: &Own, transport: &str) -> Result<()> {
    let mut child = spawn(&mut own.command(&["attach", "--transport", transport, "-i", "host"]))?;
    let (mut stdin, mut stdout, _stderr) = pipes(&mut child)?;
    stdin.write_all(b"hello from our own\n").await?;
    read_until(&mut stdout, "hello from our own\n", SHORT).await?;
    drop(stdin);
    let code = timeout(SHORT, child.wait()).await??.code();
    ensure!(code == Some(0), "exit code 0 expected, got {code:?}");
    Ok(())
}

async fn wrong_pod(own: &Own) -> Result<()> {
    let mut command = own.command(&["exec", "nobody", "--", "true"]);
    let ended = finish(&mut command, b"", SHORT).await?;
    ended.code(REFUSED)?.stdout("")?.stderr_has(&["pods \"nobody\" not found"])?;
    Ok(())
}
