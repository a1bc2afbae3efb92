//! The kubeconfig: what makes the printed kubectl line work as pasted. It holds a token that runs code, so it is never on
//! disk incomplete or readable by others, not even for a moment.

mod form;

use crate::dry::{self, directory_of};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{
    fmt::Write as _,
    fs::{DirBuilder, File},
    io::{self, Write as _},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};
use thiserror::Error;

/// The contents of a kubeconfig with one cluster, one user and one context, all named `wsstream`.
#[derive(Debug, Clone, Copy)]
pub struct Kubeconfig<'a> {
    /// `https://127.0.0.1:7443`
    pub server: &'a str,
    /// The name to expect in the certificate when it is not the one in `server`.
    pub tls_server_name: Option<&'a str>,
    /// PEM of what to trust; `None` for plain HTTP.
    pub certificate_authority_pem: Option<&'a str>,
    /// The bearer token; `None` where the server asks for none.
    pub token: Option<&'a str>,
    /// The namespace kubectl uses when none is named.
    pub namespace: &'a str,
}

impl Kubeconfig<'_> {
    /// The file as YAML. Every value is a double-quoted scalar with JSON escapes, which YAML shares.
    pub fn render(&self) -> String {
        let mut text = String::from(
            "# Written by `wsstream serve` at each start. Holds a token: whoever reads this file runs commands.\n\
             apiVersion: v1\nkind: Config\ncurrent-context: wsstream\nclusters:\n- name: wsstream\n  cluster:\n",
        );
        // Writing to a String cannot fail.
        let mut field = |indent: &str, key: &str, value: Option<&str>| {
            if let Some(value) = value {
                let _ = writeln!(text, "{indent}{key}: {}", serde_json::Value::from(value));
            }
        };
        field("    ", "server", Some(self.server));
        field("    ", "tls-server-name", self.tls_server_name);
        let authority = self.certificate_authority_pem.map(|pem| STANDARD.encode(pem));
        field("    ", "certificate-authority-data", authority.as_deref());
        text.push_str("users:\n- name: wsstream\n  user:\n");
        match self.token {
            Some(token) => {
                let _ = writeln!(text, "    token: {}", serde_json::Value::from(token));
            }
            None => text.push_str("    {}\n"),
        }
        text.push_str("contexts:\n- name: wsstream\n  context:\n    cluster: wsstream\n    user: wsstream\n");
        let _ = writeln!(text, "    namespace: {}", serde_json::Value::from(self.namespace));
        text
    }

    /// Writes the file: mode 0600, complete before it has its name (a temporary file in the same directory, synced and
    /// renamed). A missing directory is made with mode 0700. A symlink at `path` is replaced; its target stays.
    ///
    /// Replaces only what it wrote itself, also after kubectl has edited it, an empty file, and a symlink to one of
    /// these or to nothing. Anything else is refused: losing somebody's cluster credentials to a mistyped flag cannot
    /// be undone.
    pub fn write(&self, path: &Path) -> Result<(), KubeconfigError> {
        let fail =
            |what: &'static str| move |error| KubeconfigError::Io { path: path.to_owned(), what, error };
        let directory = directory_of(path);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(fail("cannot create its directory"))?;
        replaceable(path)?;
        let mut file = tempfile::Builder::new()
            .prefix(".kubeconfig-")
            .tempfile_in(directory)
            .map_err(fail("cannot create a temporary file beside it"))?;
        file.write_all(self.render().as_bytes()).map_err(fail("cannot write"))?;
        file.as_file().sync_all().map_err(fail("cannot sync"))?;
        file.persist(path).map_err(|e| fail("cannot move it into place")(e.error))?;
        // The name is part of the file: sync the directory too. Some file systems cannot; the contents are safe already.
        if let Ok(directory) = File::open(directory) {
            let _ = directory.sync_all();
        }
        Ok(())
    }
}

/// Whether what has the name may be replaced.
fn replaceable(path: &Path) -> Result<(), KubeconfigError> {
    // Following symlinks: one that leads to somebody's kubeconfig is how that person reaches it.
    match std::fs::metadata(path) {
        // A rename would replace a device or a socket, too: `--kubeconfig /dev/null` as root.
        Ok(old) if !old.is_file() => Err(KubeconfigError::NotAFile { path: path.to_owned() }),
        Ok(_) if !std::fs::read_to_string(path).is_ok_and(|old| form::is_ours(&old)) => {
            Err(KubeconfigError::Foreign { path: path.to_owned() })
        }
        Ok(_) => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => {
            Err(KubeconfigError::Io { path: path.to_owned(), what: "cannot look at what is there", error })
        }
    }
}

/// Whether [`Kubeconfig::write`] would be able to write there, without doing it.
pub(crate) fn check(path: &Path) -> Result<(), KubeconfigError> {
    let what = "cannot write to its directory";
    dry::writable_or_missing(directory_of(path)).map_err(|error| KubeconfigError::Io {
        path: path.to_owned(),
        what,
        error,
    })?;
    replaceable(path)
}

/// Where the kubeconfig goes when nobody says: `$XDG_STATE_HOME/wsstream/kubeconfig`, by default
/// `~/.local/state/wsstream/kubeconfig`. `None` without a home directory.
pub fn default_path() -> Option<PathBuf> {
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|p| p.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")))?;
    Some(state.join("wsstream/kubeconfig"))
}

/// The kubeconfig could not be written. The text names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum KubeconfigError {
    /// The file system refused.
    #[error("kubeconfig {path}: {what}: {error}", path = path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Which step failed.
        what: &'static str,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// Something that is not a file has this name.
    #[error("kubeconfig {path}: exists and is not a regular file: name another file", path = path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The file belongs to somebody else.
    #[error(
        "kubeconfig {path}: the file exists and describes other clusters; it is not replaced: name another file",
        path = path.display()
    )]
    Foreign {
        /// The file.
        path: PathBuf,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    fn example() -> Kubeconfig<'static> {
        Kubeconfig {
            server: "https://127.0.0.1:7443",
            tls_server_name: None,
            certificate_authority_pem: Some("PEM"),
            token: Some("se\"cret"),
            namespace: "default",
        }
    }

    #[test]
    fn renders_what_kubectl_reads() {
        assert_eq!(
            example().render().split_once('\n').unwrap().1,
            "apiVersion: v1\nkind: Config\ncurrent-context: wsstream\n\
             clusters:\n- name: wsstream\n  cluster:\n    server: \"https://127.0.0.1:7443\"\n    certificate-authority-data: \"UEVN\"\n\
             users:\n- name: wsstream\n  user:\n    token: \"se\\\"cret\"\n\
             contexts:\n- name: wsstream\n  context:\n    cluster: wsstream\n    user: wsstream\n    namespace: \"default\"\n"
        );
        let bare = Kubeconfig { certificate_authority_pem: None, token: None, ..example() }.render();
        assert!(bare.contains("user:\n    {}\n") && !bare.contains("certificate"), "{bare}");
    }

    #[test]
    fn is_private_complete_and_alone_in_its_directory() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new/deep/kubeconfig");
        example().write(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::metadata(path.parent().unwrap()).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), example().render());
        assert_eq!(
            std::fs::read_dir(path.parent().unwrap()).unwrap().count(),
            1,
            "no temporary file is left"
        );

        // A second start replaces the file as a whole: another inode, not a truncated and rewritten one.
        let before = std::fs::metadata(&path).unwrap().ino();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).unwrap();
        example().write(&path).unwrap();
        let after = std::fs::metadata(&path).unwrap();
        assert_ne!(after.ino(), before);
        assert_eq!(after.permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_symlink_is_replaced_if_its_target_is_ours_and_the_target_stays() {
        let dir = tempfile::tempdir().unwrap();
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        let ours = Kubeconfig { token: Some("old"), ..example() }.render();
        for (old, replaced) in [(ours.as_str(), true), ("", true), ("wsstream", false)] {
            std::fs::write(&target, old).unwrap();
            std::os::unix::fs::symlink(&target, &link).unwrap();
            let result = example().write(&link);
            assert_eq!(result.is_ok(), replaced, "{old}");
            assert_eq!(std::fs::read_to_string(&target).unwrap(), old);
            assert_eq!(std::fs::symlink_metadata(&link).unwrap().is_file(), replaced);
            std::fs::remove_file(&link).unwrap();
        }
        std::fs::remove_file(&target).unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        example().write(&link).unwrap();
        assert!(!target.exists(), "what a symlink to nothing names is not made");
    }

    #[test]
    fn somebody_elses_kubeconfig_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let prod = "apiVersion: v1\nclusters:\n- name: prod\n  cluster:\n    server: https://prod\n";
        for (old, replaced) in [("", true), (prod, false), (&example().render(), true)] {
            std::fs::write(&path, old).unwrap();
            let result = example().write(&path);
            assert!(
                matches!((&result, replaced), (Ok(()), true) | (Err(KubeconfigError::Foreign { .. }), false)),
                "{old}: {result:?}"
            );
            assert!(replaced || std::fs::read_to_string(&path).unwrap() == old);
        }
        std::fs::write(&path, b"wsstream \xff").unwrap();
        assert!(matches!(example().write(&path), Err(KubeconfigError::Foreign { .. })), "not even text");
        let device = dir.path().join("null");
        std::os::unix::fs::symlink("/dev/null", &device).unwrap();
        for place in [dir.path(), &device] {
            let error = example().write(place).unwrap_err();
            assert!(matches!(error, KubeconfigError::NotAFile { .. }), "{error}");
        }
    }
}
