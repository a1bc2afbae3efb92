//! Where the kubeconfig goes, and that it goes away again.

use crate::failure::Failure;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Where to write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    /// The file.
    pub(crate) path: PathBuf,
    /// We chose it.
    ours: bool,
}

impl Place {
    /// The file that the person `chose`, else one whose name carries `address`, so that two servers do not share
    /// it. Absolute: kubectl may be run from anywhere.
    pub(crate) fn new(chosen: Option<PathBuf>, address: SocketAddr) -> Result<Self, Failure> {
        let ours = chosen.is_none();
        let path = match chosen {
            Some(path) => path,
            None => {
                default_file(address, std::process::id(), |name| std::env::var_os(name).map(PathBuf::from))
                    .ok_or_else(|| {
                        Failure::local("there is no home directory to write the kubeconfig to")
                            .next("name a file with --kubeconfig FILE")
                    })?
            }
        };
        Ok(Self { path: std::path::absolute(&path).unwrap_or(path), ours })
    }

    /// Looks at the file that was just written, for its removal.
    pub(crate) fn written(self) -> Written {
        let text = if self.ours { std::fs::read(&self.path).ok() } else { None };
        Written { path: self.path, text }
    }
}

/// A kubeconfig on disk. One at a place of our own choosing is removed when this is dropped: the token in it ends
/// with the server. One that the person placed stays where it was put.
#[derive(Debug)]
pub(crate) struct Written {
    path: PathBuf,
    /// What to remove.
    text: Option<Vec<u8>>,
}

impl Drop for Written {
    fn drop(&mut self) {
        // A server that took over our address may have written its own by now: that one stays.
        if let Some(text) = &self.text
            && std::fs::read(&self.path).is_ok_and(|found| found == *text)
        {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// `$XDG_RUNTIME_DIR/wsstream/127.0.0.1-7443.kubeconfig`, else below `~/.local/state`.
///
/// The port that 0 stands for is not known before the file is written; the process id takes its place.
fn default_file(address: SocketAddr, pid: u32, env: impl Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
    // The specifications of both directories ask to ignore relative values.
    let directory = |name: &str| env(name).filter(|path| path.is_absolute());
    let base = directory("XDG_RUNTIME_DIR")
        .filter(|path| path.is_dir())
        .or_else(|| directory("XDG_STATE_HOME"))
        .or_else(|| directory("HOME").map(|home| home.join(".local/state")))?;
    Some(base.join("wsstream").join(name_of(address, pid) + ".kubeconfig"))
}

/// What the files of a server at this address begin with.
pub(super) fn name_of(address: SocketAddr, pid: u32) -> String {
    // A colon would end the path in $KUBECONFIG.
    let name = match address.port() {
        0 => format!("{}-pid{pid}", address.ip()),
        port => format!("{}-{port}", address.ip()),
    };
    name.replace(':', "_")
}

/// A name that is a part of the path of a socket must be short.
const LONGEST: usize = 60;

/// The same for one that listens on a unix socket alone: no two have the same path.
pub(super) fn name_of_path(socket: &Path, pid: u32) -> String {
    let path = std::path::absolute(socket).unwrap_or_else(|_| socket.to_owned());
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-".contains(c);
    match path.to_str() {
        // One sign for each, so that no two paths have the same name.
        Some(text) if text.len() <= LONGEST && text.chars().all(plain) => {
            format!("unix{}", text.replace('_', "~").replace('/', "_"))
        }
        _ => format!("unix-pid{pid}"),
    }
}

#[cfg(test)]
mod tests {
    use super::{default_file, name_of_path};
    use std::path::{Path, PathBuf};

    /// They shared the name of a port that none of them listened on.
    #[test]
    fn servers_on_unix_sockets_alone_shared_one_name() {
        let name = |path: &str| name_of_path(Path::new(path), 5);
        assert_eq!(name("/run/wsstream/api.sock"), "unix_run_wsstream_api.sock");
        assert_eq!(name("/run/a_b"), "unix_run_a~b");
        assert_eq!(name("/x y"), "unix-pid5");
        assert_eq!(name(&format!("/{}", "x".repeat(60))), "unix-pid5");
        assert!(name("relative").ends_with("_relative"));
    }

    #[test]
    fn the_default_file_is_named_after_the_address() {
        let file = |address: &str, env: &[(&str, &str)]| {
            let get =
                |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| PathBuf::from(value));
            default_file(address.parse().unwrap(), 5, get).map(|path| path.display().to_string())
        };
        assert_eq!(
            file("127.0.0.1:7443", &[("XDG_RUNTIME_DIR", "/"), ("HOME", "/h")]).unwrap(),
            "/wsstream/127.0.0.1-7443.kubeconfig"
        );
        assert_eq!(
            file("[::1]:1", &[("XDG_RUNTIME_DIR", "relative"), ("HOME", "/h")]).unwrap(),
            "/h/.local/state/wsstream/__1-1.kubeconfig"
        );
        assert_eq!(
            file("127.0.0.1:1", &[("XDG_RUNTIME_DIR", "/does/not/exist"), ("XDG_STATE_HOME", "/s")]).unwrap(),
            "/s/wsstream/127.0.0.1-1.kubeconfig"
        );
        assert_eq!(
            file("127.0.0.1:0", &[("HOME", "/h")]).unwrap(),
            "/h/.local/state/wsstream/127.0.0.1-pid5.kubeconfig"
        );
        assert_eq!(file("127.0.0.1:1", &[]), None);
    }
}
