//! The local terminal: raw mode that never outlives us, and its size.
//!
//! Raw mode belongs to the terminal, not to the process, so a process that ends without undoing it leaves the
//! person with a shell that does not echo. What undoes it is [`restore`], and every way out calls it: the
//! guard's drop, the panic hook, the signal paths (they end the session and drop the guard) and `main` before it
//! returns. Only SIGKILL and the faults (SIGSEGV and its like) are not answered.

use rustix::io::Errno;
use rustix::stdio;
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr};
use std::sync::{Mutex, PoisonError};

/// The settings to go back to; `None` while the terminal is as we found it.
static SAVED: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal on standard input is raw while this lives.
#[derive(Debug)]
pub(crate) struct RawMode(());

impl RawMode {
    /// Makes the terminal on standard input raw.
    pub(crate) fn enter() -> Result<Self, Errno> {
        let found = tcgetattr(stdio::stdin())?;
        // Stored first: from here on every way out restores, even if the next call half succeeds.
        *SAVED.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
        let guard = Self(());
        guard.apply()?;
        Ok(guard)
    }

    /// Makes the terminal raw again. Needed after SIGCONT: a shell puts its own settings back while a job is
    /// stopped.
    pub(crate) fn apply(&self) -> Result<(), Errno> {
        let saved = SAVED.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(mut raw) = saved else { return Ok(()) };
        raw.make_raw();
        // Not `Flush`: that would throw away what was typed while we connected.
        tcsetattr(stdio::stdin(), OptionalActions::Drain, &raw)
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        restore();
    }
}

/// Puts the terminal back as it was found. Does nothing when there is nothing to undo.
pub(crate) fn restore() {
    if let Some(found) = SAVED.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // `Now`, not `Drain`: output stopped by Ctrl-S must not keep us from leaving.
        let _ = tcsetattr(stdio::stdin(), OptionalActions::Now, &found);
    }
}

/// Whether the terminal is raw just now.
pub(crate) fn is_raw() -> bool {
    SAVED.lock().unwrap_or_else(PoisonError::into_inner).is_some()
}

/// Has the panic hook restore the terminal before it prints, so that the message is readable too.
pub(crate) fn restore_on_panic() {
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        print(info);
    }));
}

/// Whether standard input is a terminal.
pub(crate) fn stdin_is_terminal() -> bool {
    isatty(stdio::stdin())
}

/// Width and height of the terminal that is shown to the person: standard output's, else input's, else the one
/// of standard error. `None` when there is none or it does not know its size (it then says 0).
pub(crate) fn size() -> Option<(u16, u16)> {
    [stdio::stdout(), stdio::stdin(), stdio::stderr()]
        .into_iter()
        .filter_map(|fd| tcgetwinsize(fd).ok())
        .map(|size| (size.ws_col, size.ws_row))
        .find(|(width, height)| *width > 0 && *height > 0)
}

#[cfg(test)]
mod tests {
    use super::{RawMode, restore_on_panic};
    use rustix::termios::{OutputModes, tcgetattr};
    use tokio::io::AsyncReadExt as _;

    const PANICS: &str = "WSSTREAM_TEST_PANICS_IN_RAW_MODE";

    /// Runs itself on a terminal of its own: the one of the test run is not ours to make raw.
    #[tokio::test]
    async fn a_panic_restores_the_terminal() {
        if std::env::var_os(PANICS).is_some() {
            restore_on_panic();
            let raw = RawMode::enter().unwrap();
            // A guard that is never dropped, as in a panic that aborts.
            std::mem::forget(raw);
            panic!("while raw");
        }
        let (mut master, terminal) = pty_process::open().unwrap();
        let found = tcgetattr(&terminal).unwrap();
        let mut child = pty_process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "terminal::tests::a_panic_restores_the_terminal", "--nocapture"])
            .env(PANICS, "1")
            .spawn_borrowed(&terminal)
            .unwrap();
        let mut printed = Vec::new();
        let mut buffer = [0; 4096];
        let status = loop {
            tokio::select! {
                status = child.wait() => break status.unwrap(),
                length = master.read(&mut buffer) => printed.extend_from_slice(&buffer[..length.unwrap()]),
            }
        };
        assert!(!status.success());
        // The end may be known before the last of what was printed was read.
        while !String::from_utf8_lossy(&printed).contains("while raw") {
            let read = tokio::time::timeout(std::time::Duration::from_secs(10), master.read(&mut buffer));
            let length = read.await.expect("it printed nothing").unwrap();
            printed.extend_from_slice(&buffer[..length]);
        }
        let printed = String::from_utf8_lossy(&printed);
        assert!(printed.contains("while raw\r\n"), "readable, too: {printed}");
        let left = tcgetattr(&terminal).unwrap();
        assert_eq!((left.input_modes, left.local_modes), (found.input_modes, found.local_modes));
        assert!(left.output_modes.contains(OutputModes::OPOST));
    }
}
