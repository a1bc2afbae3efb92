//! Whether the crates could be published now.
//!
//! Cargo publishes a workspace in dependency order and, in a dry run, lets the later crates see the packages of
//! the earlier ones: members that are not on a registry yet are no obstacle.

use crate::{
    msrv::is_private,
    report::{Outcome, Totals},
    workspace::{Workspace, show},
};

/// `cargo xtask publish-check`.
pub fn run(workspace: &Workspace, allow_dirty: bool, totals: &mut Totals) {
    totals.case("publish: metadata", || Outcome::from_faults(&metadata_faults(workspace)));
    totals.case("publish: dry run", || {
        let mut args = vec!["publish", "--dry-run", "--workspace", "--locked"];
        if allow_dirty {
            args.push("--allow-dirty");
        }
        let mut command = workspace.cargo(&args);
        show(&mut command)
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
    }
    faults
}
