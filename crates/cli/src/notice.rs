//! Remarks on standard error that `--quiet` silences. Failures are not among them: see `failure`.

/// Prints remarks, or does not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Notices {
    quiet: bool,
}

impl Notices {
    /// `quiet`: print none.
    pub(crate) fn new(quiet: bool) -> Self {
        Self { quiet }
    }

    /// Whether remarks are unwanted.
    pub(crate) fn is_quiet(self) -> bool {
        self.quiet
    }

    /// Prints `line` if there is one.
    pub(crate) fn print(self, line: impl Into<Option<String>>) {
        if let Some(line) = line.into()
            && !self.quiet
        {
            print_line(&line);
        }
    }

    /// Something that may surprise the person.
    pub(crate) fn warn(self, text: &str) {
        self.print(format!("wsstream: warning: {text}"));
    }
}

/// One line on standard error; a standard error that is gone is no reason to fail.
pub(crate) fn print_line(line: &str) {
    use std::io::Write as _;
    // In raw mode the terminal does not turn a line feed into a new line.
    let end = if crate::terminal::is_raw() { "\r\n" } else { "\n" };
    let line = line.replace('\n', end);
    let _ = write!(std::io::stderr().lock(), "{line}{end}");
}
