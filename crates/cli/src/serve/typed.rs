//! What flags have in common: values that may be switched off, and the rule that what was not typed stays.

use std::time::Duration;
use wsstream_server::duration;

/// A value or `off`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Off<T>(pub(super) Option<T>);

/// A time or `off`.
pub(super) fn clock(typed: &str) -> Result<Off<Duration>, String> {
    duration::parse_or_off(typed).map(Off)
}

/// At least one of what is counted.
pub(super) fn at_least_one(typed: &str, what: &str) -> Result<usize, String> {
    let number = typed.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{typed:?} is not a number of {what}: write 1 or more"))
}

/// Puts what was typed over what the file or the default says.
pub(super) fn set<T>(typed: Option<T>, to: &mut T) {
    if let Some(typed) = typed {
        *to = typed;
    }
}

/// The same for what may be switched off.
pub(super) fn set_off<T>(typed: Option<Off<T>>, to: &mut Option<T>) {
    set(typed.map(|typed| typed.0), to);
}
