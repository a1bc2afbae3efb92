//! docs/operations.md, typed: an operator who follows a page that is wrong has a server that is open.
//!
//! The commands run in a clean environment: a home and a runtime directory of their own, a port that is free. What needs root
//! or another machine stands in blocks that are not marked, and is checked by `cargo xtask dist` as far as it can be.

use std::{net::TcpListener, os::unix::fs::PermissionsExt, time::Duration};

use anyhow::Result;

use crate::{report::Totals, tour, workspace::Workspace};

const LIMIT: Duration = Duration::from_secs(300);

/// `cargo xtask operations`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    tour::cases(workspace, totals, "operations", "the page's commands", || page(workspace));
}

fn page(workspace: &Workspace) -> Result<()> {
    let runtime = tempfile::tempdir()?;
    // As logind makes it.
    std::fs::set_permissions(runtime.path(), PermissionsExt::from_mode(0o700))?;
    // Free now; the page's server takes it in a moment.
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let variables =
        [("XDG_RUNTIME_DIR", runtime.path().to_string_lossy().into_owned()), ("PORT", port.to_string())];
    tour::run(workspace, "docs/operations.md", LIMIT, &variables)
}
