//! Where a run took place, as far as it explains figures.

use std::collections::BTreeMap;
use std::process::Command;

/// Processor, kernel and compilers.
#[must_use]
pub fn machine() -> BTreeMap<String, String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
    let said = |program: &str, words: &[&str]| {
        let output = Command::new(program).args(words).output().ok();
        let text = output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
        text.filter(|text| !text.is_empty()).unwrap_or_else(|| "none".into())
    };
    [
        ("processor", format!("{}, {cores} cores", model.map_or("unknown", |(_, name)| name.trim()))),
        ("kernel", read("/proc/sys/kernel/osrelease").trim().to_owned()),
        ("compilers", format!("{}, {}", said("rustc", &["--version"]), said("go", &["version"]))),
    ]
    .map(|(name, text)| (name.to_owned(), text))
    .into()
}
