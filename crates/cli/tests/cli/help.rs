//! The help texts, as they are: a change of the command line is a change of these files.
//!
//! `UPDATE_HELP=1 cargo test -p wsstream-cli --test cli help` writes them anew.

use crate::support::{run, stdout, wsstream};
use std::path::Path;

const VERBS: [&str; 12] = [
    "",
    "serve",
    "exec",
    "attach",
    "logs",
    "port-forward",
    "token",
    "ps",
    "kill",
    "link",
    "drain",
    "completions",
];

async fn help(verb: &str) -> String {
    let mut command = wsstream();
    if !verb.is_empty() {
        command.arg(verb);
    }
    let output = run(command.arg("--help")).await;
    assert_eq!(output.status.code(), Some(0));
    stdout(&output)
}

#[tokio::test]
async fn texts_are_the_recorded_ones() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/help");
    for verb in VERBS {
        let name = if verb.is_empty() { "wsstream" } else { verb };
        let file = directory.join(name).with_extension("txt");
        let text = help(verb).await;
        if std::env::var_os("UPDATE_HELP").is_some() {
            std::fs::create_dir_all(&directory).unwrap();
            std::fs::write(&file, &text).unwrap();
        }
        let recorded = std::fs::read_to_string(&file).unwrap_or_default();
        assert_eq!(text, recorded, "wsstream {verb} --help differs from {}", file.display());
        assert!(text.lines().all(|line| line.chars().count() <= 100), "{verb}: a line is too long");
    }
}

#[tokio::test]
async fn every_verb_is_listed_and_shows_examples() {
    let top = help("").await;
    for verb in VERBS.iter().filter(|verb| !verb.is_empty()) {
        assert!(top.contains(&format!("\n  {verb} ")), "{verb} is not listed");
        let text = help(verb).await;
        assert!(
            text.contains("\nExamples:\n") && text.contains(&format!("wsstream {verb}")),
            "{verb} has no examples"
        );
    }
    assert!(top.contains("Exit codes:"), "{top}");
}
