//! Remarks on standard error that `--quiet` silences. Failures are not among them: see `failure`.

use wsstream::proto::text::printable;

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

/// One line on standard error; a standard error that is gone is no reason to fail. Parts of it may come from a server, which
/// must not be able to move the cursor or to set a title: control characters are shown, not sent.
pub(crate) fn print_line(line: &str) {
    use std::io::Write as _;
    // In raw mode the terminal does not turn a line feed into a new line.
    let end = if crate::terminal::is_raw() { "\r\n" } else { "\n" };
    let line: Vec<_> = line.split('\n').map(printable).collect();
    let _ = write!(std::io::stderr().lock(), "{}{end}", line.join(end));
}

/// The longest text of others that is printed within a line, in characters.
const QUOTED: usize = 512;

/// Text that somebody else wrote, for one line: cut where it is too long, and without line ends of its own.
pub(crate) fn quoted(text: &str) -> String {
    let mut rest = text.chars();
    let mut quoted = printable(&rest.by_ref().take(QUOTED).collect::<String>());
    if rest.next().is_some() {
        quoted.push('…');
    }
    quoted
}

#[cfg(test)]
mod tests {
    use super::{QUOTED, quoted};

    #[test]
    fn a_servers_text_cannot_steer_the_terminal() {
        assert_eq!(quoted("\x1b]0;title\x07 a\r\nb\u{9b}2J"), "\\u{1b}]0;title\\u{7} a\\r\\nb\\u{9b}2J");
    }

    #[test]
    fn a_servers_text_is_cut() {
        assert_eq!(quoted(&"é".repeat(QUOTED)), "é".repeat(QUOTED));
        assert_eq!(quoted(&"é".repeat(64 << 10)), format!("{}…", "é".repeat(QUOTED)));
    }
}
