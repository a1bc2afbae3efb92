//! Starts one command and keeps our ends of its pipes or of its terminal.

use std::{
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    path::{Path, PathBuf},
    process::Stdio,
    sync::{PoisonError, RwLock},
};

use rustix::termios::{Winsize, tcsetwinsize};
use tokio::process::Command;
use wsstream::remotecommand::TerminalSize;

use super::{
    command::CommandOptions,
    descriptor::Descriptor,
    group::{Processes, Reach},
    signals::restore_defaults,
};

/// Columns and rows of a terminal whose client has not told any: what every terminal emulator starts with.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// The controlling side of a new terminal cannot be opened close-on-exec, only be made so a moment later. A command
/// started in between would inherit it, and the terminal could never be hung up. Starting commands holds the read
/// side, opening a terminal the write side; neither ever waits for anything while it does.
static TERMINAL_OPENING: RwLock<()> = RwLock::new(());

/// Which of the three streams get a pipe; the others are the null device. A client that asked for no stdin must not
/// give the command one (kata-containers#13640).
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wanted {
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
}

/// A running command with pipes.
#[derive(Debug)]
pub(crate) struct Piped {
    pub(crate) stdin: Option<Descriptor>,
    pub(crate) stdout: Option<Descriptor>,
    pub(crate) stderr: Option<Descriptor>,
    pub(crate) processes: Processes,
}

/// A running command with a terminal for all three streams.
#[derive(Debug)]
pub(crate) struct Terminal {
    /// The side that a person would sit at. Closing it hangs up.
    pub(crate) master: Descriptor,
    /// The command's side, kept open until it exits: a command may close all of its own descriptors and open
    /// `/dev/tty` later (ssh asks for a password so); without this the first would read as the end of its output.
    pub(crate) slave: OwnedFd,
    pub(crate) processes: Processes,
}

/// Why a command did not start: text in the words of container runtimes, which users and scripts know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SpawnError(String);

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Starts `argv` as the leader of a process group of its own.
pub(crate) fn with_pipes(
    argv: &[String],
    options: &CommandOptions,
    wanted: Wanted,
) -> Result<Piped, SpawnError> {
    let mut command = prepare(argv, options)?;
    let no_pipe = |error| SpawnError(format!("cannot open a pipe: {error}"));
    let (stdin, their_stdin) = pipe_to_child(wanted.stdin).map_err(no_pipe)?;
    let (stdout, their_stdout) = pipe_from_child(wanted.stdout).map_err(no_pipe)?;
    let (stderr, their_stderr) = pipe_from_child(wanted.stderr).map_err(no_pipe)?;
    command.stdin(their_stdin).stdout(their_stdout).stderr(their_stderr).process_group(0);
    let child = {
        let _no_terminal_opens = TERMINAL_OPENING.read().unwrap_or_else(PoisonError::into_inner);
        command.spawn().map_err(|error| explain(argv, options, &error))?
    };
    // Our copies of the child's ends go with the command: the end of a pipe shows only when all of them are closed.
    drop(command);
    let processes = Processes::of(child, Reach::Group).map_err(|error| explain(argv, options, &error))?;
    Ok(Piped { stdin, stdout, stderr, processes })
}

/// Starts `argv` as the leader of a session whose controlling terminal is new and has this size, or 80 columns by 24
/// rows.
pub(crate) fn with_terminal(
    argv: &[String],
    options: &CommandOptions,
    size: Option<TerminalSize>,
) -> Result<Terminal, SpawnError> {
    let mut command = prepare(argv, options)?;
    if options.variable("TERM").is_none_or(|term| term.is_empty()) {
        command.env("TERM", "xterm");
    }
    let no_terminal = |error: &dyn fmt::Display| SpawnError(format!("cannot open a terminal: {error}"));
    let (pty, pts) = {
        let _nothing_starts = TERMINAL_OPENING.write().unwrap_or_else(PoisonError::into_inner);
        pty_process::open().map_err(|error| no_terminal(&error))?
    };
    let slave = pts.as_fd().try_clone_to_owned().map_err(|error| no_terminal(&error))?;
    let master = Descriptor::new(OwnedFd::from(pty)).map_err(|error| no_terminal(&error))?;
    let (columns, rows) = size.map_or(DEFAULT_SIZE, |size| (size.width, size.height));
    set_size(&master, columns, rows).map_err(|error| no_terminal(&error))?;
    let child = {
        let _no_terminal_opens = TERMINAL_OPENING.read().unwrap_or_else(PoisonError::into_inner);
        pty_process::Command::from(command).spawn(pts).map_err(|error| match error {
            pty_process::Error::Io(error) => explain(argv, options, &error),
            other => no_terminal(&other),
        })?
    };
    let processes = Processes::of(child, Reach::Session).map_err(|error| explain(argv, options, &error))?;
    Ok(Terminal { master, slave, processes })
}

/// Tells a terminal its size; its foreground processes get SIGWINCH if it is a new one.
pub(crate) fn resize(master: &Descriptor, size: TerminalSize) -> io::Result<()> {
    set_size(master, size.width, size.height)
}

fn set_size(master: &Descriptor, columns: u16, rows: u16) -> io::Result<()> {
    let size = Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(master.file(), size)?)
}

fn prepare(argv: &[String], options: &CommandOptions) -> Result<Command, SpawnError> {
    let Some((program, arguments)) = argv.split_first().filter(|(program, _)| !program.is_empty()) else {
        return Err(SpawnError("no command was given".to_owned()));
    };
    restore_defaults();
    let mut command = Command::new(program);
    command.args(arguments);
    if options.clear_env {
        command.env_clear();
    }
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &options.cwd {
        command.current_dir(cwd);
    }
    Ok(command)
}

fn pipe_to_child(wanted: bool) -> io::Result<(Option<Descriptor>, Stdio)> {
    if !wanted {
        return Ok((None, Stdio::null()));
    }
    let (theirs, ours) = io::pipe()?;
    Ok((Some(Descriptor::new(ours)?), theirs.into()))
}

fn pipe_from_child(wanted: bool) -> io::Result<(Option<Descriptor>, Stdio)> {
    if !wanted {
        return Ok((None, Stdio::null()));
    }
    let (ours, theirs) = io::pipe()?;
    Ok((Some(Descriptor::new(ours)?), theirs.into()))
}

/// The kernel's answer does not say whether the program or the directory was meant: look.
fn explain(argv: &[String], options: &CommandOptions, error: &io::Error) -> SpawnError {
    let program = argv.first().map(String::as_str).unwrap_or_default();
    if let Some(cwd) = &options.cwd
        && let Some(fault) = directory_fault(cwd)
    {
        return SpawnError(format!("chdir to {cwd:?} failed: {fault}"));
    }
    SpawnError(match error.kind() {
        io::ErrorKind::NotFound if !program.contains('/') => {
            format!("exec: {program:?}: executable file not found in $PATH")
        }
        io::ErrorKind::NotFound if located(program, options).exists() => {
            format!("exec: {program:?}: no such file or directory: the interpreter that it names is missing")
        }
        io::ErrorKind::NotFound => format!("exec: {program:?}: stat {program}: no such file or directory"),
        io::ErrorKind::PermissionDenied => format!("exec: {program:?}: permission denied"),
        _ => format!("exec: {program:?}: {error}"),
    })
}

fn directory_fault(cwd: &Path) -> Option<String> {
    match std::fs::metadata(cwd) {
        Ok(data) if data.is_dir() => {
            rustix::fs::access(cwd, rustix::fs::Access::EXEC_OK).err().map(|error| error.to_string())
        }
        Ok(_) => Some("not a directory".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Some("no such file or directory".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

fn located(program: &str, options: &CommandOptions) -> PathBuf {
    options.cwd.as_deref().unwrap_or(Path::new("")).join(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(program: &str, options: &CommandOptions) -> String {
        let wanted = Wanted { stdin: false, stdout: false, stderr: false };
        let piped = with_pipes(&[program.to_owned()], options, wanted).unwrap_err();
        let terminal = with_terminal(&[program.to_owned()], options, None).unwrap_err();
        assert_eq!(piped, terminal, "both ways of starting must say the same");
        piped.to_string()
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_says_why() {
        let here = CommandOptions::default();
        assert_eq!(fault("nosuch", &here), r#"exec: "nosuch": executable file not found in $PATH"#);
        assert_eq!(fault("/no/such", &here), r#"exec: "/no/such": stat /no/such: no such file or directory"#);
        assert_eq!(fault("/etc", &here), r#"exec: "/etc": permission denied"#);
        assert_eq!(fault("", &here), "no command was given");
        let elsewhere = CommandOptions { cwd: Some("/no/such".into()), ..Default::default() };
        assert_eq!(fault("true", &elsewhere), r#"chdir to "/no/such" failed: no such file or directory"#);
    }

    #[tokio::test]
    async fn a_missing_interpreter_is_told_from_a_missing_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = fault(script.to_str().unwrap(), &CommandOptions::default());
        assert!(text.ends_with("the interpreter that it names is missing"), "{text}");
    }
}
