//! Whether the crates could be published now.
//!
//! Cargo publishes a workspace in dependency order and, in a dry run, lets the later crates see the packages of
//! the earlier ones: members that are not on a registry yet are no obstacle. It unpacks them where it keeps what it has
//! downloaded, by the path of the target directory and the version alone, and never looks there again: a second run with the
//! same version would see the first one's sources. Hence a target directory that no run had before.

use std::{fs, path::Path};

use serde_json::Value;

use crate::{
    msrv::is_private,
    report::{Outcome, Totals},
    workspace::{Workspace, show},
};

/// `cargo xtask publish-check`.
pub fn run(workspace: &Workspace, allow_dirty: bool, totals: &mut Totals) {
    totals.case("publish: metadata", || Outcome::from_faults(&metadata_faults(workspace)));
    totals.case("publish: dry run", || {
        let targets = workspace.root.join("target");
        let made = fs::create_dir_all(&targets)
            .and_then(|()| tempfile::Builder::new().prefix("publish-").tempdir_in(&targets));
        let target = match made {
            Ok(target) => target,
            Err(error) => {
                return Outcome::Failed(format!("no folder for it in {}: {error}", targets.display()));
            }
        };
        let mut args = vec!["publish", "--dry-run", "--workspace", "--locked"];
        if allow_dirty {
            args.push("--allow-dirty");
        }
        let mut command = workspace.cargo(&args);
        show(command.arg("--target-dir").arg(target.path()))
    });
}

/// What a registry or docs.rs would miss.
fn metadata_faults(workspace: &Workspace) -> Vec<String> {
    let mut faults = Vec::new();
    for package in workspace.members().filter(|package| !is_private(package)) {
        for key in ["description", "license", "repository", "rust_version"] {
            if package[key].as_str().is_none_or(str::is_empty) {
                faults.push(format!("{} has no {key}", package["name"]));
            }
        }
        if !has_readme(package) {
            faults.push(format!(
                "{} has no README of its own: its page on a registry would be empty",
                package["name"]
            ));
        }
        // Otherwise docs.rs shows the default features only.
        if package["metadata"]["docs"]["rs"]["all-features"] != true {
            faults.push(format!("{} does not ask docs.rs for all features", package["name"]));
        }
    }
    faults
}

/// Whether the README that the manifest names is there, beside it, and says something.
fn has_readme(package: &Value) -> bool {
    let manifest = package["manifest_path"].as_str().map(Path::new).and_then(Path::parent);
    let (Some(folder), Some(readme)) = (manifest, package["readme"].as_str()) else { return false };
    fs::read_to_string(folder.join(readme)).is_ok_and(|text| !text.trim().is_empty())
}
