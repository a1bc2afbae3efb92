//! Times as people type them, in flags and in the configuration file: `500ms`, `10s`, `5m`, `4h`.

use std::time::Duration;

/// Reads one time: a whole number and `ms`, `s`, `m` or `h`.
///
/// # Errors
/// A clause that says what to write instead.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong =
        || format!("{text:?} is not a time: write a whole number and ms, s, m or h, such as 500ms or 4h");
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| wrong())?;
    let seconds = |each: u64| number.checked_mul(each).map(Duration::from_secs).ok_or_else(wrong);
    match unit {
        "ms" => Ok(Duration::from_millis(number)),
        "s" => seconds(1),
        "m" => seconds(60),
        "h" => seconds(60 * 60),
        _ => Err(wrong()),
    }
}

/// Reads a time that may be `off`, which is `None`. Zero is refused: a clock that is always over is never meant.
///
/// # Errors
/// As [`parse`].
pub fn parse_or_off(text: &str) -> Result<Option<Duration>, String> {
    match text {
        "off" => Ok(None),
        _ => match parse(text)? {
            Duration::ZERO => Err(format!("{text:?} would be over at once: write off to switch it off")),
            time => Ok(Some(time)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_and_slips_are_named() {
        assert_eq!(parse("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(parse("0s"), Ok(Duration::ZERO));
        assert_eq!(parse("90m"), Ok(Duration::from_secs(5400)));
        assert_eq!(parse("4h"), Ok(Duration::from_secs(14400)));
        for text in ["", "5", "s", "-1s", "1.5s", "1 s", "1d", "99999999999999999999s", "99999999999999999h"]
        {
            assert!(parse(text).unwrap_err().contains("is not a time"), "{text}");
        }
        assert_eq!(parse_or_off("off"), Ok(None));
        assert_eq!(parse_or_off("1s"), Ok(Some(Duration::from_secs(1))));
        assert!(parse_or_off("0s").unwrap_err().contains("off"));
    }
}
