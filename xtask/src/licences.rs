//! Every dependency's licence against the list in deny.toml.
//!
//! cargo-deny reads the same file and checks more, but it is a tool of its own that many machines lack; a
//! licence that slips in is too costly to leave to chance.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, bail};

use crate::{report::Totals, workspace::Workspace};

/// `cargo xtask licences`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    totals.case("licences: permissive only", || check(workspace).into());
}

fn check(workspace: &Workspace) -> Result<()> {
    let file = workspace.root.join("deny.toml");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let allowed = allowed(&text)?;
    let mut faults = Vec::new();
    for package in workspace.packages() {
        let licence = package["license"].as_str().unwrap_or_default();
        if !permitted(licence, &allowed) {
            faults.push(format!("{} {}: {licence:?}", package["name"], package["version"]));
        }
    }
    if !faults.is_empty() {
        bail!("not on the list of deny.toml:\n{}", faults.join("\n"));
    }
    Ok(())
}

fn allowed(deny: &str) -> Result<BTreeSet<String>> {
    let table: toml::Table = deny.parse().context("deny.toml")?;
    let list = table
        .get("licenses")
        .and_then(|licenses| licenses.get("allow"))
        .and_then(toml::Value::as_array)
        .context("deny.toml has no licenses.allow")?;
    Ok(list.iter().filter_map(toml::Value::as_str).map(str::to_owned).collect())
}

/// Whether an SPDX expression can be satisfied from the list. `/` is the old spelling of OR.
fn permitted(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let verdict = either(&tokens, &mut at, allowed);
    // What could not be read to its end is not permitted.
    verdict && at == tokens.len()
}

fn either(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = both(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= both(tokens, at, allowed);
    }
    verdict
}

fn both(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut verdict = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(tokens, at, allowed);
    }
    verdict
}

fn one(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let token = tokens.get(*at);
    // Also past the end, so that an expression that breaks off is never read as complete.
    *at += 1;
    let Some(token) = token else { return false };
    if *token == "(" {
        let verdict = either(tokens, at, allowed);
        let closed = tokens.get(*at) == Some(&")");
        *at += 1;
        return verdict && closed;
    }
    if tokens.get(*at) == Some(&"WITH") {
        let exception = tokens.get(*at + 1).copied().unwrap_or_default();
        *at += 2;
        return allowed.contains(&format!("{token} WITH {exception}"));
    }
    allowed.contains(*token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_satisfied_only_from_the_list() {
        let list: BTreeSet<String> =
            ["MIT", "Apache-2.0", "Unicode-3.0", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
        ] {
            assert!(permitted(good, &list), "{good}");
        }
        for bad in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT)", "MIT WITH Something", "AND", "MIT OR"] {
            assert!(!permitted(bad, &list), "{bad}");
        }
    }
}
