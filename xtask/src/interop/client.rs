//! Running a client program: bounded in time, everything it said kept for the report of a failure.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result, anyhow, bail};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    process::{Child, Command},
    time::{Instant, sleep_until, timeout},
};

use crate::payload::{self, Payload, hex};

/// How long a small command may take.
pub(super) const SHORT: Duration = Duration::from_secs(30);

/// What a client printed and how it ended.
#[derive(Debug)]
pub(super) struct Finished {
    line: String,
    /// The exit code; `None` when a signal ended it.
    pub(super) code: Option<i32>,
    pub(super) stdout: Vec<u8>,
    pub(super) stderr: Vec<u8>,
}

impl Finished {
    /// Fails unless it exited with this code.
    pub(super) fn code(self, want: i32) -> Result<Self> {
        if self.code == Some(want) {
            Ok(self)
        } else {
            Err(self.fault(&format!("exit code {want} expected")))
        }
    }

    /// Fails unless stdout is exactly this.
    pub(super) fn stdout(self, want: &str) -> Result<Self> {
        if self.stdout == want.as_bytes() {
            Ok(self)
        } else {
            Err(self.fault(&format!("stdout {want:?} expected")))
        }
    }

    /// Fails unless stderr is exactly this.
    pub(super) fn stderr(self, want: &str) -> Result<Self> {
        if self.stderr == want.as_bytes() {
            Ok(self)
        } else {
            Err(self.fault(&format!("stderr {want:?} expected")))
        }
    }

    /// Fails unless stdout contains each of these.
    pub(super) fn stdout_has(self, wants: &[&str]) -> Result<Self> {
        let text = self.text();
        match wants.iter().find(|want| !text.contains(**want)) {
            None => Ok(self),
            Some(want) => Err(self.fault(&format!("{want:?} expected in stdout"))),
        }
    }

    /// Fails unless stderr contains each of these.
    pub(super) fn stderr_has(self, wants: &[&str]) -> Result<Self> {
        let text = String::from_utf8_lossy(&self.stderr).into_owned();
        match wants.iter().find(|want| !text.contains(**want)) {
            None => Ok(self),
            Some(want) => Err(self.fault(&format!("{want:?} expected in stderr"))),
        }
    }

    /// Leaves out the lines of stderr that end so: a fault of the client's own, told apart by whoever calls this.
    pub(super) fn without_stderr_line(mut self, end: &str) -> Self {
        let text = String::from_utf8_lossy(&self.stderr).into_owned();
        let kept: String =
            text.split_inclusive('\n').filter(|line| !line.trim_end().ends_with(end)).collect();
        self.stderr = kept.into_bytes();
        self
    }

    /// stdout as text.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).into_owned()
    }

    /// An error with everything one needs to see what happened.
    pub(super) fn fault(&self, what: &str) -> anyhow::Error {
        let code = self.code.map_or_else(|| "a signal".into(), |code| code.to_string());
        anyhow!(
            "{what}\ncommand: {}\nexit: {code}\nstdout: {}\nstderr: {}",
            self.line,
            excerpt(&self.stdout),
            excerpt(&self.stderr)
        )
    }
}

/// The first bytes, readable.
pub(super) fn excerpt(bytes: &[u8]) -> String {
    const MOST: usize = 2000;
    let text = String::from_utf8_lossy(bytes.get(..MOST).unwrap_or(bytes)).into_owned();
    if bytes.len() > MOST { format!("{text}… ({} bytes)", bytes.len()) } else { text }
}

/// Runs a client with small input and output to its end.
pub(super) async fn finish(command: &mut Command, input: &[u8], limit: Duration) -> Result<Finished> {
    let line = describe(command);
    let mut child = spawn(command)?;
    let (mut stdin, mut stdout, mut stderr) = pipes(&mut child)?;
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let ended = timeout(limit, async {
        let feed = async {
            // A command that does not read its input closes the pipe: its exit code is what counts.
            let _ = stdin.write_all(input).await;
            drop(stdin);
        };
        let (_, out_read, err_read) =
            tokio::join!(feed, stdout.read_to_end(&mut out), stderr.read_to_end(&mut err));
        out_read?;
        err_read?;
        child.wait().await
    })
    .await;
    match ended {
        Ok(status) => Ok(Finished { line, code: status?.code(), stdout: out, stderr: err }),
        Err(_) => {
            let finished = Finished { line, code: None, stdout: out, stderr: err };
            Err(finished.fault(&format!("not done after {} s", limit.as_secs())))
        }
    }
}

/// What a big transfer came to.
#[derive(Debug)]
pub(super) struct Transfer {
    pub(super) code: Option<i32>,
    pub(super) bytes: u64,
    pub(super) hash: String,
    pub(super) stderr: Vec<u8>,
}

impl Transfer {
    /// Fails unless all `length` bytes of the pattern came, and the exit code.
    pub(super) fn complete(&self, length: u64, code: i32) -> Result<()> {
        let intact = self.hash == Payload::hash(length);
        if self.bytes == length && intact && self.code == Some(code) {
            return Ok(());
        }
        bail!(
            "{} of {length} bytes arrived ({}), exit {:?} where {code} was expected\nstderr: {}",
            self.bytes,
            if intact { "hash agrees" } else { "hash differs" },
            self.code,
            excerpt(&self.stderr)
        )
    }

    /// For a remote `sha256sum`: fails unless it printed the hash of `length` bytes of the pattern, and exited 0.
    pub(super) fn hashed_by_remote(&self, length: u64) -> Result<()> {
        // The line itself is not kept; its own hash tells whether it was the expected one.
        let want = payload::digest(format!("{}  -\n", Payload::hash(length)).as_bytes());
        if self.hash == want && self.code == Some(0) {
            return Ok(());
        }
        bail!(
            "the remote hash of {length} bytes differs, or exit {:?}\nstderr: {}",
            self.code,
            excerpt(&self.stderr)
        )
    }
}

/// Runs a client with `input` bytes of the pattern on stdin, hashing its output while it comes, read at no more
/// than `rate` bytes per second. Nothing is stored.
pub(super) async fn transfer(
    command: &mut Command,
    input: u64,
    rate: Option<u64>,
    limit: Duration,
) -> Result<Transfer> {
    let mut child = spawn(command)?;
    let (stdin, stdout, mut stderr) = pipes(&mut child)?;
    let mut errors = Vec::new();
    timeout(limit, async {
        let (fed, hashed, _) =
            tokio::join!(feed(stdin, input), hash(stdout, rate), stderr.read_to_end(&mut errors));
        let (bytes, hash) = hashed?;
        let code = child.wait().await?.code();
        if let Err(error) = fed {
            bail!("writing stdin: {error}; exit {code:?}\nstderr: {}", excerpt(&errors));
        }
        Ok(Transfer { code, bytes, hash, stderr: std::mem::take(&mut errors) })
    })
    .await
    .with_context(|| format!("transfer not done after {} s", limit.as_secs()))?
}

/// Writes the pattern and closes.
pub(super) async fn feed(mut to: impl AsyncWrite + Unpin, length: u64) -> std::io::Result<()> {
    let mut payload = Payload::new(length);
    while let Some(chunk) = payload.chunk() {
        to.write_all(chunk).await?;
    }
    to.shutdown().await
}

/// Counts and hashes what comes until the end, read at no more than `rate` bytes per second.
pub(super) async fn hash(
    mut from: impl AsyncRead + Unpin,
    rate: Option<u64>,
) -> std::io::Result<(u64, String)> {
    let started = Instant::now();
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 64 * 1024];
    let mut bytes = 0_u64;
    loop {
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok((bytes, hex(&hasher.finalize())));
        }
        hasher.update(buffer.get(..count).unwrap_or_default());
        bytes += count as u64;
        if let Some(rate) = rate {
            // Micros keep the product in range for a terabyte.
            sleep_until(started + Duration::from_micros(bytes.saturating_mul(1_000_000) / rate)).await;
        }
    }
}

/// Starts a client with pipes; it is killed when its handle is dropped, so a failed case leaves none behind.
pub(super) fn spawn(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command.spawn().with_context(|| format!("cannot run {}", describe(command)))
}

type Pipes = (tokio::process::ChildStdin, tokio::process::ChildStdout, tokio::process::ChildStderr);

/// The three pipes of a child started by [`spawn`].
pub(super) fn pipes(child: &mut Child) -> Result<Pipes> {
    let stdin = child.stdin.take().context("no stdin")?;
    let stdout = child.stdout.take().context("no stdout")?;
    let stderr = child.stderr.take().context("no stderr")?;
    Ok((stdin, stdout, stderr))
}

/// Reads until the text has come; fails when the stream ends or the limit passes first.
pub(super) async fn read_until(
    from: &mut (impl AsyncRead + Unpin),
    text: &str,
    limit: Duration,
) -> Result<String> {
    let mut seen = Vec::new();
    let mut buffer = vec![0; 4096];
    let found = timeout(limit, async {
        loop {
            let count = from.read(&mut buffer).await?;
            seen.extend_from_slice(buffer.get(..count).unwrap_or_default());
            if String::from_utf8_lossy(&seen).contains(text) {
                return Ok(true);
            }
            if count == 0 {
                return std::io::Result::Ok(false);
            }
        }
    })
    .await;
    match found {
        Ok(Ok(true)) => Ok(String::from_utf8_lossy(&seen).into_owned()),
        Ok(Ok(false)) => bail!("the output ended without {text:?}: {}", excerpt(&seen)),
        Ok(Err(error)) => bail!("reading: {error}; so far: {}", excerpt(&seen)),
        Err(_) => bail!("no {text:?} after {} s: {}", limit.as_secs(), excerpt(&seen)),
    }
}

fn describe(command: &Command) -> String {
    let command = command.as_std();
    let mut words = vec![command.get_program().to_string_lossy().into_owned()];
    words.extend(command.get_args().map(|arg| arg.to_string_lossy().into_owned()));
    words.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[tokio::test]
    async fn a_complete_transfer_passes_and_a_short_or_changed_one_does_not() {
        let bytes = 300_000;
        let whole = transfer(&mut shell("cat; exit 7"), bytes, None, SHORT).await.unwrap();
        whole.complete(bytes, 7).unwrap();
        assert!(whole.complete(bytes, 0).is_err());
        let short = transfer(&mut shell("head -c 299999; cat >/dev/null"), bytes, None, SHORT).await.unwrap();
        assert!(short.complete(bytes, 0).unwrap_err().to_string().contains("299999 of 300000"));
        let changed = transfer(&mut shell("cat | tr x y"), bytes, None, SHORT).await.unwrap();
        assert!(changed.complete(bytes, 0).unwrap_err().to_string().contains("hash differs"));
    }

    #[tokio::test]
    async fn a_remote_hash_is_compared_with_ours() {
        let bytes = 100_000;
        transfer(&mut shell("sha256sum"), bytes, None, SHORT).await.unwrap().hashed_by_remote(bytes).unwrap();
        let wrong = transfer(&mut shell("head -c 99999 | sha256sum; cat >/dev/null"), bytes, None, SHORT)
            .await
            .unwrap();
        assert!(wrong.hashed_by_remote(bytes).is_err());
    }

    #[tokio::test]
    async fn a_slow_reader_keeps_to_its_rate() {
        let started = Instant::now();
        let slow = transfer(&mut shell("cat"), 100_000, Some(500_000), SHORT).await.unwrap();
        slow.complete(100_000, 0).unwrap();
        assert!(started.elapsed() >= Duration::from_millis(150), "{:?}", started.elapsed());
    }

    #[tokio::test]
    async fn a_client_that_hangs_is_reported_with_what_it_said() {
        let hung =
            finish(&mut shell("echo first words; exec sleep 1000"), b"", Duration::from_millis(500)).await;
        let text = hung.unwrap_err().to_string();
        assert!(text.contains("first words") && text.contains("not done"), "{text}");
    }

    #[tokio::test]
    async fn expectations_say_what_came_instead() {
        let said = finish(&mut shell("echo out; echo err >&2; exit 3"), b"", SHORT).await.unwrap();
        let said = said.code(3).unwrap().stdout("out\n").unwrap().stderr("err\n").unwrap();
        let text = said.stdout_has(&["out", "more"]).unwrap_err().to_string();
        assert!(text.contains("\"more\" expected") && text.contains("exit: 3"), "{text}");
    }
}
