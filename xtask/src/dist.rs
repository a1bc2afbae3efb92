//! What is in `dist` and the Containerfile: units, users, the sample configuration. They are installed by hand on machines that
//! run no test, so they are checked here as far as the tools of this machine reach.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, show, which},
};

/// The exposure that `systemd-analyze security` may find at most, in tenths: below 2.0 of 10.
const EXPOSURE: &str = "20";

/// The instructions of a Containerfile that ours may use.
const INSTRUCTIONS: [&str; 11] =
    ["ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"];

/// `cargo xtask dist`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    let built = show(&mut workspace.cargo(&["build", "--package", "wsstream-cli"]));
    totals.case("dist: build", || built.clone());
    let program = workspace.target.join("debug/wsstream");
    let dist = workspace.root.join("dist");
    totals.case("dist: every option of the units says why", || reasons(&dist).into());
    totals.case("dist: systemd-analyze verify", || with_units(&dist, &program, verify));
    totals.case("dist: systemd-analyze security", || with_units(&dist, &program, security));
    totals.case("dist: systemd-sysusers", || sysusers(&dist));
    totals.case("dist: the sample configuration", || {
        let mut command = Command::new(&program);
        command.args(["serve", "--check-config", "--config"]).arg(dist.join("wsstream.toml"));
        // The one that it names is in a directory that the unit makes.
        show(command.arg("--kubeconfig").arg(workspace.target.join("kubeconfig")))
    });
    totals.case("dist: the Containerfile is well formed", || container(workspace).into());
    totals.case("dist: the image builds", || image(workspace));
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

/// What a build would say first, for machines that cannot build.
fn container(workspace: &Workspace) -> Result<()> {
    let text = fs::read_to_string(workspace.root.join("Containerfile")).context("Containerfile")?;
    let mut last = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        ensure!(INSTRUCTIONS.contains(&word), "not an instruction that we use: {line}");
        if word == "FROM" {
            last.clear();
        }
        if word == "ARG" {
            ensure!(rest.contains('='), "without a default it has to be typed at each build: {line}");
        }
        last.push((word, rest));
    }
    let stage = |word: &str| last.iter().find(|(found, _)| *found == word).map(|(_, rest)| *rest);
    let user = stage("USER").context("no USER: the image would run as root")?;
    let uid: u32 = user.split(':').next().unwrap_or_default().parse().context("USER is not a number")?;
    ensure!(uid > 0, "USER is root");
    for word in ["ENTRYPOINT", "CMD"] {
        let words: Vec<String> = serde_json::from_str(stage(word).context("no ENTRYPOINT or CMD")?)
            .with_context(|| format!("{word} is not a list in JSON: a shell would be between"))?;
        ensure!(!words.is_empty(), "{word} is empty");
    }
    let ignore = fs::read_to_string(workspace.root.join(".containerignore")).context(".containerignore")?;
    for name in ignore.lines().filter_map(|line| line.strip_prefix('!')) {
        ensure!(workspace.root.join(name).exists(), ".containerignore names {name}, which is not there");
    }
    Ok(())
}

fn image(workspace: &Workspace) -> Outcome {
    let works = |tool: &str| {
        which(tool).is_some()
            && Command::new(tool)
                .arg("info")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success())
    };
    match ["podman", "docker"].into_iter().find(|tool| works(tool)) {
        None => Outcome::Skipped("neither podman nor a docker that runs: the image was NOT BUILT".into()),
        Some(tool) => {
            let mut command = Command::new(tool);
            show(command.args(["build", "--file", "Containerfile", "."]).current_dir(&workspace.root))
        }
    }
}
