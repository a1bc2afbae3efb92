//! What a run found: on the terminal, as JSON, and on the page.

mod machine;
mod page;
mod plot;
mod results;

pub use machine::machine;
pub use page::write;
pub use results::{Chart, Findings, Results, Table, cell};

use crate::bars::{Limit, Verdict};

/// Shows a section on the terminal.
pub fn print(findings: &Findings) {
    for table in &findings.tables {
        println!("\n{}", table.title);
        let widths: Vec<usize> = (0..table.columns.len())
            .map(|at| table.lines().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max())
            .map(Option::unwrap_or_default)
            .collect();
        for line in table.lines() {
            let cells = line.iter().zip(&widths).enumerate().map(|(at, (cell, &width))| {
                if at == 0 { format!("{cell:width$}") } else { format!("{cell:>width$}") }
            });
            println!("  {}", cells.collect::<Vec<_>>().join("  "));
        }
        if !table.note.is_empty() {
            println!("  ({})", table.note);
        }
    }
    println!();
}

/// One line about a bar: value, spread, limit.
#[must_use]
pub fn line(verdict: &Verdict) -> String {
    let Some(bar) = verdict.bar() else { return format!("{}: no such bar", verdict.id) };
    let figure = verdict.figure;
    let (side, limit) = match bar.limit {
        Limit::AtMost(limit) => ("at most", limit),
        Limit::AtLeast(limit) => ("at least", limit),
    };
    let kept = if verdict.kept() { "kept  " } else { "MISSED" };
    format!(
        "{kept} {:68} {:>8} {:3} {:19} {side} {}",
        bar.what,
        number(figure.value),
        bar.unit,
        format!("({} to {})", number(figure.low), number(figure.high)),
        number(limit)
    )
}

/// Three digits that count.
#[must_use]
pub fn number(value: f64) -> String {
    match value.abs() {
        nothing if nothing.is_nan() => String::new(),
        small if small < 9.995 => format!("{value:.2}"),
        middle if middle < 99.95 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}
