//! The minimum Rust version that the manifests promise.
//!
//! Two checks, because the old toolchain is seldom installed: no dependency that ships asks for a newer Rust
//! than we promise (always), and the workspace compiles with exactly that toolchain (where it is there).
//! Uses of a newer standard library are found by clippy's `incompatible_msrv` on every lint run.

use std::{collections::BTreeSet, process::Command};

use serde_json::Value;

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, show},
};

/// `cargo xtask msrv`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    let mut promises = BTreeSet::new();
    for package in workspace.members().filter(|package| !is_private(package)) {
        let name = package["name"].as_str().unwrap_or_default();
        let promised = package["rust_version"].as_str().unwrap_or_default();
        promises.insert(promised);
        totals.case(&format!("msrv: dependencies of {name} accept {promised}"), || {
            Outcome::from_faults(&newer_dependencies(workspace, package))
        });
    }
    for promised in promises {
        totals.case(&format!("msrv: compiles with {promised}"), || compiles(workspace, promised));
    }
}

/// Whether the crates that promise this version compile with it.
fn compiles(workspace: &Workspace, promised: &str) -> Outcome {
    let toolchains = capture(Command::new("rustup").args(["toolchain", "list"])).unwrap_or_default();
    let Some(toolchain) = toolchains.lines().find_map(|line| {
        let name = line.split_whitespace().next()?;
        (name.starts_with(&format!("{promised}.")) || name.starts_with(&format!("{promised}-")))
            .then_some(name)
    }) else {
        return Outcome::Skipped(format!(
            "that toolchain is not installed: rustup toolchain install {promised}"
        ));
    };
    let mut command = Command::new("rustup");
    command.args(["run", toolchain, "cargo", "check", "--locked", "--lib", "--bins"]);
    for package in
        workspace.members().filter(|package| !is_private(package) && package["rust_version"] == promised)
    {
        command.args(["--package", package["name"].as_str().unwrap_or_default()]);
    }
    show(command.current_dir(&workspace.root).env("CARGO_TARGET_DIR", workspace.target.join("msrv")))
}

/// What a published package depends on (normal and build edges) that states a newer Rust than the package.
fn newer_dependencies(workspace: &Workspace, package: &Value) -> Vec<String> {
    let promised = package["rust_version"].as_str().unwrap_or_default();
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&str> = package["id"].as_str().into_iter().collect();
    while let Some(id) = waiting.pop() {
        if reached.insert(id) {
            waiting.extend(shipped_edges(workspace, id));
        }
    }
    workspace
        .packages()
        .filter(|package| package["id"].as_str().is_some_and(|id| reached.contains(id)))
        .filter_map(|package| {
            let wants = package["rust_version"].as_str()?;
            (numbers(wants) > numbers(promised))
                .then(|| format!("{} {} wants {wants}", package["name"], package["version"]))
        })
        .collect()
}

fn shipped_edges<'a>(workspace: &'a Workspace, id: &str) -> Vec<&'a str> {
    let nodes = workspace.metadata["resolve"]["nodes"].as_array();
    let node = nodes.into_iter().flatten().find(|node| node["id"] == id);
    node.and_then(|node| node["deps"].as_array())
        .into_iter()
        .flatten()
        .filter(|dep| dep["dep_kinds"].as_array().into_iter().flatten().any(|kind| kind["kind"] != "dev"))
        .filter_map(|dep| dep["pkg"].as_str())
        .collect()
}

/// `1.88` and `1.88.0` are the same promise.
fn numbers(version: &str) -> [u32; 3] {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    std::array::from_fn(|_| parts.next().unwrap_or(0))
}

/// Whether a package of the metadata is never published.
pub fn is_private(package: &Value) -> bool {
    package["publish"].as_array().is_some_and(Vec::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_compare_as_numbers() {
        assert_eq!(numbers("1.88"), numbers("1.88.0"));
        assert!(numbers("1.100") > numbers("1.88.1"));
    }
}
