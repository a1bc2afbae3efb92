//! A page whose commands are run as written: one that stopped working is a broken promise.
//!
//! The fenced blocks whose info string is `sh tour` are run in order in one shell, with the release build of `wsstream` first
//! in `PATH`, a fresh `HOME` and nothing of the developer's own kubeconfig. A comment `#=> text` says that the output since
//! the one before contains that text.

use std::{env, fmt::Write as _, fs, process::Stdio, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::Command;

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, show},
};

/// The cases of a page: the program is built, and if it could be, `page` is typed.
pub fn cases(
    workspace: &Workspace,
    totals: &mut Totals,
    name: &str,
    what: &str,
    page: impl FnOnce() -> Result<()>,
) {
    let mut built = Outcome::Passed;
    totals.case(&format!("{name}: build"), || {
        built = show(&mut workspace.cargo(&["build", "--release", "--package", "wsstream-cli"]));
        built.clone()
    });
    if built == Outcome::Passed {
        totals.case(&format!("{name}: {what}"), || page().into());
    }
}

/// Runs the commands of a page, which has `limit` for all of them, with these variables besides.
pub fn run(workspace: &Workspace, page: &str, limit: Duration, variables: &[(&str, String)]) -> Result<()> {
    let text = fs::read_to_string(workspace.root.join(page)).with_context(|| page.to_owned())?;
    let steps = steps(&text);
    ensure!(!steps.is_empty(), "{page} has no fenced block marked `sh tour`");
    let folder = tempfile::tempdir()?;
    let output = folder.path().join("step");
    let transcript = folder.path().join("transcript");
    let script = script(&steps, &output.to_string_lossy());
    let mut path = vec![workspace.target.join("release")];
    path.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    let log = fs::File::create(&transcript)?;
    let mut shell = Command::new("bash");
    shell
        .args(["-euo", "pipefail", "-c", &script])
        .current_dir(&workspace.root)
        .env("PATH", env::join_paths(path)?)
        .env("HOME", folder.path())
        .env("CARGO_HOME", cargo_home())
        .env("RUSTUP_HOME", rustup_home())
        .env_remove("KUBECONFIG")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        // A group of its own: what the tour left in the background ends with it.
        .process_group(0);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let _entered = runtime.enter();
    let mut child = shell.spawn().context("cannot run bash")?;
    let group = child.id();
    let waited = runtime.block_on(async { tokio::time::timeout(limit, child.wait()).await });
    if let Some(group) = group.and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) {
        // Already gone when the tour cleaned up after itself.
        let _ = kill_process_group(group, Signal::TERM);
    }
    match waited {
        Ok(Ok(status)) if status.success() => Ok(()),
        Ok(status) => bail!("the tour ended with {status:?}:\n{}", fs::read_to_string(&transcript)?),
        Err(_) => {
            bail!("the tour is not done after {} s:\n{}", limit.as_secs(), fs::read_to_string(&transcript)?)
        }
    }
}

fn cargo_home() -> std::ffi::OsString {
    home("CARGO_HOME", ".cargo")
}

fn rustup_home() -> std::ffi::OsString {
    home("RUSTUP_HOME", ".rustup")
}

/// The toolchain stays where it is although the tour's HOME is fresh.
fn home(variable: &str, folder: &str) -> std::ffi::OsString {
    env::var_os(variable).unwrap_or_else(|| {
        let mut path = std::path::PathBuf::from(env::var_os("HOME").unwrap_or_default());
        path.push(folder);
        path.into()
    })
}

/// Commands, and what their output must contain.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    commands: String,
    expect: Option<String>,
}

fn steps(readme: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut inside = false;
    let mut commands = String::new();
    for line in readme.lines() {
        if let Some(info) = line.trim_start().strip_prefix("```") {
            inside = !inside && info.split_whitespace().eq(["sh", "tour"]);
        } else if inside {
            if let Some(text) = line.trim_start().strip_prefix("#=>") {
                steps.push(Step {
                    commands: std::mem::take(&mut commands),
                    expect: Some(text.trim().to_owned()),
                });
            } else {
                commands.push_str(line);
                commands.push('\n');
            }
        }
    }
    if !commands.trim().is_empty() {
        steps.push(Step { commands, expect: None });
    }
    steps
}

/// One shell for all steps, so that variables and background jobs live on; each step's output goes to a file.
fn script(steps: &[Step], output: &str) -> String {
    // A step that fails ends the shell inside its group: show what it said until then.
    let mut script = String::from("trap '[ $? = 0 ] || cat \"$out\"' EXIT\n");
    for (number, step) in steps.iter().enumerate() {
        let _ = writeln!(
            script,
            "out='{output}-{number}'\n{{\n{}\n}} >\"$out\" 2>&1\ncat \"$out\"",
            step.commands
        );
        if let Some(expect) = &step.expect {
            let quoted = expect.replace('\'', "'\\''");
            let _ = writeln!(
                script,
                "grep -qF -- '{quoted}' \"$out\" || {{ echo 'expected:' '{quoted}'; exit 1; }}"
            );
        }
    }
    script
}

#[cfg(test)]
mod tests {
    use super::*;

    const README: &str = "# x\n```sh\nnot this\n```\n```sh tour\na=1\necho one $a\n#=> one 1\n```\ntext\n```sh tour\necho two\n```\n";

    #[test]
    fn only_marked_blocks_are_steps() {
        assert_eq!(
            steps(README),
            [
                Step { commands: "a=1\necho one $a\n".into(), expect: Some("one 1".into()) },
                Step { commands: "echo two\n".into(), expect: None },
            ]
        );
    }

    fn bash(readme: &str) -> std::process::Output {
        let folder = tempfile::tempdir().unwrap();
        let script = script(&steps(readme), &folder.path().join("out").to_string_lossy());
        std::process::Command::new("bash").args(["-euo", "pipefail", "-c", &script]).output().unwrap()
    }

    #[test]
    fn a_step_that_fails_or_says_something_else_fails_the_tour() {
        assert!(bash(README).status.success());
        assert!(!bash(&README.replace("#=> one 1", "#=> one 2")).status.success());
        let failing = bash("```sh tour\necho before\nfalse\necho after\n```\n");
        assert!(!failing.status.success(), "{failing:?}");
    }
}
