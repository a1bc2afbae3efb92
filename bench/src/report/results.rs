//! The results as data: the file behind the page.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::number;
use crate::bars::Verdict;
use crate::sample::{Figure, Series};

/// A table as it stands on the page.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Table {
    /// Above it.
    pub title: String,
    /// The heads of the columns; the first column names the rows.
    pub columns: Vec<String>,
    /// The rows.
    pub rows: Vec<Vec<String>>,
    /// Below it.
    pub note: String,
}

impl Table {
    /// An empty one.
    #[must_use]
    pub fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let columns = columns.iter().map(ToString::to_string).collect();
        Self { title: title.into(), columns, ..Self::default() }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Says something below it.
    #[must_use]
    pub fn note(mut self, note: &str) -> Self {
        self.note = note.into();
        self
    }

    /// Head and rows.
    pub(super) fn lines(&self) -> impl Iterator<Item = &Vec<String>> {
        std::iter::once(&self.columns).chain(&self.rows)
    }
}

/// Bars side by side.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chart {
    /// Above it.
    pub title: String,
    /// The unit of the values.
    pub unit: String,
    /// What each bar is, and how long.
    pub bars: Vec<(String, f64)>,
}

/// What a section found.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Findings {
    /// Medians of so many runs.
    pub runs: usize,
    /// Whether it was a quick run, with less to do in each.
    pub quick: bool,
    /// Tables.
    pub tables: Vec<Table>,
    /// Plots.
    pub charts: Vec<Chart>,
    /// Bars that were measured.
    pub verdicts: Vec<Verdict>,
    /// Every value, by what it is.
    pub values: BTreeMap<String, Series>,
}

impl Findings {
    /// Measures a bar.
    pub fn verdict(&mut self, id: &str, figure: Figure) {
        debug_assert!(crate::bars::bar(id).is_some(), "{id}");
        self.verdicts.push(Verdict { id: id.into(), figure });
    }

    /// Keeps the values of a series.
    pub fn keep(&mut self, name: impl Into<String>, series: &Series) {
        self.values.insert(name.into(), series.clone());
    }
}

/// Everything that was ever found, the newest of each section.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Results {
    /// Where.
    pub machine: BTreeMap<String, String>,
    /// By section.
    pub sections: BTreeMap<String, Findings>,
}

impl Results {
    /// Reads the file; without one there are none.
    ///
    /// # Errors
    ///
    /// It is no file of ours.
    pub fn load(path: &Path) -> Result<Self> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).with_context(|| format!("{} is odd", path.display())),
            Err(_) => Ok(Self::default()),
        }
    }

    /// Writes the file.
    ///
    /// # Errors
    ///
    /// It cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let mut text = serde_json::to_string(self)?;
        // A line for each section and series, for the sake of those who compare two versions.
        text = text.replace("\"values\":{", "\"values\":{\n").replace("],\"", "],\n\"");
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }
}

/// A cell: the median, and the quartiles around it.
#[must_use]
pub fn cell(figure: Figure) -> String {
    if figure.value.is_nan() {
        return String::new();
    }
    format!("{} ({} to {})", number(figure.value), number(figure.low), number(figure.high))
}
