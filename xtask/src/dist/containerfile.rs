//! The Containerfile as text: what a build would refuse, and the commands that its comment gives.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

/// The instructions of a Containerfile that ours may use.
const INSTRUCTIONS: [&str; 11] =
    ["ARG", "FROM", "WORKDIR", "COPY", "RUN", "USER", "ENV", "EXPOSE", "STOPSIGNAL", "ENTRYPOINT", "CMD"];

/// What a build would say first, for machines that cannot build.
pub(super) fn check(root: &Path) -> Result<()> {
    let text = fs::read_to_string(root.join("Containerfile")).context("Containerfile")?;
    let mut last = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        ensure!(INSTRUCTIONS.contains(&word), "not an instruction that we use: {line}");
        // Both images begin with what that stage has.
        if word == "FROM" && rest.ends_with("AS image") {
            last.clear();
        }
        if word == "ARG" {
            ensure!(rest.contains('='), "without a default it has to be typed at each build: {line}");
        }
        last.push((word, rest));
    }
    let stage = |word: &str| last.iter().rfind(|(found, _)| *found == word).map(|(_, rest)| *rest);
    let user = stage("USER").context("no USER: the image would run as root")?;
    let uid: u32 = user.split(':').next().unwrap_or_default().parse().context("USER is not a number")?;
    ensure!(uid > 0, "USER is root");
    for word in ["ENTRYPOINT", "CMD"] {
        let words: Vec<String> = serde_json::from_str(stage(word).context("no ENTRYPOINT or CMD")?)
            .with_context(|| format!("{word} is not a list in JSON: a shell would be between"))?;
        ensure!(!words.is_empty(), "{word} is empty");
    }
    let ignore = fs::read_to_string(root.join(".containerignore")).context(".containerignore")?;
    for name in ignore.lines().filter_map(|line| line.strip_prefix('!')) {
        ensure!(root.join(name).exists(), ".containerignore names {name}, which is not there");
    }
    Ok(())
}

/// The default of an `ARG`.
pub(super) fn default(root: &Path, name: &str) -> Result<String> {
    let text = fs::read_to_string(root.join("Containerfile")).context("Containerfile")?;
    let value =
        text.lines().find_map(|line| line.strip_prefix("ARG ")?.strip_prefix(name)?.strip_prefix('='));
    value.map(str::to_owned).with_context(|| format!("no ARG {name}"))
}

/// The words of the command in the comment that begins with `podman`, `verb` and has this word, without those two.
pub(super) fn command(root: &Path, verb: &str, with: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(root.join("Containerfile")).context("Containerfile")?;
    let comment: String =
        text.lines().filter_map(|line| line.strip_prefix('#')).map(|line| format!("{line}\n")).collect();
    let joined = comment.replace("\\\n", " ");
    let mut commands =
        joined.lines().map(|line| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>());
    let begins = ["podman".to_owned(), verb.to_owned()];
    let found = commands.find(|words| words.starts_with(&begins) && words.iter().any(|word| word == with));
    let found = found.with_context(|| format!("the comment has no `podman {verb}` with {with}"))?;
    Ok(found.into_iter().skip(begins.len()).collect())
}
