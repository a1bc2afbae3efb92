//! `cargo xtask bench`: builds the program, the bench and Go's peers, and runs the bench.

use std::{
    path::PathBuf,
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    report::{Outcome, exit_code},
    workspace::{Workspace, show, which},
};

/// `cargo xtask bench`. All arguments are the bench's own: bench/ is a workspace of its own, which knows its sections.
#[derive(Debug, Clone, clap::Args)]
#[command(disable_help_flag = true)]
pub struct Args {
    /// As `cargo xtask bench --help` says
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    args: Vec<String>,
}

impl Args {
    /// Runs it; its exit status is ours.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        exit_code(Workspace::find().and_then(|workspace| self.bench(&workspace)))
    }

    fn bench(&self, workspace: &Workspace) -> Result<bool> {
        let program = build(workspace)?;
        let status = Command::new(&program)
            .arg("--root")
            .arg(&workspace.root)
            .args(&self.args)
            .status()
            .with_context(|| format!("cannot run {}", program.display()))?;
        Ok(status.success())
    }
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    for args in [
        &["build", "--release", "--quiet", "--package", "wsstream-cli", "--bin", "wsstream"][..],
        &["build", "--release", "--quiet", "--manifest-path", "bench/Cargo.toml"],
        &[
            "build",
            "--release",
            "--quiet",
            "--manifest-path",
            "bench/kube-rs/Cargo.toml",
            "--target-dir",
            "bench/target",
        ],
    ] {
        match show(&mut workspace.cargo(args)) {
            Outcome::Passed => {}
            Outcome::Failed(why) | Outcome::Skipped(why) => bail!(why),
        }
    }
    let Some(go) = which("go") else {
        println!("no Go: its servers are not measured");
        return Ok(workspace.root.join("bench/target/release/bench"));
    };
    let folder = workspace.root.join("bench/target/go/");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let built = show(
        Command::new(go)
            .args(["build", "-trimpath", "-mod=readonly", "-ldflags", "-s -w", "-o"])
            .arg(&folder)
            .args(["./server", "./client"])
            .current_dir(workspace.root.join("bench/go"))
            // The toolchain that is there: another would have to be downloaded.
            .env("GOTOOLCHAIN", "local")
            .env("CGO_ENABLED", "0"),
    );
    match built {
        Outcome::Passed => Ok(workspace.root.join("bench/target/release/bench")),
        Outcome::Failed(why) | Outcome::Skipped(why) => bail!(why),
    }
}
