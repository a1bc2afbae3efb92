//! `wsstream exec | attach | logs`: our own client, over both carriers and every protocol that the server speaks on them.

use std::{path::PathBuf, sync::Arc};

use anyhow::Result;
use tokio::{io::AsyncWriteExt as _, process::Command};

use super::{
    Env,
    case::{Case, Runner},
    client::{Finished, SHORT, finish, pipes, read_until, spawn, transfer},
    server::STORY_LINES,
    terminal::Terminal,
};

/// A protocol.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    /// Its name on the wire, or `none`, the client's word for offering no subprotocol at all.
    name: &'static str,
    /// Whether its status carries an exit code.
    code: bool,
    /// Whether the end of the input is carried: by the CLOSE of v5, by the FIN of SPDY.
    half_closes: bool,
}

const fn protocol(name: &'static str, code: bool, half_closes: bool) -> Protocol {
    Protocol { name, code, half_closes }
}

/// What each transport carries, by its word for `--transport`.
const PROTOCOLS: &[(&str, &[Protocol])] = &[
    (
        "websocket",
        &[
            protocol("v5.channel.k8s.io", true, true),
            protocol("v4.channel.k8s.io", true, false),
            protocol("v3.channel.k8s.io", false, false),
            protocol("v2.channel.k8s.io", false, false),
            protocol("channel.k8s.io", false, false),
            protocol("none", false, false),
            protocol("base64.channel.k8s.io", false, false),
            protocol("v4.base64.channel.k8s.io", true, false),
        ],
    ),
    (
        "spdy",
        &[
            protocol("v4.channel.k8s.io", true, true),
            protocol("v3.channel.k8s.io", false, true),
            protocol("v2.channel.k8s.io", false, true),
            protocol("channel.k8s.io", false, false),
        ],
    ),
];

/// The exit codes of our client that are not the remote's, as `wsstream --help` lists them.
const REFUSED: i32 = 1;
const LOCAL: i32 = 252;
const NO_STATUS: i32 = 253;

/// The program, and what it is told to use.
struct Own {
    env: Arc<Env>,
    home: PathBuf,
    /// A word for `--transport`.
    transport: &'static str,
}

/// Runs every case of our own client.
pub(super) async fn run(env: &Arc<Env>, runner: &mut Runner<'_>) {
    let home = env.server.folder().join("home");
    let big = env.sizes.limit;
    for (transport, table) in PROTOCOLS {
        let own = Arc::new(Own { env: Arc::clone(env), home: home.clone(), transport });
        let group = if *transport == "spdy" { "own spdy" } else { "own" };
        for protocol in *table {
            let row = Row { own: Arc::clone(&own), protocol: *protocol };
            runner.group(&format!("{group} {}", protocol.name), &row, protocols()).await;
        }
        let mut cases = vec![
            Case::new("exec/big stdin, hashed", stdin_big).within(big),
            Case::new("exec/big stdin and stdout at once", round_trip).within(big),
            Case::new("exec/big stdout to a slow reader, exit 7", stdout_slow).within(big),
            Case::new("exec/exit 137 and a missing binary", special),
            Case::new("exec -it/size, resize, exit code", terminal),
            Case::new("exec -it/Ctrl-C and Ctrl-D", keys),
            Case::new("attach/sees the output, reaches stdin", attach),
            Case::new("attach -it/a terminal", attach_terminal),
            Case::new("errors/wrong pod, wrong container, nobody there", errors),
        ];
        if *transport == "websocket" {
            // Plain HTTP: once is enough.
            cases.push(Case::new("logs/whole, --tail, --timestamps, -f", logs));
        }
        runner.group(group, &*own, cases).await;
    }
}

fn protocols() -> Vec<Case<Row>> {
    vec![
        Case::new("streams and exit 0", Row::zero),
        Case::new("exit 7", Row::seven),
        Case::new("stdout of 4 MiB, hashed", Row::output),
        Case::new("stdin", Row::input),
    ]
}

struct Row {
    own: Arc<Own>,
    protocol: Protocol,
}

impl Row {
    fn command(&self, args: &[&str]) -> Command {
        let mut words = vec!["exec", "--protocol", self.protocol.name];
        words.extend(args);
        self.own.command(&words)
    }

    /// What a clean end of the remote's exit code looks like here.
    fn shows(&self, code: i32) -> i32 {
        if self.protocol.code { code } else { NO_STATUS }
    }

    async fn zero(&self) -> Result<()> {
        let mut command = self.command(&["host", "--", "sh", "-c", "echo out; echo err >&2"]);
        let ended = finish(&mut command, b"", SHORT).await?.code(self.shows(0))?.stdout("out\n")?;
        ended.stderr_has(&["err\n"])?;
        Ok(())
    }

    async fn seven(&self) -> Result<()> {
        let mut command = self.command(&["host", "--", "sh", "-c", "echo tail; exit 7"]);
        let ended = finish(&mut command, b"", SHORT).await?.stdout("tail\n")?;
        if self.protocol.code {
            ended.code(7)?;
        } else if !matches!(ended.code, Some(REFUSED | NO_STATUS)) {
            // Before v4 the error channel carries words, or nothing: never a code, and never success.
            return Err(ended.fault(&format!("exit code {REFUSED} or {NO_STATUS} expected")));
        }
        Ok(())
    }

    async fn output(&self) -> Result<()> {
        let bytes = 4 * super::MIB + 1;
        let (helper, count) = (self.own.helper(), bytes.to_string());
        let mut command = self.command(&["host", "--", &helper, "emit", "--bytes", &count]);
        transfer(&mut command, 0, None, SHORT).await?.complete(bytes, self.shows(0))
    }

    async fn input(&self) -> Result<()> {
        // Where nothing says that the input ended the command must know how much it wants.
        let script = if self.protocol.half_closes { "cat; echo after" } else { "head -c 6; echo after" };
        let mut child = spawn(&mut self.command(&["-i", "host", "--", "sh", "-c", script]))?;
        let (mut stdin, mut stdout, _stderr) = pipes(&mut child)?;
        stdin.write_all(b"hello\n").await?;
        if self.protocol.half_closes {
            drop(stdin);
        }
        read_until(&mut stdout, "hello\nafter\n", SHORT).await?;
        let code = tokio::time::timeout(SHORT, child.wait()).await??.code();
        anyhow::ensure!(code == Some(self.shows(0)), "exit code {} expected, got {code:?}", self.shows(0));
        Ok(())
    }
}

impl Own {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.env.binary);
        command
            .args(self.words(args))
            .env("HOME", &self.home)
            .env("KUBECONFIG", self.env.server.kubeconfig())
            .env_remove("RUST_LOG");
        command
    }

    /// The arguments, with the transport behind the verbs that take one.
    fn words<'a>(&self, args: &[&'a str]) -> Vec<&'a str> {
        let mut words = args.to_vec();
        if matches!(args.first(), Some(&("exec" | "attach"))) {
            words.splice(1..1, ["--transport", self.transport]);
        }
        words
    }

    async fn run(&self, args: &[&str]) -> Result<Finished> {
        finish(&mut self.command(args), b"", SHORT).await
    }

    fn terminal(&self, args: &[&str], size: (u16, u16)) -> Result<Terminal> {
        let env = [("HOME", self.home.as_path()), ("KUBECONFIG", self.env.server.kubeconfig())];
        Terminal::start(&self.env.binary, &self.words(args), &env, size)
    }

    fn helper(&self) -> String {
        self.env.helper.to_string_lossy().into_owned()
    }
}

async fn stdin_big(own: &Own) -> Result<()> {
    let sizes = own.env.sizes;
    let mut command = own.command(&["exec", "-i", "host", "--", "sha256sum"]);
    transfer(&mut command, sizes.big, None, sizes.limit).await?.hashed_by_remote(sizes.big)
}

async fn round_trip(own: &Own) -> Result<()> {
    let big = own.env.sizes.big;
    let mut command = own.command(&["exec", "-i", "host", "--", "cat"]);
    transfer(&mut command, big, None, own.env.sizes.limit).await?.complete(big, 0)
}

async fn stdout_slow(own: &Own) -> Result<()> {
    let sizes = own.env.sizes;
    let (helper, bytes) = (own.helper(), sizes.big.to_string());
    let mut command = own.command(&["exec", "host", "--", &helper, "emit", "--bytes", &bytes, "--exit", "7"]);
    transfer(&mut command, 0, Some(sizes.slow), sizes.limit).await?.complete(sizes.big, 7)
}

async fn special(own: &Own) -> Result<()> {
    own.run(&["exec", "host", "--", "sh", "-c", "kill -9 $$"]).await?.code(137)?;
    let missing = own.run(&["exec", "host", "--", "no-such-program-here"]).await?;
    missing.code(REFUSED)?.stdout("")?.stderr_has(&["no-such-program-here"])?;
    Ok(())
}

async fn terminal(own: &Own) -> Result<()> {
    let script = "stty size; trap 'stty size; exit 9' WINCH; echo armed; while :; do sleep 0.05; done";
    let mut terminal = own.terminal(&["exec", "-it", "host", "--", "bash", "-c", script], (33, 101))?;
    terminal.expect("33 101\r\n").await?;
    terminal.expect("armed").await?;
    terminal.resize(44, 155)?;
    terminal.expect("44 155").await?;
    terminal.exits(9).await
}

async fn keys(own: &Own) -> Result<()> {
    let mut terminal =
        own.terminal(&["exec", "-it", "host", "--", "env", "PS1=ready> ", "sh", "-i"], (33, 101))?;
    terminal.expect("ready> ").await?;
    // The number comes from the program that the key is to interrupt, and that one starts no other: a shell keeps a
    // signal that comes before its child for after it.
    terminal.send("sh -c 'echo $((40+2)); read line'\n").await?;
    terminal.expect("42\r\n").await?;
    terminal.send("\x03").await?;
    terminal.expect("ready> ").await?;
    terminal.send("echo code $?\n").await?;
    terminal.expect("code 130\r\n").await?;
    terminal.expect("ready> ").await?;
    terminal.send("\x04").await?;
    terminal.exits(0).await
}

async fn attach(own: &Own) -> Result<()> {
    let mut child = spawn(&mut own.command(&["attach", "ticker"]))?;
    let (_stdin, mut stdout, mut stderr) = pipes(&mut child)?;
    read_until(&mut stdout, "tick ", SHORT).await?;
    read_until(&mut stderr, "tock ", SHORT).await?;
    child.kill().await?;
    let mut child = spawn(&mut own.command(&["attach", "-i", "echo"]))?;
    let (mut stdin, mut stdout, _stderr) = pipes(&mut child)?;
    stdin.write_all(b"hello from our own\n").await?;
    read_until(&mut stdout, "hello from our own\n", SHORT).await?;
    child.kill().await?;
    Ok(())
}

async fn attach_terminal(own: &Own) -> Result<()> {
    let mut terminal = own.terminal(&["attach", "-it", "shell"], (31, 97))?;
    terminal.send("\n").await?;
    terminal.expect("ready> ").await?;
    terminal.send("echo $((40+2))\n").await?;
    terminal.expect("42\r\n").await?;
    terminal.kill().await
}

async fn logs(own: &Own) -> Result<()> {
    let story = |from: usize| (from..=STORY_LINES).map(|line| format!("line {line}\n")).collect::<String>();
    own.run(&["logs", "story"]).await?.code(0)?.stdout(&story(1))?;
    own.run(&["logs", "story", "--tail", "3"]).await?.code(0)?.stdout(&story(STORY_LINES - 2))?;
    own.run(&["logs", "story", "--timestamps", "--tail", "1"])
        .await?
        .code(0)?
        .stdout_has(&["Z line 20\n"])?;
    let mut command = own.command(&["logs", "-f", "own-follow"]);
    let mut child = spawn(&mut command)?;
    let (_stdin, mut stdout, _stderr) = pipes(&mut child)?;
    read_until(&mut stdout, "before\n", SHORT).await?;
    own.env.server.open_gate("own-follow").await?;
    read_until(&mut stdout, "after\n", SHORT).await?;
    let status = tokio::time::timeout(SHORT, child.wait()).await??;
    anyhow::ensure!(status.success(), "logs -f ended with {status}");
    Ok(())
}

async fn errors(own: &Own) -> Result<()> {
    let nobody = own.run(&["exec", "nobody", "--", "true"]).await?;
    nobody.code(REFUSED)?.stderr_has(&["pods \"nobody\" not found"])?;
    let third = own.run(&["exec", "two", "-c", "third", "--", "true"]).await?;
    third.code(REFUSED)?.stderr_has(&["third"])?;
    // Port 1 on loopback: refused at once.
    let kubeconfig = std::fs::read_to_string(own.env.server.kubeconfig())?;
    let server = kubeconfig.lines().find_map(|line| line.trim().strip_prefix("server: ")).unwrap_or_default();
    let absent = own.home.join("absent.kubeconfig");
    std::fs::write(&absent, kubeconfig.replace(server.trim_matches('"'), "https://127.0.0.1:1"))?;
    let mut command = own.command(&["exec", "host", "--", "true"]);
    let ended = finish(command.env("KUBECONFIG", &absent), b"", SHORT).await?;
    ended.code(LOCAL)?.stderr_has(&["127.0.0.1:1"])?;
    Ok(())
}
