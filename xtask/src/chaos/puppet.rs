//! The command at the far end of real sessions: it prints, echoes and ends as its script says, and nothing else.

use std::{
    io::{self, Read as _, Write as _},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use rustix::{
    process::{Signal, getpid, kill_process},
    termios::{OptionalActions, tcgetattr, tcgetwinsize, tcsetattr},
};
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
    /// Begin when a line has come on stdin
    #[arg(long)]
    go: bool,
    /// stdout is lines that say where they stand
    #[arg(long)]
    lines: bool,
    /// Print stdout in so many parts, with a rest of a few milliseconds between them; wait for another line on stdin
    /// before the last quarter
    #[arg(long)]
    parts: Option<u64>,
    /// Make the terminal raw and print a `!` when it is
    #[arg(long)]
    raw: bool,
    /// In the end the terminal must come to this size: columns x rows
    #[arg(long)]
    size: Option<String>,
}

/// The terminal never came to the size that it was given last.
const WRONG_SIZE: u8 = 98;

/// How long it may take: sizes travel beside the input.
const SIZE_COMES: Duration = Duration::from_secs(20);

/// A rest between parts, and between looks at the size.
const REST: Duration = Duration::from_millis(15);

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
                    pause(Duration::from_millis(millis));
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
        if self.raw {
            let mut modes = tcgetattr(io::stdin())?;
            modes.make_raw();
            tcsetattr(io::stdin(), OptionalActions::Now, &modes)?;
            io::stdout().write_all(b"!")?;
            io::stdout().flush()?;
        }
        if self.go {
            go()?;
        }
        let code = self.print()?;
        Ok(if self.has_its_size() { code } else { WRONG_SIZE })
    }

    fn has_its_size(&self) -> bool {
        let Some(size) = &self.size else { return true };
        let since = Instant::now();
        loop {
            let now = tcgetwinsize(io::stdin()).map(|size| format!("{}x{}", size.ws_col, size.ws_row));
            if now.as_ref() == Ok(size) {
                return true;
            }
            if since.elapsed() > SIZE_COMES {
                eprintln!("the size is {now:?}");
                return false;
            }
            pause(REST);
        }
    }

    fn print(&self) -> io::Result<u8> {
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
        let turns = self.parts.unwrap_or(4).max(1);
        for turn in 0..turns {
            if self.parts.is_some() {
                if turn == turns - turns / 4 {
                    go()?;
                }
                pause(REST);
            }
            for (channel, total) in [(1, self.stdout), (2, self.stderr)] {
                let (from, to) = (total * turn / turns, total * (turn + 1) / turns);
                let content = match channel {
                    1 if self.lines => Content::lines(self.seed),
                    _ => Content::new(self.seed, channel),
                };
                let to_write: &mut dyn io::Write = if channel == 1 { &mut out } else { &mut err };
                write(content, from, to, to_write, &mut buffer)?;
            }
        }
        Ok(self.exit)
    }
}

/// Waits for a line.
fn go() -> io::Result<()> {
    match io::stdin().read_line(&mut String::new())? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

fn pause(time: Duration) {
    // Alone in its process, a command may sleep as it likes.
    #[allow(clippy::disallowed_methods, reason = "there is no runtime here")]
    std::thread::sleep(time);
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
