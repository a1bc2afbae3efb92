//! The API documentation, built as docs.rs would and with broken links denied.

use crate::{
    report::Totals,
    workspace::{Workspace, show},
};

/// `cargo xtask docs`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("docs: rustdoc", || {
        let mut command = workspace.cargo(&["doc", "--workspace", "--all-features", "--no-deps"]);
        show(command.env("RUSTDOCFLAGS", "-D warnings"))
    });
}
