//! What is in `dist` and the Containerfile: units, users, the sample configuration. First they are judged as text, by tools that
//! run nothing; then a systemd is booted with the unit installed as docs/operations.md tells, and the image is built and run as
//! the Containerfile's comment tells. Both happen in a room of their own, which needs root and leaves nothing behind.

mod client;
mod containerfile;
mod image;
mod machine;
mod room;
mod service;
mod tree;
mod units;

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, show, which},
};

use room::Room;

/// What booting and building need, and the Debian package that has it.
const TOOLS: [(&str, &str); 7] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("podman", "podman"),
    ("crun", "crun"),
    ("ip", "iproute2"),
    ("openssl", "openssl"),
    ("curl", "curl"),
];

/// `cargo xtask dist`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    let named = env::var_os("WSSTREAM_BIN").map(PathBuf::from);
    let mut built = Outcome::Passed;
    if named.is_none() {
        totals.case("dist: build", || {
            built = show(&mut workspace.cargo(&["build", "--release", "--package", "wsstream-cli"]));
            built.clone()
        });
    }
    if built != Outcome::Passed {
        return;
    }
    let program = named.unwrap_or_else(|| workspace.target.join("release/wsstream"));
    let dist = workspace.root.join("dist");
    units::cases(&dist, &program, totals);
    totals.case("dist: the sample configuration", || {
        let mut command = Command::new(&program);
        command.args(["serve", "--check-config", "--config"]).arg(dist.join("wsstream.toml"));
        // The one that it names is in a directory that the unit makes.
        show(command.arg("--kubeconfig").arg(workspace.target.join("kubeconfig")))
    });
    totals.case("dist: the Containerfile is well formed", || containerfile::check(&workspace.root).into());
    run_for_real(workspace, &program, totals);
}

/// The unit under a systemd and the image in a container.
fn run_for_real(workspace: &Workspace, program: &Path, totals: &mut Totals) {
    let missing: Vec<_> =
        TOOLS.iter().filter(|(tool, _)| which(tool).is_none()).map(|(_, package)| *package).collect();
    if !missing.is_empty() {
        let why = format!("the unit was NOT BOOTED, the image was NOT BUILT: without {}", missing.join(", "));
        totals.case("dist: systemd and a container", || Outcome::missing(why));
        return;
    }
    let mut room = None;
    totals.case("dist: a room with namespaces of its own", || match Room::open() {
        Ok(opened) => {
            room = Some(opened);
            Outcome::Passed
        }
        // Not a matter of what is installed: neither a developer nor CI can do anything about it here.
        Err(why) => Outcome::Skipped(format!("the unit was NOT BOOTED, the image was NOT BUILT: {why:#}")),
    });
    let Some(room) = room else { return };
    let mut packed = None;
    totals.case("dist: a file system to boot and to build on", || match tree::packed(workspace) {
        Ok(path) => {
            packed = Some(path);
            Outcome::Passed
        }
        Err(error) => Outcome::Failed(format!("{error:#}")),
    });
    if let Some(packed) = packed {
        image::cases(workspace, &room, program, &packed, totals);
        service::cases(workspace, &room, program, &packed, totals);
    }
}
