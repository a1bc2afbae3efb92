//! What a peer has written, for a line of a log or of a terminal.

/// `text` with its control characters escaped as Rust does, but for tabs: it can neither begin a line of its own nor move
/// a cursor. All other characters stay as they are.
#[must_use]
pub fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for character in text.chars() {
        if character.is_control() && character != '\t' {
            printable.extend(character.escape_default());
        } else {
            printable.push(character);
        }
    }
    printable
}

#[cfg(test)]
mod tests {
    use super::printable;

    #[test]
    fn a_peers_text_is_one_line_and_steers_no_terminal() {
        assert_eq!(
            printable("close 1000 \"a\r\nINFO x\u{1b}[2J\" \u{9b}2J"),
            "close 1000 \"a\\r\\nINFO x\\u{1b}[2J\" \\u{9b}2J"
        );
    }

    #[test]
    fn plain_text_stays_as_it_is() {
        assert_eq!(printable("\"quoted\", \\, é and a\ttab"), "\"quoted\", \\, é and a\ttab");
    }
}
