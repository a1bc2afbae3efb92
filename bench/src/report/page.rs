//! The page: prose by people, and between markers what a run found. No figure on it is typed by hand.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::{Findings, Results, number, plot};
use crate::bars::{BARS, Limit};

/// Writes `docs/performance.md` and its plots from the results.
///
/// # Errors
///
/// The page is not there, lacks a marker, or cannot be written.
pub fn write(root: &Path, results: &Results) -> Result<()> {
    let path = root.join("docs/performance.md");
    let mut page = std::fs::read_to_string(&path).with_context(|| format!("no {}", path.display()))?;
    let folder = root.join("docs/performance");
    std::fs::create_dir_all(&folder)?;
    fill(&mut page, "bars", &bars(results))?;
    fill(&mut page, "machine", &machine(results))?;
    for (name, findings) in &results.sections {
        for (at, chart) in findings.charts.iter().enumerate() {
            std::fs::write(folder.join(file(name, at)), plot::svg(chart))?;
        }
        fill(&mut page, name, &section(name, findings))?;
    }
    std::fs::write(&path, page).with_context(|| format!("cannot write {}", path.display()))
}

fn file(section: &str, at: usize) -> String {
    if at == 0 { format!("{section}.svg") } else { format!("{section}-{at}.svg") }
}

/// Puts text between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->`.
fn fill(page: &mut String, name: &str, text: &str) -> Result<()> {
    let (open, close) = (format!("<!-- bench:{name} -->"), format!("<!-- /bench:{name} -->"));
    let from = page.find(&open).with_context(|| format!("the page has no {open}"))? + open.len();
    let to = page[from..].find(&close).with_context(|| format!("the page has no {close}"))? + from;
    page.replace_range(from..to, &format!("\n{text}"));
    Ok(())
}

fn machine(results: &Results) -> String {
    let list = results.machine.iter().map(|(name, text)| format!("{name}: {text}"));
    format!("{}.\n", list.collect::<Vec<_>>().join("; "))
}

/// Every bar with what was measured, or nothing.
fn bars(results: &Results) -> String {
    let mut text = String::from("| bar | limit | measured | quartiles | |\n|---|---|---|---|---|\n");
    for bar in BARS {
        let (side, limit) = match bar.limit {
            Limit::AtMost(limit) => ("≤", limit),
            Limit::AtLeast(limit) => ("≥", limit),
        };
        let limit = format!("{side} {} {}", number(limit), bar.unit);
        let measured = results.sections.values().flat_map(|section| &section.verdicts);
        let line = match measured.into_iter().find(|verdict| verdict.id == bar.id) {
            Some(verdict) => {
                let (figure, kept) = (verdict.figure, if verdict.kept() { "kept" } else { "**missed**" });
                let value = format!("{} {}", number(figure.value), bar.unit);
                let spread = format!("{} to {}", number(figure.low), number(figure.high));
                format!("| {} | {limit} | {value} | {spread} | {kept} |", bar.what)
            }
            None => format!("| {} | {limit} | | | not measured |", bar.what),
        };
        // Writing to a String does not fail.
        let _ = writeln!(text, "{line}");
    }
    text
}

fn section(name: &str, findings: &Findings) -> String {
    let mut text = String::new();
    let quick = if findings.quick { ", quick" } else { "" };
    let _ = if findings.values.is_empty() {
        // Nothing that has a spread was kept.
        writeln!(text, "Measured once{quick}: bytes and calls that are counted, not times.\n")
    } else {
        writeln!(text, "Medians of {} interleaved runs{quick}; in brackets the quartiles.\n", findings.runs)
    };
    for (at, chart) in findings.charts.iter().enumerate() {
        let _ = writeln!(text, "![{}](performance/{})\n", chart.title, file(name, at));
    }
    for table in &findings.tables {
        let _ = writeln!(text, "{}\n", table.title);
        for (at, line) in table.lines().enumerate() {
            let _ = writeln!(text, "| {} |", line.join(" | "));
            if at == 0 {
                let _ = writeln!(text, "|{}", "---|".repeat(line.len()));
            }
        }
        text.push('\n');
        if !table.note.is_empty() {
            let _ = writeln!(text, "{}.\n", table.note);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::fill;

    #[test]
    fn what_stands_between_markers_is_replaced_and_nothing_else() {
        let mut page = "a\n<!-- bench:x -->\nold\n<!-- /bench:x -->\nb".to_owned();
        fill(&mut page, "x", "new\n").unwrap();
        assert_eq!(page, "a\n<!-- bench:x -->\nnew\n<!-- /bench:x -->\nb");
        fill(&mut page, "y", "").unwrap_err();
    }
}
