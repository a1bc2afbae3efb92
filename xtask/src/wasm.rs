//! proto in the browser: it must compile for a target that has no operating system.

use std::{path::Path, process::Command};

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, show},
};

const TARGET: &str = "wasm32-unknown-unknown";

/// `cargo xtask wasm`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("wasm: wsstream-proto", || {
        let libraries = capture(Command::new("rustc").args(["--print", "target-libdir", "--target", TARGET]));
        match libraries {
            Ok(folder) if Path::new(folder.trim()).is_dir() => {
                show(&mut workspace.cargo(&["check", "-p", "wsstream-proto", "--target", TARGET]))
            }
            // A component of the toolchain, not a tool that a script could install: a skip everywhere.
            _ => Outcome::Skipped(format!("the target is not installed: rustup target add {TARGET}")),
        }
    });
}
