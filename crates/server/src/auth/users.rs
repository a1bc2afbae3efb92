//! Users from a file, each with the digests of its tokens: who reads the file, or a backup of it, learns no token. Tokens
//! have 256 random bits, so a plain SHA-256 is enough: there is nothing to guess that a slow hash would protect.

use super::{Authenticator, Denied, Identity, bearer::Digest, presented};
use crate::reload::{Reloading, Stale, line_of, read_text};
use futures_util::future::BoxFuture;
use http::request::Parts;
use jiff::Timestamp;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt, io,
    path::{Path, PathBuf},
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;
use toml::Spanned;

/// A million bytes are ten thousand users.
const FILE_BYTES: u64 = 1 << 20;

/// Accepts requests that carry a token of one of the users in a file, and reads the file again when it changes.
///
/// The file is TOML:
///
/// ```toml
/// [[user]]
/// name = "ann"
/// groups = ["ops"]
/// tokens = ["sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0bb822cd15d6c15b0f00a8"]
/// expires = 2027-01-31T00:00:00Z     # optional; or a string in RFC 3339
/// ```
///
/// A file that is broken or gone later on changes nothing, and is named in the log.
#[derive(Debug)]
pub struct Users {
    known: Reloading<Known>,
}

impl Users {
    /// Reads the file for the first time.
    ///
    /// # Errors
    /// When it cannot be read or is not as described above. The text names the line and never a digest.
    pub fn read_file(path: &Path) -> Result<Self, UsersError> {
        crate::tls::warn_if_readable_by_others(path, "users file");
        let file = path.to_owned();
        Ok(Self { known: Reloading::start("users file", vec![file.clone()], move || Known::read(&file))? })
    }

    pub(crate) fn stale(&self) -> Stale {
        self.known.stale()
    }

    fn check(&self, head: &Parts, now: Timestamp) -> Result<Identity, Denied> {
        let presented = presented(head)?.ok_or(Denied::Missing)?;
        self.known.current().lookup(&presented, now)
    }
}

impl Authenticator for Users {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Identity, Denied>> {
        Box::pin(std::future::ready(self.check(head, Timestamp::now())))
    }

    fn listed(&self, user: &str) -> Option<Result<Identity, Denied>> {
        self.known.current().named(user, Timestamp::now())
    }
}

struct Known {
    users: Vec<User>,
    by_name: BTreeMap<String, usize>,
    /// The digest of each token and the index of its user.
    tokens: Vec<(Digest, u32)>,
}

struct User {
    identity: Identity,
    expires: Option<Timestamp>,
}

impl User {
    fn at(&self, now: Timestamp) -> Result<Identity, Denied> {
        match self.expires {
            Some(expires) if now >= expires => Err(Denied::Expired),
            _ => Ok(self.identity.clone()),
        }
    }
}

impl fmt::Debug for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Known").field("users", &self.users.len()).field("tokens", &self.tokens.len()).finish()
    }
}

impl Known {
    /// Every known digest is compared, whether or not one has matched before.
    fn lookup(&self, presented: &[u8], now: Timestamp) -> Result<Identity, Denied> {
        let presented = super::bearer::digest(presented);
        let mut found = u32::MAX;
        for (known, user) in &self.tokens {
            let equal: Choice = known.ct_eq(&presented);
            found.conditional_assign(user, equal);
        }
        let user =
            usize::try_from(found).ok().and_then(|index| self.users.get(index)).ok_or(Denied::Unknown)?;
        user.at(now)
    }

    fn named(&self, name: &str, now: Timestamp) -> Option<Result<Identity, Denied>> {
        self.by_name.get(name).and_then(|index| self.users.get(*index)).map(|user| user.at(now))
    }

    fn read(path: &Path) -> Result<Self, UsersError> {
        let fail = |fault| UsersError { path: path.to_owned(), fault };
        let text = read_text(path, FILE_BYTES).map_err(|error| fail(UsersFault::Read(error)))?;
        Self::parse(&text).map_err(|(at, message)| fail(UsersFault::Line(line_of(&text, at), message)))
    }

    fn parse(text: &str) -> Result<Self, (usize, String)> {
        let raw: RawFile = toml::from_str(text)
            .map_err(|error| (error.span().map_or(0, |span| span.start), error.message().to_owned()))?;
        let mut known = Self { users: Vec::new(), by_name: BTreeMap::new(), tokens: Vec::new() };
        for (index, raw) in (0u32..).zip(raw.user) {
            let at = raw.span().start;
            let raw = raw.into_inner();
            if raw.name.is_empty() || raw.name.chars().any(char::is_control) {
                return Err((at, "a user's name must not be empty or hold control characters".to_owned()));
            }
            if known.by_name.insert(raw.name.clone(), known.users.len()).is_some() {
                return Err((at, format!("there are two users named {:?}", raw.name)));
            }
            if raw.tokens.is_empty() {
                return Err((at, format!("the user {:?} has no tokens", raw.name)));
            }
            for token in raw.tokens {
                let at = token.span().start;
                let digest = parse_digest(token.get_ref()).ok_or_else(|| {
                    // The value may be a token that somebody put here by mistake: it is not repeated.
                    (
                        at,
                        "a token is written sha256: and 64 hexadecimal digits; `wsstream token` prints one"
                            .to_owned(),
                    )
                })?;
                if known.tokens.iter().any(|(other, _)| *other == digest) {
                    return Err((at, "this token stands in the file already".to_owned()));
                }
                known.tokens.push((digest, index));
            }
            let expires = raw.expires.map(|expires| {
                let at = expires.span().start;
                let typed = match expires.into_inner() {
                    RawTime::Text(text) => text,
                    RawTime::Toml(time) => time.to_string(),
                };
                typed.parse::<Timestamp>().map_err(|_| {
                    (at, format!("expires: {typed:?} is not an RFC 3339 time with its offset, such as 2027-01-31T00:00:00Z"))
                })
            });
            let identity = Identity::new(raw.name).groups(raw.groups).listed();
            known.users.push(User { identity, expires: expires.transpose()? });
        }
        Ok(known)
    }
}

fn parse_digest(typed: &str) -> Option<Digest> {
    let hex = typed.strip_prefix("sha256:")?.as_bytes();
    let mut digest = Digest::default();
    if hex.len() != 64 {
        return None;
    }
    for (byte, pair) in digest.iter_mut().zip(hex.chunks(2)) {
        // `from_str_radix` would take a sign.
        let pair =
            std::str::from_utf8(pair).ok().filter(|pair| pair.bytes().all(|b| b.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(pair, 16).ok()?;
    }
    Some(digest)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    user: Vec<Spanned<RawUser>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawUser {
    name: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    tokens: Vec<Spanned<String>>,
    expires: Option<Spanned<RawTime>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum RawTime {
    Toml(toml::value::Datetime),
    Text(String),
}

/// A users file that cannot be used. The text names the file and the line, never a token or its digest.
#[derive(Debug, Error)]
#[error("users file {path}: {fault}", path = path.display())]
pub struct UsersError {
    path: PathBuf,
    fault: UsersFault,
}

#[derive(Debug, Error)]
enum UsersFault {
    #[error("{0}")]
    Read(io::Error),
    #[error("line {0}: {1}")]
    Line(usize, String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Token;
    use http::header::AUTHORIZATION;

    fn head(token: &str) -> Parts {
        let request = http::Request::builder().header(AUTHORIZATION, format!("Bearer {token}"));
        request.body(()).unwrap().into_parts().0
    }

    fn token(text: &str) -> String {
        Token::new(text).unwrap().hashed()
    }

    #[test]
    fn names_the_user_its_groups_and_its_end() {
        let text = format!(
            "[[user]]\nname = 'ann'\ngroups = ['ops', 'dev']\ntokens = ['{}', '{}']\n\
             [[user]]\nname = 'ben'\ntokens = ['{}']\nexpires = 2026-01-01T00:00:00+01:00\n\
             [[user]]\nname = 'cat'\ntokens = ['{}']\nexpires = '2026-01-01T00:00:00Z'\n",
            token("one"),
            token("two").to_uppercase().replace("SHA", "sha"),
            token("three"),
            token("four")
        );
        let known = Known::parse(&text).unwrap();
        let at = |token: &str, time: &str| known.lookup(token.as_bytes(), time.parse().unwrap());
        let ann = Identity::new("ann").groups(["ops", "dev"]).listed();
        assert_eq!(at("one", "2030-01-01T00:00:00Z"), Ok(ann.clone()));
        assert_eq!(at("two", "2030-01-01T00:00:00Z"), Ok(ann));
        assert_eq!(at("three", "2025-12-31T22:59:59Z"), Ok(Identity::new("ben").listed()));
        assert_eq!(at("three", "2025-12-31T23:00:00Z"), Err(Denied::Expired));
        assert_eq!(at("four", "2026-01-01T00:00:00Z"), Err(Denied::Expired));
        for wrong in ["", "on", "onee", "ONE"] {
            assert_eq!(at(wrong, "2025-01-01T00:00:00Z"), Err(Denied::Unknown), "{wrong}");
        }
        let named = |name: &str, time: &str| known.named(name, time.parse().unwrap());
        assert_eq!(named("ben", "2025-12-31T22:59:59Z"), Some(Ok(Identity::new("ben").listed())));
        assert_eq!(named("ben", "2025-12-31T23:00:00Z"), Some(Err(Denied::Expired)));
        assert_eq!(named("dan", "2025-01-01T00:00:00Z"), None);
        assert_eq!(Known::parse("").unwrap().lookup(b"", Timestamp::UNIX_EPOCH), Err(Denied::Unknown));
    }

    #[test]
    fn faults_name_the_line_and_no_secret() {
        let good = token("x");
        for (text, line, part) in [
            ("[[user]]\nname = 'a'", 1, "has no tokens".to_owned()),
            ("[[user]]\nname = ''\ntokens = []", 1, "must not be empty".to_owned()),
            ("[[user]]\nname = \"a\\n\"\ntokens = []", 1, "control".to_owned()),
            ("[[user]]\nname = 'a'\ntokens = ['plain-secret']", 3, "`wsstream token`".to_owned()),
            ("[[user]]\nname = 'a'\ntokens = ['sha256:plain-secret']", 3, "64 hexadecimal".to_owned()),
            ("[[user]]\nname = 'a'\ntoken = 'x'", 3, "unknown field".to_owned()),
            (
                &format!("[[user]]\nname='a'\ntokens=['{good}']\nexpires='2027-01-01'"),
                4,
                "RFC 3339".to_owned(),
            ),
            (&format!("[[user]]\nname='a'\ntokens=['{good}']\nexpires=2027-01-01"), 4, "RFC 3339".to_owned()),
            (&format!("[[user]]\nname='a'\ntokens=['{good}',\n'{good}']"), 4, "already".to_owned()),
            (
                &format!("[[user]]\nname='a'\ntokens=['{good}']\n[[user]]\nname='a'\ntokens=[]"),
                4,
                "two users".to_owned(),
            ),
        ] {
            let (at, message) = Known::parse(text).unwrap_err();
            assert_eq!(line_of(text, at), line, "{text}: {message}");
            assert!(message.contains(&part) && !message.contains("plain-secret"), "{message}");
        }
        assert!(parse_digest(&format!("sha256:{}", "+1".repeat(32))).is_none());
    }

    #[test]
    fn the_file_is_read_again_and_a_broken_one_is_not_used() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("users.toml");
        let line = |name: &str, text: &str| format!("[[user]]\nname='{name}'\ntokens=['{}']\n", token(text));
        std::fs::write(&path, line("ann", "one")).unwrap();
        let users = Users::read_file(&path).unwrap();
        let users = Users { known: users.known.always() };
        let now = Timestamp::now();
        assert_eq!(users.check(&head("one"), now), Ok(Identity::new("ann").listed()));
        std::fs::write(&path, line("ben", "two")).unwrap();
        assert_eq!(users.check(&head("one"), now), Err(Denied::Unknown), "taken out");
        assert_eq!(users.check(&head("two"), now), Ok(Identity::new("ben").listed()));
        std::fs::write(&path, "[[user").unwrap();
        assert_eq!(users.check(&head("two"), now), Ok(Identity::new("ben").listed()));
        std::fs::remove_file(&path).unwrap();
        assert_eq!(users.check(&head("two"), now), Ok(Identity::new("ben").listed()));
        assert!(Users::read_file(&path).unwrap_err().to_string().contains("users.toml: No such file"));
    }
}
