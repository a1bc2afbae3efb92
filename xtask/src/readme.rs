//! The README's tour, run as written: the first page is the first promise.

use std::time::Duration;

use crate::{report::Totals, tour, workspace::Workspace};

const LIMIT: Duration = Duration::from_secs(300);

/// `cargo xtask readme`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    tour::cases(workspace, totals, "readme", "the tour", || tour::run(workspace, "README.md", LIMIT, &[]));
}
