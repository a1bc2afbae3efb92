//! What is told of a command.

use super::ArgvPolicy;
use rand::RngCore;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;

/// A command, as much of it as the policy lets through.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Argv {
    #[serde(skip_serializing_if = "Option::is_none")]
    argv: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    program: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arguments: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    digest: Option<String>,
}

/// Digests with a key that lives as long as this and is never shown.
pub(super) struct Hasher([u8; 32]);

impl Hasher {
    pub(super) fn new() -> Self {
        let mut key = [0; 32];
        rand::rng().fill_bytes(&mut key);
        Self(key)
    }

    /// The key comes first and is as long as the digest, and the digest is cut: nobody can go on from it with more words.
    fn digest(&self, argv: &[String]) -> String {
        let mut hash = Sha256::new_with_prefix(self.0);
        for word in argv {
            // With their lengths: `a b` is not `ab`.
            hash.update((word.len() as u64).to_le_bytes());
            hash.update(word);
        }
        hex(hash.finalize().get(..16).unwrap_or_default())
    }

    pub(super) fn show(&self, policy: ArgvPolicy, argv: &[String]) -> Argv {
        match policy {
            _ if argv.is_empty() => Argv::default(),
            ArgvPolicy::Off => Argv::default(),
            ArgvPolicy::Full => Argv { argv: Some(argv.to_vec()), ..Argv::default() },
            ArgvPolicy::Hashed => Argv {
                program: argv.first().cloned(),
                arguments: Some(argv.len() - 1),
                digest: Some(self.digest(argv)),
                ..Argv::default()
            },
        }
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_tells_equal_commands_and_nothing_else() {
        let argv = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        let (hasher, other) = (Hasher::new(), Hasher::new());
        let command = argv(&["mysql", "-psecret"]);
        assert_eq!(hasher.digest(&command), hasher.digest(&command));
        assert_ne!(hasher.digest(&command), hasher.digest(&argv(&["mysql", "-psecre", "t"])));
        assert_ne!(hasher.digest(&command), other.digest(&command), "a key of its own");
        let show = |policy| serde_json::to_string(&hasher.show(policy, &command)).unwrap();
        assert_eq!(show(ArgvPolicy::Full), r#"{"argv":["mysql","-psecret"]}"#);
        assert_eq!(show(ArgvPolicy::Off), "{}");
        let hashed = show(ArgvPolicy::Hashed);
        assert!(
            hashed.starts_with(r#"{"program":"mysql","arguments":1,"digest":""#)
                && !hashed.contains("secret")
        );
    }
}
