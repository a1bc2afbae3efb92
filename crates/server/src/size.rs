//! Amounts of memory as people type them, in flags and in the configuration file: `64MiB`, `1GiB`, `65536`.

/// Reads one amount: a whole number of bytes, or of `KiB`, `MiB` or `GiB`.
///
/// # Errors
/// A clause that says what to write instead.
pub fn parse(text: &str) -> Result<usize, String> {
    let wrong = || {
        format!(
            "{text:?} is not a size: write a whole number of bytes, or with KiB, MiB or GiB, such as 64MiB"
        )
    };
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: usize = number.parse().map_err(|_| wrong())?;
    let each = match unit {
        "" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err(wrong()),
    };
    number.checked_mul(each).ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_and_slips_are_named() {
        for (text, bytes) in
            [("0", 0), ("65536", 65536), ("4KiB", 4096), ("64MiB", 64 << 20), ("2GiB", 2 << 30)]
        {
            assert_eq!(parse(text), Ok(bytes));
        }
        for text in
            ["", "MiB", "-1", "1.5GiB", "64 MiB", "64M", "64mib", "99999999999999999999", "99999999999999GiB"]
        {
            assert!(parse(text).unwrap_err().contains("is not a size"), "{text}");
        }
    }
}
