//! Starts one command and keeps our ends of its pipes or of its terminal.

use std::{
    fmt, io,
    os::fd::{AsFd as _, OwnedFd},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{PoisonError, RwLock},
};

use rustix::termios::{Winsize, tcsetwinsize};
use wsstream::remotecommand::TerminalSize;

use super::{
    command::CommandOptions,
    descriptor::Descriptor,
    group::{Processes, Reach},
    keeper::{self, Keeper, Order},
    signals::restore_defaults,
};

/// Columns and rows of a terminal whose client has not told any: what every terminal emulator starts with.
const DEFAULT_SIZE: (u16, u16) = (80, 24);

/// The controlling side of a new terminal cannot be opened close-on-exec, only be made so a moment later. A command
/// started in between would inherit it, and the terminal could never be hung up. Starting commands holds the read
/// side, opening a terminal the write side; neither ever waits for anything while it does.
pub(super) static TERMINAL_OPENING: RwLock<()> = RwLock::new(());

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

impl SpawnError {
    pub(super) fn new(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Starts `argv` as the leader of a process group of its own.
pub(crate) async fn with_pipes(
    argv: &[String],
    options: &CommandOptions,
    wanted: Wanted,
) -> Result<Piped, SpawnError> {
    let mut command = prepare(argv, options)?;
    restore_defaults();
    let no_pipe = |error| SpawnError(format!("cannot open a pipe: {error}"));
    let (stdin, their_stdin) = pipe_to_child(wanted.stdin).map_err(no_pipe)?;
    let (stdout, their_stdout) = pipe_from_child(wanted.stdout).map_err(no_pipe)?;
    let (stderr, their_stderr) = pipe_from_child(wanted.stderr).map_err(no_pipe)?;
    let theirs = [their_stdin, their_stdout, their_stderr];
    let processes = if let Some(keeper) = &options.keeper {
        let streams = [wanted.stdin, wanted.stdout, wanted.stderr];
        let order = order(argv, options, streams, None);
        let passed: Vec<_> = theirs.iter().flatten().map(|end| end.as_fd()).collect();
        let (kept, _) = keeper::start(keeper, &order, &passed).await?;
        Processes::kept(kept, Reach::Group)
    } else {
        let [stdin, stdout, stderr] = theirs.map(|end| end.map_or_else(Stdio::null, Stdio::from));
        command.stdin(stdin).stdout(stdout).stderr(stderr).process_group(0);
        let mut command = tokio::process::Command::from(command);
        let child = {
            let _no_terminal_opens = TERMINAL_OPENING.read().unwrap_or_else(PoisonError::into_inner);
            command.spawn().map_err(|error| explain(argv, options, &error))?
        };
        // Our copies of the child's ends go with the command: the end of a pipe shows only when all are closed.
        drop(command);
        Processes::of(child, Reach::Group).map_err(|error| explain(argv, options, &error))?
    };
    Ok(Piped { stdin, stdout, stderr, processes })
}

/// Starts `argv` as the leader of a session whose controlling terminal is new and has this size, or 80 columns by 24
/// rows.
pub(crate) async fn with_terminal(
    argv: &[String],
    options: &CommandOptions,
    size: Option<TerminalSize>,
) -> Result<Terminal, SpawnError> {
    let with_term = CommandOptions {
        env: [&options.env[..], &[("TERM".to_owned(), "xterm".to_owned())]].concat(),
        ..options.clone()
    };
    let no_term = options.variable("TERM").is_none_or(|term| term.is_empty());
    let options = if no_term { &with_term } else { options };
    let command = prepare(argv, options)?;
    restore_defaults();
    let size = size.map_or(DEFAULT_SIZE, |size| (size.width, size.height));
    match &options.keeper {
        Some(keeper) => kept_terminal(argv, options, size, keeper).await,
        None => own_terminal(argv, options, size, command),
    }
}

fn no_terminal(error: &dyn fmt::Display) -> SpawnError {
    SpawnError(format!("cannot open a terminal: {error}"))
}

async fn kept_terminal(
    argv: &[String],
    options: &CommandOptions,
    size: (u16, u16),
    keeper: &Keeper,
) -> Result<Terminal, SpawnError> {
    let order = order(argv, options, [false; 3], Some(size));
    let (kept, descriptors) = keeper::start(keeper, &order, &[]).await?;
    // From here on the group kills what was started.
    let processes = Processes::kept(kept, Reach::Session);
    let [master, slave] =
        <[OwnedFd; 2]>::try_from(descriptors).map_err(|_| no_terminal(&"none came back"))?;
    let master = Descriptor::new(master).map_err(|error| no_terminal(&error))?;
    Ok(Terminal { master, slave, processes })
}

fn own_terminal(
    argv: &[String],
    options: &CommandOptions,
    (columns, rows): (u16, u16),
    command: Command,
) -> Result<Terminal, SpawnError> {
    let (pty, pts) = {
        let _nothing_starts = TERMINAL_OPENING.write().unwrap_or_else(PoisonError::into_inner);
        pty_process::open().map_err(|error| no_terminal(&error))?
    };
    let slave = pts.as_fd().try_clone_to_owned().map_err(|error| no_terminal(&error))?;
    let master = Descriptor::new(OwnedFd::from(pty)).map_err(|error| no_terminal(&error))?;
    set_size(&master, columns, rows).map_err(|error| no_terminal(&error))?;
    let child = {
        let _no_terminal_opens = TERMINAL_OPENING.read().unwrap_or_else(PoisonError::into_inner);
        let command = tokio::process::Command::from(command);
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

/// What a keeper is told.
fn order(
    argv: &[String],
    options: &CommandOptions,
    streams: [bool; 3],
    terminal: Option<(u16, u16)>,
) -> Order {
    Order {
        argv: argv.to_vec(),
        env: options.env.clone(),
        clear_env: options.clear_env,
        cwd: options.cwd.clone().map(PathBuf::into_os_string),
        streams,
        cgroup: options.keeper.as_ref().is_some_and(Keeper::cgroups),
        terminal,
    }
}

/// What a service manager tells the server, and a command would take for itself: it could report the service as ready,
/// stopping or alive, or look for sockets among descriptors that are something else.
const SERVICE_MANAGER: [&str; 6] =
    ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"];

/// The command without its streams.
pub(super) fn prepare(argv: &[String], options: &CommandOptions) -> Result<Command, SpawnError> {
    let Some((program, arguments)) = argv.split_first().filter(|(program, _)| !program.is_empty()) else {
        return Err(SpawnError("no command was given".to_owned()));
    };
    let mut command = Command::new(program);
    command.args(arguments);
    if options.clear_env {
        command.env_clear();
    }
    for name in SERVICE_MANAGER {
        command.env_remove(name);
    }
    command.envs(options.env.iter().map(|(name, value)| (name, value)));
    if let Some(cwd) = &options.cwd {
        command.current_dir(cwd);
    }
    Ok(command)
}

/// Our end and the command's end of a pipe, or neither.
type Ends = (Option<Descriptor>, Option<OwnedFd>);

fn pipe_to_child(wanted: bool) -> io::Result<Ends> {
    if !wanted {
        return Ok((None, None));
    }
    let (theirs, ours) = io::pipe()?;
    Ok((Some(Descriptor::new(ours)?), Some(theirs.into())))
}

fn pipe_from_child(wanted: bool) -> io::Result<Ends> {
    if !wanted {
        return Ok((None, None));
    }
    let (ours, theirs) = io::pipe()?;
    Ok((Some(Descriptor::new(ours)?), Some(theirs.into())))
}

/// The kernel's answer does not say whether the program or the directory was meant: look.
pub(super) fn explain(argv: &[String], options: &CommandOptions, error: &io::Error) -> SpawnError {
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
        // Escaped here too: the client chose the name, and these texts end up in log lines.
        io::ErrorKind::NotFound => {
            format!("exec: {program:?}: stat {}: no such file or directory", program.escape_debug())
        }
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

    async fn fault(program: &str, options: &CommandOptions) -> String {
        let wanted = Wanted { stdin: false, stdout: false, stderr: false };
        let piped = with_pipes(&[program.to_owned()], options, wanted).await.unwrap_err();
        let terminal = with_terminal(&[program.to_owned()], options, None).await.unwrap_err();
        assert_eq!(piped, terminal, "both ways of starting must say the same");
        piped.to_string()
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_says_why() {
        let here = CommandOptions::default();
        assert_eq!(fault("nosuch", &here).await, r#"exec: "nosuch": executable file not found in $PATH"#);
        assert_eq!(
            fault("/no/such", &here).await,
            r#"exec: "/no/such": stat /no/such: no such file or directory"#
        );
        assert_eq!(
            fault("/no\nWARN such", &here).await,
            r#"exec: "/no\nWARN such": stat /no\nWARN such: no such file or directory"#
        );
        assert_eq!(fault("/etc", &here).await, r#"exec: "/etc": permission denied"#);
        assert_eq!(fault("", &here).await, "no command was given");
        let elsewhere = CommandOptions { cwd: Some("/no/such".into()), ..Default::default() };
        assert_eq!(
            fault("true", &elsewhere).await,
            r#"chdir to "/no/such" failed: no such file or directory"#
        );
    }

    #[tokio::test]
    async fn a_missing_interpreter_is_told_from_a_missing_file() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let script = dir.path().join("script");
        std::fs::write(&script, "#!/no/such/interpreter\n").unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let text = fault(script.to_str().unwrap(), &CommandOptions::default()).await;
        assert!(text.ends_with("the interpreter that it names is missing"), "{text}");
    }
}
