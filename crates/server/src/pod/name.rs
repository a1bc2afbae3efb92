//! Names as Kubernetes allows them. They end up in URLs, in kubectl's tables and in log lines, so nothing else is let in.

use super::PodError;

/// RFC 1123: 1 to 63 lower-case letters, digits and `-`, beginning and ending with a letter or digit.
pub(crate) fn check_label(what: &'static str, name: &str) -> Result<(), PodError> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    let valid = (1..=63).contains(&name.len())
        && name.bytes().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-');
    if valid { Ok(()) } else { Err(PodError::Name { what, name: name.to_owned() }) }
}

/// A dot-separated list of RFC 1123 labels of at most 253 bytes: what a pod may be called.
pub(crate) fn check_subdomain(what: &'static str, name: &str) -> Result<(), PodError> {
    if name.len() > 253 || name.split('.').any(|label| check_label(what, label).is_err()) {
        return Err(PodError::Name { what, name: name.to_owned() });
    }
    Ok(())
}

/// A label's key (`[prefix/]name`) and value, as Kubernetes allows them.
pub(crate) fn check_pair(key: &str, value: &str) -> Result<(), PodError> {
    let qualified = |text: &str| {
        let ends = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        let inner = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let bytes = text.as_bytes();
        text.len() <= 63 && ends(bytes.first()) && ends(bytes.last()) && text.bytes().all(inner)
    };
    let key_valid = match key.split_once('/') {
        Some((prefix, name)) => check_subdomain("label prefix", prefix).is_ok() && qualified(name),
        None => qualified(key),
    };
    if key_valid && (value.is_empty() || qualified(value)) {
        return Ok(());
    }
    Err(PodError::Label { key: key.to_owned(), value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_rfc_1123() {
        let long = "a".repeat(63);
        for good in ["a", "0", "web-1", long.as_str()] {
            assert!(check_label("name", good).is_ok(), "{good}");
        }
        let longer = "a".repeat(64);
        for bad in ["", "-a", "a-", "A", "a_b", "a.b", "a/b", "ä", "a\n", longer.as_str()] {
            assert!(check_label("name", bad).is_err(), "{bad}");
        }
        assert!(check_subdomain("name", "web.example").is_ok());
        for bad in ["", ".", "a..b", "..", "a."] {
            assert!(check_subdomain("name", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn pairs_follow_the_label_syntax() {
        for (key, value) in [("app", "web"), ("example.org/app", ""), ("A_b.c-d", "1.2_x")] {
            assert!(check_pair(key, value).is_ok(), "{key}={value}");
        }
        for (key, value) in [("", "x"), ("a b", "x"), ("/a", "x"), ("a/", "x"), ("a", "-x"), ("a", "x,y")] {
            assert!(check_pair(key, value).is_err(), "{key}={value}");
        }
    }
}
