//! `cargo xtask fuzz`: every target of fuzz/ under a coverage-guided fuzzer, for an equal share of the time.
//!
//! The committed corpora are only read. What a run finds goes to fuzz/target/corpus, from which the next run goes on;
//! `--keep` makes small corpora to commit from it, and a test of `wsstream-testing` replays those on the stable
//! toolchain.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::{
    miri::nightly,
    report::{Outcome, Totals},
    workspace::{Workspace, capture, show},
};

/// An input that takes longer, in seconds, counts as a hang.
const HANGS: u32 = 20;

/// The longest input that is tried, and kept: what a body decides from 1 KiB is a long story already.
const MAX_LEN: u32 = 1024;

/// The longest input that goes into a committed corpus. Longer ones say little more, and review and replay cost.
const MAX_KEPT_LEN: u32 = 512;

/// `cargo xtask fuzz`.
#[derive(Debug, Clone, clap::Args)]
pub struct Args {
    /// How long all targets together are run, without the build
    #[arg(long, default_value_t = 8.0)]
    minutes: f64,
    /// Only this target; may be repeated
    #[arg(long, value_name = "TARGET")]
    only: Vec<String>,
    /// `none`, or a sanitizer that cargo-fuzz knows. The code under test is without `unsafe`
    #[arg(long, default_value = "none")]
    sanitizer: String,
    /// Afterwards, write a small set of inputs that reaches all code that was reached to fuzz/corpus
    #[arg(long)]
    keep: bool,
}

/// What one run of a target gave.
#[derive(Debug, Default, PartialEq, Eq)]
struct Findings {
    executions: u64,
    /// Where the input lies that broke the property.
    crash: Option<String>,
}

impl Args {
    /// All targets for a few minutes.
    #[must_use]
    pub fn for_minutes(minutes: f64) -> Self {
        Self { minutes, only: Vec::new(), sanitizer: "none".to_owned(), keep: false }
    }

    /// Runs it; the last line has the totals, and the exit status is 1 at a crash.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let mut totals = Totals::default();
        let result = Workspace::find().and_then(|workspace| self.cases(&workspace, &mut totals));
        let executions = result.unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            totals.failed += 1;
            0
        });
        println!("{totals}; {executions} executions");
        if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// One case for each target; returns how often all of them were executed.
    ///
    /// # Errors
    ///
    /// The manifest of fuzz/ cannot be read, or `--only` names no target.
    pub fn cases(&self, workspace: &Workspace, totals: &mut Totals) -> Result<u64> {
        let fuzz = workspace.root.join("fuzz");
        let targets = targets(&fs::read_to_string(fuzz.join("Cargo.toml"))?)?;
        if let Some(unknown) = self.only.iter().find(|only| !targets.contains(only)) {
            bail!("there is no target {unknown}; there are {}", targets.join(", "));
        }
        let chosen: Vec<_> =
            targets.iter().filter(|target| self.only.is_empty() || self.only.contains(target)).collect();
        let Ok(version) = capture(nightly(&["fuzz", "--version"]).stderr(Stdio::null())) else {
            let missing = "needs rustup's nightly toolchain and cargo-fuzz: rustup toolchain install nightly; \
                           cargo install cargo-fuzz";
            totals.case("fuzz: all targets", || Outcome::missing(missing));
            return Ok(0);
        };
        println!("{}, sanitizer: {}", version.trim(), self.sanitizer);
        let built = show(&mut self.cargo_fuzz(&fuzz, "build"));
        if built != Outcome::Passed {
            totals.case("fuzz: build", || built);
            return Ok(0);
        }
        let seconds = (self.minutes * 60.0 / chosen.len() as f64).ceil();
        let mut all = 0;
        for target in chosen {
            totals.case(&format!("fuzz: {target}"), || match self.target(&fuzz, target, seconds) {
                Ok(Findings { executions, crash }) => {
                    all += executions;
                    println!("{target}: {executions} executions");
                    crash.map_or(Outcome::Passed, Outcome::Failed)
                }
                Err(error) => Outcome::Failed(format!("{error:#}")),
            });
        }
        Ok(all)
    }

    fn target(&self, fuzz: &Path, target: &str, seconds: f64) -> Result<Findings> {
        let place = Corpora::of(fuzz, target)?;
        let mut command = self.cargo_fuzz(fuzz, "run");
        command.arg(target).arg(&place.found).arg(&place.kept).arg("--");
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={HANGS}"),
            format!("-max_len={MAX_LEN}"),
            "-print_final_stats=1".to_owned(),
        ]);
        let log = fuzz.join("target").join(format!("{target}.log"));
        // To a file and not through a pipe: a fuzzer writes much, and all of it is wanted after a crash.
        let status = command.stdout(Stdio::null()).stderr(File::create(&log)?).status()?;
        let text = String::from_utf8_lossy(&fs::read(&log)?).into_owned();
        let mut findings = findings(&text);
        if !status.success() && findings.crash.is_none() {
            findings.crash = Some(format!("ended with {status}; see {}", log.display()));
        }
        if self.keep && findings.crash.is_none() {
            self.shrink(fuzz, target, &place)?;
        }
        Ok(findings)
    }

    /// Writes the committed corpus anew: a small set of inputs that reaches all code that all known ones reach.
    fn shrink(&self, fuzz: &Path, target: &str, place: &Corpora) -> Result<()> {
        let fresh = fuzz.join("target/corpus").join(format!("{target}.fresh"));
        let _ = fs::remove_dir_all(&fresh);
        fs::create_dir_all(&fresh)?;
        let mut command = self.cargo_fuzz(fuzz, "run");
        command.arg(target).arg(&fresh).arg(&place.found).arg(&place.kept);
        // Without counters: which places are reached, not how often. That is a tenth of the bytes.
        command.args(["--", "-set_cover_merge=1", "-use_counters=0", &format!("-max_len={MAX_KEPT_LEN}")]);
        let status = command.stdout(Stdio::null()).stderr(Stdio::null()).status()?;
        if !status.success() {
            bail!("the merge of {target} ended with {status}");
        }
        fs::remove_dir_all(&place.kept)?;
        fs::rename(&fresh, &place.kept)?;
        Ok(())
    }

    fn cargo_fuzz(&self, fuzz: &Path, verb: &str) -> Command {
        let mut command = nightly(&["fuzz", verb, "--sanitizer", &self.sanitizer]);
        command.current_dir(fuzz).stdin(Stdio::null());
        command
    }
}

/// Where the inputs of a target lie.
struct Corpora {
    /// Committed.
    kept: PathBuf,
    /// Found by earlier runs, and not committed.
    found: PathBuf,
}

impl Corpora {
    fn of(fuzz: &Path, target: &str) -> Result<Self> {
        let place =
            Self { kept: fuzz.join("corpus").join(target), found: fuzz.join("target/corpus").join(target) };
        for folder in [&place.kept, &place.found] {
            fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        }
        Ok(place)
    }
}

/// The targets that the manifest names.
fn targets(manifest: &str) -> Result<Vec<String>> {
    let manifest: toml::Table = manifest.parse().context("fuzz/Cargo.toml")?;
    let bins = manifest.get("bin").and_then(toml::Value::as_array).context("no [[bin]]")?;
    let name = |bin: &toml::Value| bin.get("name")?.as_str().map(str::to_owned);
    bins.iter().map(|bin| name(bin).context("a [[bin]] without a name")).collect()
}

/// What libFuzzer wrote, in numbers.
fn findings(log: &str) -> Findings {
    let after = |line: &str, mark: &str| line.split_once(mark).map(|(_, rest)| rest.trim().to_owned());
    let executions = log
        .lines()
        .find_map(|line| after(line, "stat::number_of_executed_units:")?.parse().ok())
        .unwrap_or(0);
    let written = log.lines().find_map(|line| after(line, "Test unit written to "));
    let panic = log.lines().skip_while(|line| !line.contains("panicked at")).take(6);
    let crash = written.map(|path| format!("input: {path}\n{}", panic.collect::<Vec<_>>().join("\n")));
    Findings { executions, crash }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_come_from_the_manifest() {
        let manifest = "[package]\nname = \"f\"\n[[bin]]\nname = \"a\"\n[[bin]]\nname = \"b\"\n";
        assert_eq!(targets(manifest).unwrap(), ["a", "b"]);
        targets("[package]\nname = \"f\"\n").unwrap_err();
    }

    #[test]
    fn executions_and_the_crash_are_read_from_the_log() {
        let quiet = "#2\tINITED\nDone 9 runs in 1 second(s)\nstat::number_of_executed_units: 20000\n";
        assert_eq!(findings(quiet), Findings { executions: 20_000, crash: None });
        let loud = "thread '<unnamed>' panicked at a.rs:1:2:\nleft\nright\n\
                    artifact_prefix='/fuzz/artifacts/a/'; Test unit written to /fuzz/artifacts/a/crash-1\n\
                    stat::number_of_executed_units: 7\n";
        let Findings { executions, crash } = findings(loud);
        let crash = crash.unwrap();
        assert_eq!(executions, 7);
        assert!(crash.starts_with("input: /fuzz/artifacts/a/crash-1\nthread"), "{crash}");
        assert!(crash.contains("left\nright"), "{crash}");
    }
}
