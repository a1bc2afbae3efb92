//! A small Debian with systemd: what the unit is installed into, and the base of the image.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::workspace::{Workspace, capture};

/// What is in it besides the packages that every Debian has.
const PACKAGES: &str = "systemd-sysv,dbus";

/// Made anew when older: packages of a release change.
const FRESH: Duration = Duration::from_secs(14 * 24 * 3600);

/// The archive of the tree, made from the packages of this machine's own release so that programs built here run there.
pub(super) fn packed(workspace: &Workspace) -> Result<PathBuf> {
    let release = fs::read_to_string("/etc/os-release").context("/etc/os-release")?;
    let field = |name: &str| {
        let line = release.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
        line.map(|value| value.trim_matches('"').to_owned())
    };
    let (Some("debian"), Some(suite)) = (field("ID").as_deref(), field("VERSION_CODENAME")) else {
        bail!(
            "this machine is no Debian with a code name: its programs would not run in a tree of another release"
        );
    };
    let folder = workspace.target.join("dist");
    fs::create_dir_all(&folder)?;
    let packed = folder.join(format!("tree-{suite}.tar"));
    let made = fs::metadata(&packed).and_then(|file| file.modified()).ok();
    let age = made.and_then(|made| SystemTime::now().duration_since(made).ok());
    if age.is_some_and(|age| age < FRESH) {
        return Ok(packed);
    }
    let begun = folder.join("tree.part");
    let mut make = Command::new("mmdebstrap");
    make.args(["--quiet", "--format=tar", "--variant=essential", "--include", PACKAGES]);
    for unread in ["man", "doc", "locale"] {
        make.arg(format!("--dpkgopt=path-exclude=/usr/share/{unread}/*"));
    }
    capture(make.arg(&suite).arg(&begun))?;
    fs::rename(&begun, &packed)?;
    Ok(packed)
}

/// Unpacks it into a folder that is there.
pub(super) fn unpack(packed: &Path, folder: &Path) -> Result<()> {
    let mut tar = Command::new("tar");
    // No device can be made in some places, and whoever boots it brings their own.
    tar.args(["--numeric-owner", "--exclude=./dev/*", "-xf"]).arg(packed).arg("-C").arg(folder);
    capture(&mut tar)?;
    ensure!(folder.join("sbin/init").exists(), "there is no /sbin/init in {}", packed.display());
    Ok(())
}
