//! The examples are the first code that people copy: each is short, builds, and is run by a test.
//!
//! An example is a program, so running it means starting it beside its peer: `examples/tests` does that, and
//! this command sees to it that no example is left out.

use std::{fs, path::PathBuf};

use anyhow::Result;

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, rust_files, show},
};

/// "Under 60 lines" is a promise of the README.
const LINES: usize = 60;

/// `cargo xtask examples`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("examples: short, and each one tested", || match faults(workspace) {
        Ok(faults) => Outcome::from_faults(&faults),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    });
    totals.case("examples: build", || {
        show(&mut workspace.cargo(&["build", "--package", "wsstream-examples", "--all-targets"]))
    });
    totals.case("examples: run", || show(&mut workspace.cargo(&["test", "--package", "wsstream-examples"])));
}

fn faults(workspace: &Workspace) -> Result<Vec<String>> {
    let folder = workspace.root.join("examples");
    let mut tests = String::new();
    for file in rust_files(&folder.join("tests")) {
        tests.push_str(&fs::read_to_string(file)?);
    }
    let examples = programs(workspace);
    let mut faults = Vec::new();
    if examples.is_empty() {
        faults.push("there is no example".to_owned());
    }
    for (name, path) in examples {
        let lines = fs::read_to_string(&path)?.lines().count();
        if lines >= LINES {
            faults.push(format!("{name} has {lines} lines, fewer than {LINES} are promised"));
        }
        if !tests.contains(&name) {
            faults.push(format!("{name} is run by no test in examples/tests"));
        }
    }
    Ok(faults)
}

/// Every program of the examples package, whichever way it is laid out.
fn programs(workspace: &Workspace) -> Vec<(String, PathBuf)> {
    let package = workspace.members().find(|package| package["name"] == "wsstream-examples");
    package
        .and_then(|package| package["targets"].as_array())
        .into_iter()
        .flatten()
        .filter(|target| {
            target["kind"].as_array().into_iter().flatten().any(|kind| kind == "bin" || kind == "example")
        })
        .filter_map(|target| Some((target["name"].as_str()?.to_owned(), target["src_path"].as_str()?.into())))
        .collect()
}
