//! The units and the user, as far as systemd's own tools can judge them without a systemd that runs.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Result, ensure};

use crate::{
    report::{Outcome, Totals},
    workspace::{capture, show, which},
};

/// The exposure that `systemd-analyze security` may find at most, in tenths: below 2.0 of 10.
const EXPOSURE: &str = "20";

/// Their cases.
pub(super) fn cases(dist: &Path, program: &Path, totals: &mut Totals) {
    totals.case("dist: every option of the units says why", || reasons(dist).into());
    totals.case("dist: systemd-analyze verify", || with_units(dist, program, verify));
    totals.case("dist: systemd-analyze security", || with_units(dist, program, security));
    totals.case("dist: systemd-sysusers", || sysusers(dist));
}

/// An option without a reason is one that nobody dares to change.
fn reasons(dist: &Path) -> Result<()> {
    let mut faults = Vec::new();
    for name in ["wsstream.service", "wsstream.socket"] {
        let text = fs::read_to_string(dist.join("systemd").join(name))?;
        let (mut section, mut explained, mut seen) = ("", false, 0);
        for line in text.lines() {
            if let Some(header) = line.strip_prefix('[') {
                section = header.trim_end_matches(']');
            } else if matches!(section, "Service" | "Socket") && line.contains('=') && !line.starts_with('#')
            {
                seen += 1;
                if !explained {
                    faults.push(format!("{name}: {line}"));
                }
            }
            explained = line.starts_with("# ");
        }
        ensure!(seen > 2, "{name} has no options");
    }
    ensure!(faults.is_empty(), "without a comment above:\n{}", faults.join("\n"));
    Ok(())
}

/// Copies the units to where the program they name is the one that was built: `verify` looks for it.
fn with_units(dist: &Path, program: &Path, check: fn(&Path) -> Outcome) -> Outcome {
    if which("systemd-analyze").is_none() {
        // Not installed for this alone, in CI either: it would bring the whole of systemd.
        return Outcome::Skipped("there is no systemd-analyze: the units were NOT CHECKED".into());
    }
    let copied = || -> Result<_> {
        let folder = tempfile::tempdir()?;
        for name in ["wsstream.service", "wsstream.socket"] {
            let text = fs::read_to_string(dist.join("systemd").join(name))?;
            let text = text.replace("/usr/local/bin/wsstream", &program.to_string_lossy());
            fs::write(folder.path().join(name), text)?;
        }
        Ok(folder)
    };
    match copied() {
        Ok(folder) => check(folder.path()),
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

fn verify(folder: &Path) -> Outcome {
    let mut command = Command::new("systemd-analyze");
    command.args(["verify", "--man=no"]);
    command.args(["wsstream.service", "wsstream.socket"].map(|name| folder.join(name)));
    // It warns about much that it ends well with.
    match command.stdin(Stdio::null()).output() {
        Err(error) => Outcome::Failed(format!("cannot run systemd-analyze: {error}")),
        Ok(output) if output.status.success() && output.stderr.is_empty() => Outcome::Passed,
        Ok(output) => Outcome::Failed(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

fn security(folder: &Path) -> Outcome {
    let mut command = Command::new("systemd-analyze");
    command.args(["security", "--no-pager", "--offline=true", "--threshold", EXPOSURE]);
    match capture(command.arg(folder.join("wsstream.service"))) {
        Ok(table) => {
            println!("{}", table.lines().last().unwrap_or_default());
            Outcome::Passed
        }
        Err(error) => Outcome::Failed(format!("{error:#}")),
    }
}

fn sysusers(dist: &Path) -> Outcome {
    if which("systemd-sysusers").is_none() {
        return Outcome::Skipped("there is no systemd-sysusers: the user was NOT CHECKED".into());
    }
    let mut command = Command::new("systemd-sysusers");
    show(command.arg("--dry-run").arg(dist.join("systemd/wsstream.sysusers")))
}
