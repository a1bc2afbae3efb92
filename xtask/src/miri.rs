//! proto's tests under Miri: an interpreter that sees undefined behaviour in what the machine code hides, in our
//! dependencies as well as in our own code.

use std::process::Command;

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, show},
};

/// `cargo xtask miri`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("miri: wsstream-proto", || match capture(&mut nightly(&["miri", "--version"])) {
        Ok(version) => {
            println!("{}", version.trim());
            show(
                nightly(&["miri", "test", "--package", "wsstream-proto", "--no-fail-fast"])
                    .current_dir(&workspace.root),
            )
        }
        // A component of a toolchain that nobody needs otherwise: a skip everywhere, as with wasm.
        Err(_) => Outcome::Skipped(
            "there is no Miri: rustup toolchain install nightly --component miri,rust-src".to_owned(),
        ),
    });
}

/// A command of the nightly cargo. By `rustup run`, because the cargo that runs this is no proxy that knows `+nightly`.
pub(crate) fn nightly(args: &[&str]) -> Command {
    let mut command = Command::new("rustup");
    command.args(["run", "nightly", "cargo"]).args(args);
    // What the outer cargo told its own children would make the inner one take the outer toolchain.
    for name in ["CARGO", "RUSTC", "RUSTUP_TOOLCHAIN"] {
        command.env_remove(name);
    }
    command
}
