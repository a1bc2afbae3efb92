//! Gives commands the signals that the server was started without.
//!
//! A program that is started with `nohup`, or with `&` by a script, ignores SIGHUP, or SIGINT and SIGQUIT, and so does
//! everything that it starts: Ctrl-C on a terminal would do nothing, and a shell cannot even ask for the signal back.
//! The usual cure between fork and exec takes unsafe code. Instead, this process replaces "ignore" by a handler that
//! does nothing, which is the same to itself: a handler does not survive an exec, and the command gets the default.

use std::sync::Once;

use tokio::signal::unix::{SignalKind, signal};

/// SIGPIPE: the standard library ignores it in every Rust program, and resets it in every command by itself.
const PIPE: i32 = 13;

/// The classic signals. The real-time ones are nobody's to ignore.
const ALL: std::ops::RangeInclusive<i32> = 1..=31;

/// Does so once per process, before the first command is started. Needs a runtime with IO.
pub(crate) fn restore_defaults() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // Where there is no such file nothing can be found out without unsafe code, and nothing changes.
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        for number in ALL.filter(|number| *number != PIPE && is_ignored(&status, *number)) {
            tracing::debug!(
                signal = number,
                "this process was started with a signal ignored; commands get it"
            );
            // The handler stays when the stream that it would feed is dropped. A few signals are refused: those that
            // nobody can ignore, and those that only a fault of the program itself raises.
            drop(signal(SignalKind::from_raw(number)));
        }
    });
}

/// Reads `SigIgn` of proc(5): a mask in hexadecimal, signal 1 in the lowest bit.
fn is_ignored(status: &str, number: i32) -> bool {
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask >> (number - 1) & 1 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mask_is_read() {
        let status = "Name:\tx\nSigIgn:\t0000000000001006\nSigCgt:\tffffffffffffffff\n";
        let ignored: Vec<i32> = ALL.filter(|number| is_ignored(status, *number)).collect();
        assert_eq!(ignored, [2, 3, PIPE]);
        assert!(!is_ignored("", 2));
    }
}
