//! Query parameters, read the way the API server reads them: unknown ones are ignored, the first of several counts, and
//! a boolean is whatever is not plainly false (protocol: `stdin=True`, `follow=1`, a bare `watch`).

use super::answer::Refusal;
use std::borrow::Cow;

/// The decoded pairs of a query string, in order.
#[derive(Debug, Clone)]
pub(crate) struct Query<'a>(Vec<(Cow<'a, str>, Cow<'a, str>)>);

impl<'a> Query<'a> {
    pub(crate) fn of(uri: &'a http::Uri) -> Self {
        Self(form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).collect())
    }

    /// The first value of this name; an empty one counts as absent.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(key, _)| key == name)?;
        (!value.is_empty()).then_some(value)
    }

    /// All values of this name.
    pub(crate) fn all(&self, name: &str) -> impl Iterator<Item = String> {
        self.0.iter().filter(move |(key, _)| key == name).map(|(_, value)| value.to_string())
    }

    /// Absent, `0` and `false` in any case are false; everything else, also nothing after the name, is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        let Some((_, value)) = self.0.iter().find(|(key, _)| key == name) else { return false };
        value != "0" && !value.eq_ignore_ascii_case("false")
    }

    /// A number, or a 400 that names the parameter.
    pub(crate) fn number(&self, name: &str) -> Result<Option<u64>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        match text.parse() {
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(Refusal::bad_request(format!(
                "the query parameter {name}={text:?} is not a whole number"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_clients_send() {
        let uri = "/x?&a=1&a=2&b=False&c&d=True&e=0&f=&g=p%20q+r&n=12&m=-1&k=x".parse().unwrap();
        let query = Query::of(&uri);
        assert_eq!(query.text("a"), Some("1"));
        assert_eq!((query.text("f"), query.text("zz")), (None, None));
        assert_eq!(query.text("g"), Some("p q r"));
        let flags = ["a", "b", "c", "d", "e", "f", "zz"].map(|name| query.flag(name));
        assert_eq!(flags, [true, false, true, true, false, true, false]);
        assert_eq!(query.number("n").unwrap(), Some(12));
        assert_eq!(query.number("f").unwrap(), None);
        for bad in ["m", "k"] {
            assert!(query.number(bad).unwrap_err().0.message.contains(&format!("{bad}=")));
        }
    }
}
