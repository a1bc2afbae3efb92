//! Bearer tokens. They are kept as SHA-256 digests and all of them are compared in constant time, so that neither a
//! core dump nor the time of an answer tells one.

use super::{Authenticator, Denied, Identity, presented};
use crate::reload::read_text;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use futures_util::future::BoxFuture;
use http::request::Parts;
use rand::RngCore;
use sha2::{Digest as _, Sha256};
use std::{
    fmt, io,
    path::{Path, PathBuf},
};
use subtle::{Choice, ConditionallySelectable, ConstantTimeEq};
use thiserror::Error;

/// A million bytes are ten thousand tokens.
const FILE_BYTES: u64 = 1 << 20;

/// A secret. `Debug` does not show it; [`Token::expose`] does. Not `PartialEq`: tokens are compared by digest, in
/// constant time.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token of 256 random bits, in URL-safe base64.
    pub fn random() -> Self {
        let mut bytes = [0u8; 32];
        rand::rng().fill_bytes(&mut bytes);
        Self(URL_SAFE_NO_PAD.encode(bytes))
    }

    /// Takes a token as typed. `None` when it is empty or holds anything but visible ASCII, which no header can carry.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (!text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic())).then_some(Self(text))
    }

    /// The secret itself, for a kubeconfig. Never log it.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What a users file holds of it: `sha256:` and the digest in hexadecimal.
    pub fn hashed(&self) -> String {
        use fmt::Write as _;
        let mut text = String::from("sha256:");
        for byte in digest(self.0.as_bytes()) {
            // Writing to a String does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        text
    }

    /// Reads a token file: one token per line; blank lines and lines that start with `#` are skipped. At least one is
    /// required.
    pub fn read_file(path: &Path) -> Result<Vec<Self>, TokenFileError> {
        let fail = |fault| TokenFileError { path: path.to_owned(), fault };
        let text = read_text(path, FILE_BYTES).map_err(|e| fail(TokenFileFault::Read(e)))?;
        let mut tokens = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            tokens.push(Self::new(line).ok_or_else(|| fail(TokenFileFault::Line(index + 1)))?);
        }
        if tokens.is_empty() { Err(fail(TokenFileFault::Empty)) } else { Ok(tokens) }
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// A token file that cannot be used. The text names the file and the line, never a token.
#[derive(Debug, Error)]
#[error("token file {path}: {fault}", path = path.display())]
pub struct TokenFileError {
    path: PathBuf,
    fault: TokenFileFault,
}

#[derive(Debug, Error)]
enum TokenFileFault {
    #[error("{0}")]
    Read(io::Error),
    #[error("line {0}: a token is one word of visible ASCII characters")]
    Line(usize),
    #[error("holds no token (one per line)")]
    Empty,
}

/// Accepts requests that carry one of a set of tokens as `Authorization: Bearer <token>`.
#[derive(Clone, Default)]
pub struct BearerTokens {
    known: Vec<(String, Digest)>,
}

impl BearerTokens {
    /// All tokens of one user, named `token-1`, `token-2` ... in order in the log.
    pub fn new(tokens: impl IntoIterator<Item = Token>) -> Self {
        let mut all = Self::default();
        for (index, token) in tokens.into_iter().enumerate() {
            all.insert(format!("token-{}", index + 1), &token);
        }
        all
    }

    /// Adds a token whose bearer is `user`.
    pub fn insert(&mut self, user: impl Into<String>, token: &Token) {
        self.known.push((user.into(), digest(token.expose().as_bytes())));
    }

    /// Every known digest is compared, whether or not one has matched before.
    fn lookup(&self, presented: &[u8]) -> Option<&str> {
        let presented = digest(presented);
        let mut found = u32::MAX;
        for (index, (_, known)) in (0u32..).zip(&self.known) {
            let equal: Choice = known.ct_eq(&presented);
            found.conditional_assign(&index, equal);
        }
        self.known.get(usize::try_from(found).ok()?).map(|(user, _)| user.as_str())
    }

    pub(super) fn check(&self, head: &Parts) -> Result<Identity, Denied> {
        let token = presented(head)?.ok_or(Denied::Missing)?;
        self.lookup(&token).map(Identity::new).ok_or(Denied::Unknown)
    }
}

impl fmt::Debug for BearerTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BearerTokens").field("count", &self.known.len()).finish()
    }
}

impl Authenticator for BearerTokens {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Identity, Denied>> {
        Box::pin(std::future::ready(self.check(head)))
    }
}

/// SHA-256 of a token.
pub(super) type Digest = [u8; 32];

pub(super) fn digest(bytes: &[u8]) -> Digest {
    Sha256::digest(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::header::AUTHORIZATION;

    fn head(values: &[&str]) -> Parts {
        let mut request = http::Request::builder().uri("/api");
        for value in values {
            request = request.header(AUTHORIZATION, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn two() -> BearerTokens {
        let mut tokens = BearerTokens::default();
        tokens.insert("ann", &Token::new("first").unwrap());
        tokens.insert("ben", &Token::new("second").unwrap());
        tokens
    }

    #[test]
    fn names_the_bearer_of_each_token() {
        assert_eq!(two().check(&head(&["Bearer first"])), Ok(Identity::new("ann")));
        assert_eq!(two().check(&head(&["bearer  second "])), Ok(Identity::new("ben")));
    }

    #[test]
    fn refuses_everything_else_and_says_why() {
        for (values, why) in [
            (&[][..], Denied::Missing),
            (&["Bearer"], Denied::Malformed),
            (&["Basic first"], Denied::Malformed),
            (&["Bearer first", "Bearer first"], Denied::Several),
            (&["Bearer "], Denied::Unknown),
            (&["Bearer firs"], Denied::Unknown),
            (&["Bearer firstt"], Denied::Unknown),
            (&["Bearer FIRST"], Denied::Unknown),
        ] {
            assert_eq!(two().check(&head(values)), Err(why), "{values:?}");
        }
        assert_eq!(BearerTokens::default().check(&head(&["Bearer "])), Err(Denied::Unknown));
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = Token::random();
        assert!(!format!("{token:?} {:?}", BearerTokens::new([token.clone()])).contains(token.expose()));
        assert_eq!(token.expose().len(), 43);
        assert_ne!(token.expose(), Token::random().expose());
    }

    #[test]
    fn a_token_file_is_read_line_by_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tokens");
        std::fs::write(&path, "# admins\n\n  one \ntwo\r\n").unwrap();
        let tokens = Token::read_file(&path).unwrap();
        assert_eq!(tokens.iter().map(Token::expose).collect::<Vec<_>>(), ["one", "two"]);

        std::fs::write(&path, "one\ntwo words\n").unwrap();
        let error = Token::read_file(&path).unwrap_err().to_string();
        assert!(error.contains("tokens: line 2:") && !error.contains("words"), "{error}");
        std::fs::write(&path, "#\n").unwrap();
        assert!(Token::read_file(&path).unwrap_err().to_string().contains("holds no token"));
        let missing = Token::read_file(&dir.path().join("none")).unwrap_err().to_string();
        assert!(missing.contains("none: No such file"), "{missing}");
    }
}
