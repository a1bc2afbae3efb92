//! The command at the far end of real sessions: it prints, echoes and ends as its script says, and nothing else.

use std::{
    io::{self, Read as _, Write as _},
    process::{Command, ExitCode, Stdio},
};

use rustix::process::{Signal, getpid, kill_process};
use wsstream_testing::chaos::{Content, Script, script::Finish, script::Input};

/// The input ended before all of it had come.
const SHORT_INPUT: u8 = 99;

/// What was typed.
#[derive(Debug, clap::Args)]
pub struct Puppet {
    /// Where the contents start
    #[arg(long)]
    seed: u64,
    /// Bytes of stdout
    #[arg(long, default_value_t = 0)]
    stdout: u64,
    /// Bytes of stderr
    #[arg(long, default_value_t = 0)]
    stderr: u64,
    /// Echo so many bytes of stdin instead
    #[arg(long)]
    echo: Option<u64>,
    /// The exit code
    #[arg(long, default_value_t = 0)]
    exit: u8,
    /// End by this signal instead
    #[arg(long)]
    signal: Option<i32>,
    /// Rest so many milliseconds before the end
    #[arg(long)]
    rest: Option<u64>,
    /// Leave a process behind that holds the pipes for so many seconds
    #[arg(long)]
    heir: Option<u32>,
}

impl Puppet {
    /// The words that make a puppet play `script`.
    #[must_use]
    pub fn words(script: &Script) -> Vec<String> {
        let mut words = vec!["puppet".to_owned(), format!("--seed={}", script.seed)];
        match script.input {
            Input::Echo => words.push(format!("--echo={}", script.stdin)),
            Input::None | Input::Flood => words.push(format!("--stdout={}", script.stdout)),
        }
        words.push(format!("--stderr={}", script.stderr));
        if let Finish::Exit(code) = script.finish {
            words.push(format!("--exit={code}"));
        }
        words
    }

    /// Plays; 74 (EX_IOERR) when a stream fails.
    pub fn run(self) -> ExitCode {
        if let Some(seconds) = self.heir {
            // It inherits what we have; whoever reads our pipes must not wait for it.
            let heir = Command::new("sleep").arg(seconds.to_string()).stdin(Stdio::null()).spawn();
            if heir.is_err() {
                return ExitCode::from(74);
            }
        }
        match self.play() {
            Ok(code) => {
                if let Some(millis) = self.rest {
                    let pause = std::time::Duration::from_millis(millis);
                    // Alone in its process, a command may sleep as it likes.
                    #[allow(clippy::disallowed_methods, reason = "there is no runtime here")]
                    std::thread::sleep(pause);
                }
                if let Some(signal) = self.signal.and_then(Signal::from_named_raw) {
                    let _ = kill_process(getpid(), signal);
                }
                ExitCode::from(code)
            }
            Err(_) => ExitCode::from(74),
        }
    }

    fn play(&self) -> io::Result<u8> {
        let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
        let mut buffer = vec![0; 16 << 10];
        if let Some(length) = self.echo {
            let mut input = io::stdin().lock();
            let mut left = length;
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let n = input.read(buffer.get_mut(..most).unwrap_or_default())?;
                if n == 0 {
                    return Ok(SHORT_INPUT);
                }
                out.write_all(buffer.get(..n).unwrap_or_default())?;
                out.flush()?;
                left -= n as u64;
            }
            write(Content::new(self.seed, 2), 0, self.stderr, &mut err, &mut buffer)?;
            return Ok(self.exit);
        }
        // In four turns each, so that both are under way at once.
        for turn in 0..4 {
            for (channel, total) in [(1, self.stdout), (2, self.stderr)] {
                let (from, to) = (total * turn / 4, total * (turn + 1) / 4);
                let content = Content::new(self.seed, channel);
                let to_write: &mut dyn io::Write = if channel == 1 { &mut out } else { &mut err };
                write(content, from, to, to_write, &mut buffer)?;
            }
        }
        Ok(self.exit)
    }
}

fn write(
    content: Content,
    mut from: u64,
    to: u64,
    out: &mut dyn io::Write,
    buffer: &mut [u8],
) -> io::Result<()> {
    while from < to {
        let n = buffer.len().min(usize::try_from(to - from).unwrap_or(usize::MAX));
        let part = buffer.get_mut(..n).unwrap_or_default();
        content.fill(from, part);
        out.write_all(part)?;
        from += n as u64;
    }
    out.flush()
}
