//! client-go's executors against our server, over WebSocket and SPDY and every version that they can be made to offer.

use std::{path::PathBuf, sync::Arc};

use anyhow::{Result, bail, ensure};
use tokio::{io::AsyncWriteExt as _, process::Command, time::timeout};

use super::Peers;
use crate::{
    interop::{
        Env, MIB,
        case::{Case, Runner},
        client::{SHORT, feed, finish, pipes, read_until, spawn, transfer},
    },
    payload::{self, Payload},
};

/// What client-go can tell of the end of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ends {
    /// The exit code.
    Code,
    /// A failure, as a text.
    Text,
    /// Whatever wins a race between the error and the end of the output, which also ends a failed command in
    /// success (client-go `tools/remotecommand/v1.go`): no fault of any server.
    Race,
}

/// One executor.
#[derive(Debug, Clone, Copy)]
struct Protocol {
    /// A word for `--transport`.
    transport: &'static str,
    /// A word for `--protocol`.
    name: &'static str,
    ends: Ends,
    /// Whether sizes are carried.
    sizes: bool,
    /// Whether the end of the input is carried. client-go's v1 says nothing of it over SPDY either (`v1.go`).
    half_closes: bool,
}

const fn protocol(
    transport: &'static str,
    name: &'static str,
    ends: Ends,
    sizes: bool,
    half_closes: bool,
) -> Protocol {
    Protocol { transport, name, ends, sizes, half_closes }
}

/// v5 exists over WebSocket alone.
const PROTOCOLS: &[Protocol] = &[
    protocol("websocket", "v5", Ends::Code, true, true),
    protocol("websocket", "v4", Ends::Code, true, false),
    protocol("websocket", "v3", Ends::Text, true, false),
    protocol("websocket", "v2", Ends::Text, false, false),
    protocol("websocket", "v1", Ends::Race, false, false),
    protocol("spdy", "v4", Ends::Code, true, true),
    protocol("spdy", "v3", Ends::Text, true, true),
    protocol("spdy", "v2", Ends::Text, false, true),
    protocol("spdy", "v1", Ends::Race, false, false),
];

/// The words for `--transport`.
const TRANSPORTS: [&str; 2] = ["websocket", "spdy"];

/// What client-go prints for a code; kubectl prints the same.
fn said(code: i32) -> String {
    format!("command terminated with exit code {code}\n")
}

struct Client {
    env: Arc<Env>,
    program: PathBuf,
}

struct Row {
    client: Arc<Client>,
    protocol: Protocol,
}

/// What all versions of a transport share.
struct Common {
    client: Arc<Client>,
    transport: &'static str,
}

/// Runs every case of client-go.
pub(super) async fn run(env: &Arc<Env>, peers: &Peers, runner: &mut Runner<'_>) {
    let client = Arc::new(Client { env: Arc::clone(env), program: peers.client.clone() });
    for protocol in PROTOCOLS {
        let row = Row { client: Arc::clone(&client), protocol: *protocol };
        let mut cases = vec![
            Case::new("streams and exit 0", Row::zero),
            Case::new("exit 7 and 255", Row::codes),
            Case::new("stdout of 4 MiB, hashed", Row::output),
            Case::new("stdin", Row::input),
            Case::new("exit under a flood of stdin", Row::flooded),
        ];
        if protocol.sizes {
            cases.push(Case::new("tty/first size, resize, exit code", Row::terminal));
        }
        runner.group(&group(protocol.transport, &format!(" {}", protocol.name)), &row, cases).await;
    }
    let big = env.sizes.limit;
    for transport in TRANSPORTS {
        let common = Common { client: Arc::clone(&client), transport };
        let mut cases = vec![
            Case::new("exec/the default executor", Common::default),
            Case::new("exec/big stdin, hashed", Common::stdin_big).within(big),
            Case::new("exec/big stdin and stdout at once", Common::round_trip).within(big),
            Case::new("exec/big stdout to a slow reader, exit 7", Common::stdout_slow).within(big),
            Case::new("attach/reaches stdin", Common::attach),
            Case::new("errors/missing binary, wrong pod, wrong container, unknown protocol", Common::errors),
        ];
        if transport == "websocket" {
            cases.extend([
                Case::new("exec/v4 is chosen of foreign,v4,v5", Common::chosen),
                Case::new("exec/big stdin over v4, hashed", Common::stdin_big_v4).within(big),
            ]);
        } else {
            cases.push(Case::new("exec/v3 is chosen of foreign,v5,v3,v4", Common::chosen_over_spdy));
        }
        runner.group(&group(transport, ""), &common, cases).await;
    }
}

/// `go client v5`, `go client spdy v4`.
fn group(transport: &str, rest: &str) -> String {
    format!("go client{}{rest}", if transport == "spdy" { " spdy" } else { "" })
}

impl Client {
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).env("KUBECONFIG", self.env.server.kubeconfig());
        for (key, _) in std::env::vars_os() {
            let key = key.to_string_lossy();
            if key.to_ascii_lowercase().ends_with("_proxy") {
                command.env_remove(&*key);
            }
        }
        command
    }

    fn helper(&self) -> String {
        self.env.helper.to_string_lossy().into_owned()
    }
}

impl Row {
    fn command(&self, args: &[&str]) -> Command {
        let mut words = vec!["--transport", self.protocol.transport, "--protocol", self.protocol.name];
        words.extend(args);
        self.client.command(&words)
    }

    async fn zero(&self) -> Result<()> {
        let mut command = self.command(&["host", "--", "sh", "-c", "echo out; echo err >&2; echo more"]);
        finish(&mut command, b"", SHORT).await?.code(0)?.stdout("out\nmore\n")?.stderr("err\n")?;
        Ok(())
    }

    async fn codes(&self) -> Result<()> {
        for code in [7, 255] {
            let script = format!("echo tail; exit {code}");
            let mut command = self.command(&["host", "--", "sh", "-c", &script]);
            let ended = finish(&mut command, b"", SHORT).await?;
            match self.protocol.ends {
                Ends::Code => ended.code(code)?.stdout("tail\n")?.stderr(&said(code))?,
                Ends::Text => ended
                    .code(1)?
                    .stdout("tail\n")?
                    .stderr_has(&["error executing remote command: ", &format!("exit code {code}")])?,
                Ends::Race if ended.code == Some(0) => ended.stdout("tail\n")?.stderr("")?,
                Ends::Race => ended
                    .code(1)?
                    .stderr_has(&["Error executing remote command: ", &format!("exit code {code}")])?,
            };
        }
        Ok(())
    }

    async fn output(&self) -> Result<()> {
        let bytes = 4 * MIB + 1;
        let (helper, count) = (self.client.helper(), bytes.to_string());
        let mut command = self.command(&["host", "--", &helper, "emit", "--bytes", &count]);
        transfer(&mut command, 0, None, SHORT).await?.complete(bytes, 0)
    }

    async fn input(&self) -> Result<()> {
        if self.protocol.half_closes {
            // What follows the end of input proves that the half close was only half.
            let script =
                if self.protocol.ends == Ends::Code { "cat; echo after; exit 7" } else { "cat; echo after" };
            let mut command = self.command(&["--stdin", "host", "--", "sh", "-c", script]);
            let ended = finish(&mut command, b"hello\n", SHORT).await?.stdout("hello\nafter\n")?;
            ended.code(if self.protocol.ends == Ends::Code { 7 } else { 0 })?;
            return Ok(());
        }
        // client-go sends v5's CLOSE over WebSocket whatever was chosen; before v5 that is a message on a channel that
        // does not exist, and must do no harm.
        let script = "head -c 6; echo after; sleep 0.2; echo and more";
        let mut command = self.command(&["--stdin", "host", "--", "sh", "-c", script]);
        finish(&mut command, b"hello\n", SHORT).await?.code(0)?.stdout("hello\nafter\nand more\n")?;
        Ok(())
    }

    /// The command ends while its input still comes in: what it said, and how it ended, must survive that.
    async fn flooded(&self) -> Result<()> {
        let mut command = self.command(&["--stdin", "host", "--", "sh", "-c", "echo tail; exit 7"]);
        let mut child = spawn(&mut command)?;
        let (stdin, mut stdout, mut stderr) = pipes(&mut child)?;
        // Without end: it fails when the client has ended.
        let feeder = tokio::spawn(async move { feed(stdin, u64::MAX / 2).await.is_err() });
        let ended = timeout(SHORT, child.wait()).await;
        feeder.abort();
        let code = ended??.code();
        let right = match self.protocol.ends {
            Ends::Code => code == Some(7),
            Ends::Text => code == Some(1),
            Ends::Race => matches!(code, Some(0 | 1)),
        };
        if !right {
            bail!("exit {code:?}: {:?}", read_until(&mut stderr, "\n", SHORT).await);
        }
        if self.protocol.ends != Ends::Race {
            read_until(&mut stdout, "tail\n", SHORT).await?;
            read_until(&mut stderr, "exit code 7", SHORT).await?;
        }
        Ok(())
    }

    async fn terminal(&self) -> Result<()> {
        let script = "stty size; trap 'stty size; exit 9' WINCH; echo armed; while :; do sleep 0.05; done";
        let mut command = self.command(&["--tty", "--sizes", "101x33,155x44", "--next-size-at", "armed"]);
        command.args(["host", "--", "bash", "-c", script]);
        let ended = finish(&mut command, b"", SHORT).await?.stdout("33 101\r\narmed\r\n44 155\r\n")?;
        if self.protocol.ends == Ends::Code {
            ended.code(9)?.stderr(&said(9))?;
        } else {
            ended.code(1)?.stderr_has(&["exit code 9"])?;
        }
        Ok(())
    }
}

impl Common {
    fn command(&self, args: &[&str]) -> Command {
        let mut words = vec!["--transport", self.transport];
        words.extend(args);
        self.client.command(&words)
    }

    async fn default(&self) -> Result<()> {
        let mut command = self.command(&["host", "--", "sh", "-c", "echo out; echo err >&2; exit 3"]);
        let ended = finish(&mut command, b"", SHORT).await?;
        ended.code(3)?.stdout("out\n")?.stderr(&format!("err\n{}", said(3)))?;
        Ok(())
    }

    /// The client's order decides. v4 cannot end its input, so a `cat` that goes on shows which one it was.
    async fn chosen(&self) -> Result<()> {
        let words = ["--protocol", "v9.example.com,v4,v5", "--stdin", "host", "--", "sh", "-c"];
        let script = "timeout 2 cat; echo code $?";
        let mut command = self.command(&words);
        finish(command.arg(script), b"hello\n", SHORT).await?.code(0)?.stdout("hello\ncode 124\n")?;
        Ok(())
    }

    async fn stdin_big(&self) -> Result<()> {
        self.hashed(self.command(&["--stdin", "host", "--", "sha256sum"])).await
    }

    async fn stdin_big_v4(&self) -> Result<()> {
        let script = format!("head -c {} | sha256sum", self.client.env.sizes.big);
        self.hashed(self.command(&["--protocol", "v4", "--stdin", "host", "--", "sh", "-c", &script])).await
    }

    /// v5 is unknown over SPDY. The status of v3 is a text.
    async fn chosen_over_spdy(&self) -> Result<()> {
        let words = ["--protocol", "v9.example.com,v5,v3,v4", "host", "--", "sh", "-c", "exit 7"];
        let ended = finish(&mut self.command(&words), b"", SHORT).await?;
        ended.code(1)?.stderr_has(&["error executing remote command: ", "exit code 7"])?;
        Ok(())
    }

    /// The output is the remote's digest line; its own hash tells whether the line is the expected one.
    async fn hashed(&self, mut command: Command) -> Result<()> {
        let sizes = self.client.env.sizes;
        let ended = transfer(&mut command, sizes.big, None, sizes.limit).await?;
        let want = payload::digest(format!("{}  -\n", Payload::hash(sizes.big)).as_bytes());
        ensure!(
            ended.code == Some(0) && ended.hash == want,
            "the remote hash of {} bytes differs, or exit {:?}: {}",
            sizes.big,
            ended.code,
            String::from_utf8_lossy(&ended.stderr)
        );
        Ok(())
    }

    async fn round_trip(&self) -> Result<()> {
        let sizes = self.client.env.sizes;
        let mut command = self.command(&["--stdin", "host", "--", "cat"]);
        transfer(&mut command, sizes.big, None, sizes.limit).await?.complete(sizes.big, 0)
    }

    async fn stdout_slow(&self) -> Result<()> {
        let sizes = self.client.env.sizes;
        let (helper, bytes) = (self.client.helper(), sizes.big.to_string());
        let mut command = self.command(&["host", "--", &helper, "emit", "--bytes", &bytes, "--exit", "7"]);
        transfer(&mut command, 0, Some(sizes.slow), sizes.limit).await?.complete(sizes.big, 7)
    }

    async fn attach(&self) -> Result<()> {
        let mut child = spawn(&mut self.command(&["--attach", "--stdin", "echo"]))?;
        let (mut stdin, mut stdout, _stderr) = pipes(&mut child)?;
        stdin.write_all(b"hello from client-go\n").await?;
        read_until(&mut stdout, "hello from client-go\n", SHORT).await?;
        child.kill().await?;
        Ok(())
    }

    /// The text is the library's: what programs show their users, and match on.
    async fn errors(&self) -> Result<()> {
        let run =
            async |args: &[&str]| finish(&mut self.command(args), b"", SHORT).await?.code(1)?.stdout("");
        run(&["host", "--", "no-such-program-here"]).await?.stderr_has(&["no-such-program-here"])?;
        run(&["nobody", "--", "true"]).await?.stderr_has(&["pods \"nobody\" not found"])?;
        run(&["--container", "third", "two", "--", "true"]).await?.stderr_has(&["third"])?;
        // The names that are accepted are in the text, so that a person can act on it; upstream's answer is empty.
        let other = if self.transport == "spdy" { "v3.channel.k8s.io" } else { "v5.channel.k8s.io" };
        run(&["--protocol", "v9.example.com", "host", "--", "true"])
            .await?
            .stderr_has(&[other, "v4.channel.k8s.io"])?;
        Ok(())
    }
}
