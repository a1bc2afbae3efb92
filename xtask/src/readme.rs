//! The README's tour, run as written: the first page is the first promise.

use std::time::Duration;

use crate::{
    report::{Outcome, Totals},
    tour,
    workspace::{Workspace, show},
};

const LIMIT: Duration = Duration::from_secs(300);

/// `cargo xtask readme`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    let mut built = Outcome::Passed;
    totals.case("readme: build", || {
        built = show(&mut workspace.cargo(&["build", "--release", "--package", "wsstream-cli"]));
        built.clone()
    });
    if built == Outcome::Passed {
        totals.case("readme: the tour", || tour::run(workspace, "README.md", LIMIT, &[]).into());
    }
}
