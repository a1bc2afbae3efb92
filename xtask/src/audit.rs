//! Dependencies against what others know of them: cargo-deny (licences, banned crates, sources) and cargo-audit (security
//! advisories).
//!
//! Both are tools of their own, installed below the target directory when they are missing. The database of advisories is on
//! a server that not every machine reaches: then this says so, loudly, and checks nothing; `WSSTREAM_ADVISORY_DB` names a copy.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, show, which},
};

/// `cargo xtask audit`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("audit: cargo deny", || deny(workspace));
    totals.case("audit: cargo audit", || advisories(workspace));
}

/// Licences, bans and sources, by deny.toml.
pub fn deny(workspace: &Workspace) -> Outcome {
    let tool = match tool(workspace, "cargo-deny") {
        Ok(tool) => tool,
        Err(outcome) => return outcome,
    };
    let mut command = Command::new(tool);
    command.current_dir(&workspace.root).stdin(Stdio::null());
    // Duplicates are allowed, and a screen each.
    show(
        command
            .args(["--all-features", "--log-level", "error", "check", "--hide-inclusion-graph"])
            .args(["licenses", "bans", "sources"]),
    )
}

fn advisories(workspace: &Workspace) -> Outcome {
    let tool = match tool(workspace, "cargo-audit") {
        Ok(tool) => tool,
        Err(outcome) => return outcome,
    };
    let mut command = Command::new(tool);
    command.arg("audit").current_dir(&workspace.root).stdin(Stdio::null());
    if let Some(copy) = env::var_os("WSSTREAM_ADVISORY_DB") {
        command.arg("--no-fetch").arg("--db").arg(copy);
    }
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => return Outcome::Failed(format!("cannot run cargo-audit: {error}")),
    };
    let text =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    match output.status.success() {
        true => {
            println!("{}", text.trim_end());
            Outcome::Passed
        }
        // No fault of ours, and nothing that trying again at once would mend.
        false if text.contains("couldn't fetch advisory database") => Outcome::Skipped(
            "the advisory database cannot be reached, so NOTHING WAS CHECKED; WSSTREAM_ADVISORY_DB names a copy".into(),
        ),
        false => Outcome::Failed(text),
    }
}

/// The tool in `PATH` or below the target directory, else installed there.
fn tool(workspace: &Workspace, name: &str) -> Result<PathBuf, Outcome> {
    let root = workspace.target.join("tools");
    let own = root.join("bin").join(name);
    if let Some(found) = which(name).or_else(|| own.is_file().then(|| own.clone())) {
        return Ok(found);
    }
    // Unoptimised: it runs for seconds and is built for minutes.
    let mut install = workspace.cargo(&["install", "--locked", "--debug", name, "--root"]);
    match show(install.arg(&root)) {
        Outcome::Passed => Ok(own),
        _ => Err(Outcome::missing(format!("{name} is not installed, and cargo install cannot get it"))),
    }
}
