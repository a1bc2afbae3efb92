//! How every command reports: one line per case, and totals that a script can read.

use std::{
    fmt,
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::workspace::in_ci;

/// What a command ends with: whether it is satisfied, or why it could not tell.
#[must_use]
pub fn exit_code(result: anyhow::Result<bool>) -> ExitCode {
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How one case ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It did what it should.
    Passed,
    /// It did not; the text is everything one needs to see why.
    Failed(String),
    /// It could not be tried here; the text says what is missing.
    Skipped(String),
}

impl Outcome {
    /// A tool that this machine lacks although it could be installed: a skip for a developer, a failure in CI,
    /// where a silent hole in the coverage would look like success.
    pub fn missing(what: impl Into<String>) -> Self {
        if in_ci() { Self::Failed(what.into()) } else { Self::Skipped(what.into()) }
    }

    /// The outcome of a check that names its faults.
    pub fn from_faults(faults: &[String]) -> Self {
        if faults.is_empty() { Self::Passed } else { Self::Failed(faults.join("\n")) }
    }
}

impl From<anyhow::Result<()>> for Outcome {
    fn from(result: anyhow::Result<()>) -> Self {
        match result {
            Ok(()) => Self::Passed,
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

/// The closing line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Cases that did what they should.
    pub passed: u32,
    /// Cases that did not.
    pub failed: u32,
    /// Cases that could not be tried here.
    pub skipped: u32,
}

impl Totals {
    /// Prints the line of one case and counts it.
    pub fn record(&mut self, name: &str, took: Duration, outcome: &Outcome) {
        let seconds = took.as_secs_f64();
        match outcome {
            Outcome::Passed => {
                self.passed += 1;
                println!("{name:<56} {seconds:>7.2}s ok");
            }
            Outcome::Failed(why) => {
                self.failed += 1;
                println!("{name:<56} {seconds:>7.2}s FAIL");
                for line in why.lines() {
                    println!("    {line}");
                }
            }
            Outcome::Skipped(why) => {
                self.skipped += 1;
                println!("{name:<56} {seconds:>7.2}s SKIP: {why}");
            }
        }
    }

    /// Runs one case, prints its line and counts it.
    pub fn case(&mut self, name: &str, body: impl FnOnce() -> Outcome) {
        let started = Instant::now();
        let outcome = body();
        self.record(name, started.elapsed(), &outcome);
    }
}

impl fmt::Display for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_closing_line_counts_each_kind() {
        let mut totals = Totals::default();
        totals.case("a", || Outcome::Passed);
        totals.case("b", || Outcome::Failed("because".into()));
        totals.case("c", || Outcome::Skipped("no tool".into()));
        totals.case("d", || Ok(()).into());
        assert_eq!(totals.to_string(), "2 passed, 1 failed, 1 skipped");
    }
}
