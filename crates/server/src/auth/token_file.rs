//! Tokens from a file, in the clear, one a line. It is read again when it changes: a token that was lost is taken out without a
//! restart that would end everybody's sessions.

use super::{Authenticator, BearerTokens, Denied, Identity, Token, TokenFileError};
use crate::reload::{Reloading, Stale};
use futures_util::future::BoxFuture;
use http::request::Parts;
use std::path::Path;

/// Accepts requests that carry one of the tokens in a file ([`Token::read_file`]), and reads the file again when it changes. The
/// bearer of the first is called `token-1`, and so on, by their order in the file.
///
/// A file that is broken, empty or gone later on changes nothing, and is named in the log.
#[derive(Debug)]
pub struct TokenFile {
    known: Reloading<BearerTokens>,
}

impl TokenFile {
    /// Reads the file for the first time, and yields the first token as well. Warns in the log when others than the owner may
    /// read the file.
    ///
    /// # Errors
    /// As [`Token::read_file`].
    pub fn read(path: &Path) -> Result<(Self, Option<Token>), TokenFileError> {
        crate::tls::warn_if_readable_by_others(path, "token file");
        let file = path.to_owned();
        let load = move || Token::read_file(&file).map(BearerTokens::new);
        let known = Reloading::start("token file", vec![path.to_owned()], load)?;
        // A file that has changed since then is read again in a moment.
        Ok((Self { known }, Token::read_file(path)?.into_iter().next()))
    }

    pub(crate) fn stale(&self) -> Stale {
        self.known.stale()
    }
}

impl Authenticator for TokenFile {
    fn authenticate<'a>(&'a self, head: &'a Parts) -> BoxFuture<'a, Result<Identity, Denied>> {
        Box::pin(std::future::ready(self.known.current().check(head)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_read_again_and_a_broken_one_is_not_used() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("tokens");
        std::fs::write(&path, "one\ntwo\n").unwrap();
        let (tokens, first) = TokenFile::read(&path).unwrap();
        assert_eq!(first.unwrap().expose(), "one");
        let tokens = TokenFile { known: tokens.known.always() };
        let ask = |token: &str| {
            let request = http::Request::builder().header("authorization", format!("Bearer {token}"));
            tokens.known.current().check(&request.body(()).unwrap().into_parts().0)
        };
        assert_eq!(ask("two"), Ok(Identity::new("token-2")));
        std::fs::write(&path, "three\n").unwrap();
        assert_eq!((ask("one"), ask("two")), (Err(Denied::Unknown), Err(Denied::Unknown)));
        assert_eq!(ask("three"), Ok(Identity::new("token-1")));
        for broken in ["", "# none\n", "two words\n"] {
            std::fs::write(&path, broken).unwrap();
            assert_eq!(ask("three"), Ok(Identity::new("token-1")), "{broken:?}");
            assert!(tokens.stale().1.load(std::sync::atomic::Ordering::Relaxed));
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!(ask("three"), Ok(Identity::new("token-1")));
        assert!(TokenFile::read(&path).is_err());
    }
}
