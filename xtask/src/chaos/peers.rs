//! The programs of others that the sweeps run: kubectl, client-go, Go's streaming server. One that is missing and
//! cannot be built is a loud skip on a developer's machine and a failure where `CI=true`.

use std::{fs, path::PathBuf, process::Command, sync::OnceLock};

use anyhow::{Result, anyhow, bail};

use crate::{
    interop::go,
    workspace::{Workspace, in_ci, is_executable, which},
};

/// Where they are looked for, and what was found.
#[derive(Debug)]
pub(crate) struct Peers {
    root: PathBuf,
    cache: PathBuf,
    kubectl: Option<PathBuf>,
    go: OnceLock<Result<go::Peers, String>>,
}

impl Peers {
    /// Looks for kubectl; Go's programs are built when they are first asked for.
    pub(crate) fn find(workspace: &Workspace) -> Self {
        let cache = workspace.target.join("interop");
        let kubectl = kubectl(&cache);
        Self { root: workspace.root.clone(), cache, kubectl, go: OnceLock::new() }
    }

    /// The newest kubectl that is installed.
    pub(crate) fn kubectl(&self) -> Result<PathBuf> {
        self.kubectl.clone().ok_or_else(|| anyhow!("no kubectl in PATH"))
    }

    /// What the kubectl calls itself.
    pub(crate) fn kubectl_version(&self) -> Result<String> {
        let output = Command::new(self.kubectl()?).args(["version", "--client"]).output()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let version = text.lines().find_map(|line| line.strip_prefix("Client Version: "));
        Ok(version.unwrap_or("of unknown version").to_owned())
    }

    /// Go's programs, built from interop/go; those that an earlier run built will do where there is no Go now.
    pub(crate) fn go(&self) -> Result<go::Peers> {
        let found = self.go.get_or_init(|| {
            let at = |name: &str| self.cache.join(format!("go-{name}"));
            let built = go::Peers { client: at("client"), server: at("server") };
            if which("go").is_none() && built.client.is_file() && built.server.is_file() {
                return Ok(built);
            }
            let made = fs::create_dir_all(&self.cache).map_err(anyhow::Error::from);
            made.and_then(|()| go::build(&self.root, &self.cache)).map_err(|error| format!("{error:#}"))
        });
        match found {
            Ok(peers) => Ok(peers.clone()),
            Err(why) => bail!("{why}"),
        }
    }

    /// The version of a module of interop/go, as its go.mod requires it.
    pub(crate) fn module(&self, path: &str) -> String {
        let manifest = fs::read_to_string(self.root.join("interop/go/go.mod")).unwrap_or_default();
        let version =
            manifest.lines().find_map(|line| line.trim().strip_prefix(path)?.split_whitespace().next());
        version.unwrap_or("of unknown version").to_owned()
    }
}

/// What a sweep says when something that it needs is missing: `Ok` with a note where that is only a hole, an error
/// where it must not be one.
pub(crate) fn missing(why: &anyhow::Error) -> Result<String> {
    if in_ci() {
        bail!("{why:#}");
    }
    Ok(format!("SKIPPED: {why:#}"))
}

/// The `kubectl` in `PATH`, or one that the interop cases have built. Where several versions stand beside it, the plain
/// name is a dispatcher that asks the server for its version first and then runs one of them: the newest is taken
/// itself.
fn kubectl(cache: &std::path::Path) -> Option<PathBuf> {
    let newest = |folder: &std::path::Path| -> Option<PathBuf> {
        let minor =
            |path: &PathBuf| path.file_name()?.to_str()?.strip_prefix("kubectl.1.")?.parse::<u32>().ok();
        let entries = fs::read_dir(folder).ok()?.flatten().map(|entry| entry.path());
        entries.filter(|path| minor(path).is_some() && is_executable(path)).max_by_key(minor)
    };
    match which("kubectl") {
        Some(plain) => {
            let real = fs::canonicalize(&plain).unwrap_or_else(|_| plain.clone());
            Some(real.parent().and_then(newest).unwrap_or(plain))
        }
        None => newest(cache),
    }
}
