//! Everything that reads the sources and runs none of them.

use crate::{
    dependencies, docs, licences,
    report::Totals,
    workspace::{Workspace, show},
};

/// `cargo xtask lint`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("lint: format", || show(&mut workspace.cargo(&["fmt", "--all", "--check"])));
    // Workspaces of their own.
    for manifest in ["bench/Cargo.toml", "bench/kube-rs/Cargo.toml", "interop/kube-rs/Cargo.toml"] {
        totals.case(&format!("lint: format of {manifest}"), || {
            show(&mut workspace.cargo(&["fmt", "--all", "--manifest-path", manifest, "--check"]))
        });
    }
    totals.case("lint: clippy", || {
        show(&mut workspace.cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
    });
    // The small library user's builds: what only compiles with everything switched on is broken for them.
    for features in [
        &["--no-default-features"][..],
        &["--no-default-features", "--features", "client"],
        &["--no-default-features", "--features", "server"],
        &["--no-default-features", "--features", "cri"],
    ] {
        totals.case(&format!("lint: clippy of wsstream {}", features.join(" ")), || {
            let mut args = vec!["clippy", "-p", "wsstream"];
            args.extend(features);
            args.extend(["--", "-D", "warnings"]);
            show(&mut workspace.cargo(&args))
        });
    }
    docs::run(workspace, totals);
    licences::run(workspace, totals);
    dependencies::run(workspace, false, totals);
}
