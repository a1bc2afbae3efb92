//! Shell words: quoting for lines that a person pastes, splitting for commands given in one flag.
//!
//! The grammar is the POSIX shell's for words alone: blanks, `'…'`, `"…"` and the backslash. Nothing is
//! expanded: `$`, `*`, `|` and the like are plain characters, and who wants a shell writes `sh -c '…'`.

/// Quotes `word` so that a POSIX shell reads it back as it is.
pub(crate) fn quote(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Splits `line` into words.
///
/// # Errors
/// Says which quote was not closed.
pub(crate) fn split(line: &str) -> Result<Vec<String>, String> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' | '\n' => words.extend(word.take()),
            '\'' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('\'') => break,
                        Some(c) => text.push(c),
                        None => return Err(format!("a ' is not closed in `{line}`")),
                    }
                }
            }
            '"' => {
                let text = word.get_or_insert_default();
                loop {
                    match chars.next() {
                        Some('"') => break,
                        // Inside double quotes the backslash is special before these four only.
                        Some('\\') => match chars.next() {
                            Some(c @ ('"' | '\\' | '$' | '`')) => text.push(c),
                            Some(c) => text.extend(['\\', c]),
                            None => return Err(format!("a \" is not closed in `{line}`")),
                        },
                        Some(c) => text.push(c),
                        None => return Err(format!("a \" is not closed in `{line}`")),
                    }
                }
            }
            '\\' => match chars.next() {
                Some(c) => word.get_or_insert_default().push(c),
                None => return Err(format!("nothing follows the last \\ in `{line}`")),
            },
            c => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    Ok(words)
}

#[cfg(test)]
mod tests {
    use super::{quote, split};

    #[test]
    fn splits_like_a_shell_without_expanding() {
        let table: [(&str, &[&str]); 8] = [
            ("", &[]),
            ("  ./app   --port 80 ", &["./app", "--port", "80"]),
            ("sh -c 'echo $HOME | tr a b'", &["sh", "-c", "echo $HOME | tr a b"]),
            (r#"a "b c" d\ e"#, &["a", "b c", "d e"]),
            (r#""x\"y\n" ''"#, &["x\"y\\n", ""]),
            ("pre'mid'post", &["premidpost"]),
            ("a\tb\nc", &["a", "b", "c"]),
            ("*.txt", &["*.txt"]),
        ];
        for (line, words) in table {
            assert_eq!(split(line).unwrap(), words, "{line}");
        }
    }

    #[test]
    fn an_open_quote_is_named() {
        assert_eq!(split("sh -c 'x").unwrap_err(), "a ' is not closed in `sh -c 'x`");
        assert!(split("\"x").unwrap_err().contains('"'));
        assert!(split("x\\").unwrap_err().contains('\\'));
    }

    #[test]
    fn what_is_quoted_is_read_back() {
        for word in
            ["", "plain", "/run/user/0/a.b", "two words", "it's", "$HOME", "a\\b", "\"", "ü", "~", "a;b", "#"]
        {
            assert_eq!(split(&quote(word)).unwrap(), [word], "{word}");
        }
        assert_eq!(quote("/run/user/0/wsstream/127.0.0.1-7443.kubeconfig").find('\''), None);
        assert_eq!(quote("it's"), r"'it'\''s'");
    }
}
