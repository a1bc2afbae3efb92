//! `cargo xtask counts`: how many instructions the hot paths take, against the counts that are recorded.
//!
//! Seconds depend on the machine and on who else uses it; instructions are the same on every run, to a fraction of a
//! percent. So a regression that is far below what a clock can see on a busy machine fails here, in CI.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, show, which},
};

/// The file of the recorded counts, from the root.
const RECORD: &str = "bench/counts/counts.json";

/// More than this many times the recorded count is a regression.
const BAR: f64 = 1.10;

/// Less than this many times the recorded count: the record is out of date, and would hide a regression back to it.
const STALE: f64 = 0.90;

/// glibc copies with what the processor has. Without these it copies in the same way everywhere; and callgrind takes
/// `rep movsb` for an instruction a byte, beside which nothing else would be seen.
const PLAIN_COPIES: &str = "glibc.cpu.hwcaps=-ERMS,-FSRM,-AVX2,-AVX_Fast_Unaligned_Load,-AVX512F,-AVX512VL";

/// `cargo xtask counts`.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Args {
    /// Only this case; may be repeated
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// Write the counts down instead of comparing them
    #[arg(long)]
    record: bool,
}

/// One hot path, as the program lists it.
#[derive(Debug, PartialEq, Eq)]
struct Case {
    name: String,
    rounds: u32,
    what: String,
}

impl Args {
    /// Runs it; the last line has the totals, and the exit status is 1 at a regression.
    #[must_use]
    pub fn run(&self) -> ExitCode {
        let mut totals = Totals::default();
        if let Err(error) = Workspace::find().and_then(|workspace| self.cases(&workspace, &mut totals)) {
            eprintln!("error: {error:#}");
            totals.failed += 1;
        }
        println!("{totals}");
        if totals.failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Counts each case and compares or records it.
    ///
    /// # Errors
    ///
    /// The program cannot be built, or `--only` names no case.
    pub fn cases(&self, workspace: &Workspace, totals: &mut Totals) -> Result<()> {
        let Some(valgrind) = which("valgrind") else {
            totals.case("counts", || Outcome::missing("there is no valgrind (a package of that name)"));
            return Ok(());
        };
        let here = Place::find(&valgrind)?;
        println!("{here}");
        let record = workspace.root.join(RECORD);
        let known = if self.record { Record::default() } else { Record::read(&record)? };
        if !self.record && !known.place.is_comparable(&here) {
            let why =
                format!("the counts are recorded on {}, and this is {}", known.place.target, here.target);
            totals.case("counts", || Outcome::Skipped(why));
            return Ok(());
        }
        if !self.record && known.place != here {
            println!("recorded by other tools, which count a little otherwise: {}", known.place);
        }
        let program = build(workspace)?;
        let cases = list(&capture(Command::new(&program).arg("--list"))?)?;
        if let Some(unknown) = self.only.iter().find(|only| cases.iter().all(|case| case.name != **only)) {
            bail!("there is no case {unknown}");
        }
        let mut fresh = BTreeMap::new();
        for case in cases.iter().filter(|case| self.only.is_empty() || self.only.contains(&case.name)) {
            totals.case(&format!("counts: {}", case.name), || match measure(&valgrind, &program, case) {
                Ok(count) => {
                    fresh.insert(case.name.clone(), count);
                    if self.record {
                        println!("{count} instructions: {}", case.what);
                        return Outcome::Passed;
                    }
                    judge(case, count, known.counts.get(&case.name).copied())
                }
                Err(error) => Outcome::Failed(format!("{error:#}")),
            });
        }
        if self.record && totals.failed == 0 {
            ensure!(self.only.is_empty(), "all cases are recorded together: leave --only out");
            Record { place: here, counts: fresh }.write(&record)?;
            println!("wrote {RECORD}");
        }
        Ok(())
    }
}

fn judge(case: &Case, count: u64, recorded: Option<u64>) -> Outcome {
    let Some(recorded) = recorded else {
        return Outcome::Failed(format!("{RECORD} does not have it: cargo xtask counts --record"));
    };
    let ratio = count as f64 / recorded as f64;
    println!("{count} instructions, {recorded} recorded, {ratio:.3} x: {}", case.what);
    if ratio > BAR {
        return Outcome::Failed(format!(
            "{ratio:.3} x the recorded count, and {BAR:.2} x is the bar. What takes them: callgrind_annotate \
             bench/target/counts/{}.callgrind. Where it is worth it: cargo xtask counts --record, and say why",
            case.name
        ));
    }
    if ratio < STALE {
        return Outcome::Failed(format!(
            "better than recorded, {ratio:.2} x: `cargo xtask counts --record`, so that it stays so"
        ));
    }
    Outcome::Passed
}

fn build(workspace: &Workspace) -> Result<PathBuf> {
    let mut cargo = workspace.cargo(&["build", "--release", "--quiet", "--package", "wsstream-counts"]);
    match show(cargo.args(["--manifest-path", "bench/Cargo.toml"])) {
        Outcome::Passed => {}
        Outcome::Failed(why) | Outcome::Skipped(why) => bail!(why),
    }
    fs::create_dir_all(workspace.root.join("bench/target/counts"))?;
    Ok(workspace.root.join("bench/target/release/wsstream-counts"))
}

/// Instructions of one round: what twice the rounds take more, so that the start of the program is not in it.
fn measure(valgrind: &Path, program: &Path, case: &Case) -> Result<u64> {
    let profile = program.with_file_name("../counts").join(format!("{}.callgrind", case.name));
    let run = |rounds: u32| -> Result<u64> {
        let output = Command::new(valgrind)
            .args(["--tool=callgrind", &format!("--callgrind-out-file={}", profile.display())])
            .arg(program)
            .args([&case.name, &rounds.to_string()])
            // Nothing that a person may have set reaches the program: each variable lies on its stack.
            .env_clear()
            .env("GLIBC_TUNABLES", PLAIN_COPIES)
            .stdin(Stdio::null())
            .output()?;
        let log = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{} ended with {}:\n{log}", case.name, output.status);
        collected(&log).with_context(|| format!("callgrind told no count:\n{log}"))
    };
    let (once, twice) = (run(case.rounds)?, run(2 * case.rounds)?);
    Ok(twice.saturating_sub(once) / u64::from(case.rounds))
}

/// What callgrind says at its end: `==123== Collected : 4567`.
fn collected(log: &str) -> Option<u64> {
    let line = log.lines().find_map(|line| line.split_once("Collected :"))?;
    line.1.trim().parse().ok()
}

fn list(text: &str) -> Result<Vec<Case>> {
    let case = |line: &str| {
        let mut parts = line.split('\t').map(str::to_owned);
        let (name, rounds, what) = (parts.next()?, parts.next()?.parse().ok()?, parts.next()?);
        Some(Case { name, rounds, what })
    };
    text.lines().map(|line| case(line).with_context(|| format!("not a case: {line:?}"))).collect()
}

/// What counts depend on besides the code.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Place {
    target: String,
    rustc: String,
    valgrind: String,
}

impl Place {
    fn find(valgrind: &Path) -> Result<Self> {
        let version = capture(Command::new("rustc").arg("-vV"))?;
        let host = version.lines().find_map(|line| line.strip_prefix("host: "));
        Ok(Self {
            target: host.context("rustc tells no host")?.to_owned(),
            rustc: version.lines().next().unwrap_or_default().to_owned(),
            valgrind: capture(Command::new(valgrind).arg("--version"))?.trim().to_owned(),
        })
    }

    /// Another compiler moves counts by a few percent, other instructions by more than the bar.
    fn is_comparable(&self, other: &Self) -> bool {
        self.target == other.target
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}, {}, {}", self.target, self.rustc, self.valgrind)
    }
}

/// The recorded counts, and where they are from.
#[derive(Debug, Default, PartialEq, Eq)]
struct Record {
    place: Place,
    counts: BTreeMap<String, u64>,
}

impl Record {
    fn read(file: &Path) -> Result<Self> {
        let text = fs::read_to_string(file)
            .with_context(|| format!("cannot read {RECORD}: cargo xtask counts --record"))?;
        Self::parse(&text).with_context(|| format!("{RECORD} is not what --record writes"))
    }

    fn parse(text: &str) -> Result<Self> {
        let value: Value = serde_json::from_str(text)?;
        let text = |key: &str| value[key].as_str().map(str::to_owned).context("a text is missing");
        let place = Place { target: text("target")?, rustc: text("rustc")?, valgrind: text("valgrind")? };
        let counts = value["instructions"].as_object().context("no instructions")?;
        let counts = counts.iter().map(|(name, count)| {
            Ok((name.clone(), count.as_u64().with_context(|| format!("{name} has no count"))?))
        });
        Ok(Self { place, counts: counts.collect::<Result<_>>()? })
    }

    fn write(&self, file: &Path) -> Result<()> {
        let Place { target, rustc, valgrind } = &self.place;
        let value =
            json!({ "target": target, "rustc": rustc, "valgrind": valgrind, "instructions": self.counts });
        fs::write(file, format!("{value:#}\n")).with_context(|| format!("cannot write {}", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str) -> Case {
        Case { name: name.to_owned(), rounds: 10, what: "what".to_owned() }
    }

    #[test]
    fn the_count_is_read_from_the_log() {
        assert_eq!(collected("==7== Events    : Ir\n==7== Collected : 123456\n==7== \n"), Some(123_456));
        assert_eq!(collected("==7== nothing\n"), None);
    }

    #[test]
    fn the_list_is_read_and_anything_else_is_not() {
        assert_eq!(list("a\t10\twhat\n").unwrap(), [case("a")]);
        list("a\tmany\twhat\n").unwrap_err();
    }

    #[test]
    fn more_than_a_tenth_beside_the_record_fails() {
        assert_eq!(judge(&case("a"), 1100, Some(1000)), Outcome::Passed);
        assert!(matches!(judge(&case("a"), 1101, Some(1000)), Outcome::Failed(_)));
        assert_eq!(judge(&case("a"), 900, Some(1000)), Outcome::Passed);
        assert!(matches!(judge(&case("a"), 899, Some(1000)), Outcome::Failed(_)));
        assert!(matches!(judge(&case("a"), 10, None), Outcome::Failed(_)));
    }

    #[test]
    fn a_record_is_read_as_it_was_written() {
        let place = Place { target: "t".into(), rustc: "r".into(), valgrind: "v".into() };
        let record = Record { place, counts: BTreeMap::from([("a".to_owned(), 7)]) };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("counts.json");
        record.write(&file).unwrap();
        assert_eq!(Record::read(&file).unwrap(), record);
    }
}
