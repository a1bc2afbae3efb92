//! What client programs say: the command's words told from their own, and exit statuses as claims.

use std::process::ExitStatus;

use wsstream_testing::chaos::{Checker, Script, oracle::Claim};

/// The command's stderr, and behind it the client's own words.
pub(super) fn split<'a>(script: &Script, text: &'a [u8]) -> (Checker, &'a [u8]) {
    let expected = script.content(2).bytes(0, usize::try_from(script.stderr).unwrap_or(usize::MAX));
    let same = text.iter().zip(&expected).take_while(|(a, b)| a == b).count();
    let known = [
        "wsstream: ",
        "client-go: ",
        "Error from server",
        "error: ",
        "command terminated",
        "Unable",
        "Error",
    ];
    let begins = |at: usize| {
        let words =
            String::from_utf8_lossy(text.get(at..).unwrap_or_default().trim_ascii_start()).into_owned();
        words.is_empty() || known.iter().any(|word| words.starts_with(word))
    };
    // The command's next bytes may happen to be the first of the client's words.
    let end = (same.saturating_sub(4)..=same).rev().find(|at| begins(*at));
    let (remote, words) = text.split_at(end.unwrap_or(same));
    let mut checker = script.checker(2);
    checker.feed(remote);
    if end.is_none() {
        // Neither the command's nor the client's: bytes that nobody sent.
        checker.feed(words);
    }
    (checker, words)
}

/// Takes out the lines of Go's klog, which stand anywhere between the command's words, each written at once:
/// `E1122 18:58:00.817084   16460 v2.go:168] "Copying stderr failed" err="…"`.
pub(super) fn without_log(text: &[u8]) -> Vec<u8> {
    // d: a digit.
    const HEAD: &[u8] = b"dddd dd:dd:dd.dddddd ";
    let is_head = |at: usize| {
        let rest = text.get(at + 1..at + 1 + HEAD.len()).unwrap_or_default();
        let fits =
            |(byte, form): (&u8, &u8)| if *form == b'd' { byte.is_ascii_digit() } else { byte == form };
        rest.len() == HEAD.len() && rest.iter().zip(HEAD).all(fits)
    };
    let mut kept = Vec::with_capacity(text.len());
    let mut in_log = false;
    for (at, byte) in text.iter().enumerate() {
        in_log = in_log || (matches!(byte, b'I' | b'W' | b'E' | b'F') && is_head(at));
        if !in_log {
            kept.push(*byte);
        }
        in_log = in_log && *byte != b'\n';
    }
    kept
}

/// The exit codes of `wsstream exec`, as its help documents them.
pub(super) fn own_claim(status: ExitStatus, words: &[u8], wrongs: &mut Vec<String>) -> Claim {
    let text = String::from_utf8_lossy(words.trim_ascii()).into_owned();
    // A notice is no verdict: `wsstream: warning: …`.
    let verdict = text.lines().any(|line| {
        (line.starts_with("wsstream: ") && !line.contains("warning")) || line.starts_with("Error from server")
    });
    match status.code() {
        None => {
            wrongs.push(format!("the program was ended by {status}: {text}"));
            Claim::Lost(text)
        }
        Some(code) if !verdict => u8::try_from(code).map_or(Claim::Lost(text), Claim::Exited),
        Some(0) => {
            wrongs.push(format!("exit status 0 beside {text:?}"));
            Claim::Lost(text)
        }
        Some(253) => Claim::Ended,
        Some(1) => Claim::Failed(text),
        Some(_) => Claim::Lost(text),
    }
}

/// What kubectl and client-go say: the exit status is the command's where it says nothing, or `command terminated with …`.
pub(super) fn kubectl_claim(status: ExitStatus, words: &[u8]) -> Claim {
    let text = String::from_utf8_lossy(words.trim_ascii()).into_owned();
    match status.code() {
        Some(0) => Claim::Exited(0),
        Some(code) if text.contains("command terminated with exit code") => {
            u8::try_from(code).map_or(Claim::Lost(text), Claim::Exited)
        }
        _ => Claim::Lost(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_lines_between_the_commands_words_are_taken_out() {
        let line = "E1122 18:58:00.817084   16460 v2.go:168] \"Copying stderr failed\" err=\"EOF\"\n";
        let text = format!("E1 wor{line}ds{line}\nE1122 not a log");
        assert_eq!(without_log(text.as_bytes()), b"E1 words\nE1122 not a log");
        assert_eq!(without_log(b"E1122 18:58:00.8"), b"E1122 18:58:00.8");
    }
}
