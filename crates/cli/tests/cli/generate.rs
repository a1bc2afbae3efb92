//! Completions that a shell loads, and man pages that `man` reads.

use crate::support::{run, stderr, stdout, wsstream};
use tokio::process::Command;

async fn script(shell: &str) -> String {
    let output = run(wsstream().args(["completions", shell])).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

#[tokio::test]
async fn every_shell_has_a_script_with_the_verbs() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = script(shell).await;
        for word in ["serve", "port-forward", "max-connections"] {
            assert!(script.contains(word), "{shell} does not complete {word}");
        }
        assert!(!script.contains("__keep"), "{shell} completes what nobody types");
    }
    let output = run(wsstream().args(["completions", "tcsh"])).await;
    assert_eq!(output.status.code(), Some(2));
}

#[tokio::test]
async fn bash_loads_the_script_and_completes_a_verb_and_a_flag() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wsstream");
    std::fs::write(&file, script("bash").await).unwrap();
    let complete = async |words: &str, index: u32| {
        // As bash calls it: the function, with the command, the word and the one before it.
        let line = format!(
            "source {file} && COMP_WORDS=(wsstream {words}) COMP_CWORD={index} && \
             $(complete -p wsstream | grep -o '_wsstream') wsstream \"${{COMP_WORDS[{index}]}}\" \
             \"${{COMP_WORDS[{index} - 1]}}\" && echo \"${{COMPREPLY[@]}}\"",
            file = file.display()
        );
        let output = run(Command::new("bash").args(["--norc", "-c", &line])).await;
        assert!(output.status.success(), "{}", stderr(&output));
        stdout(&output)
    };
    assert_eq!(complete("ser", 1).await, "serve\n");
    assert_eq!(complete("serve --check", 2).await, "--check-config\n");
}

#[tokio::test]
async fn there_is_a_page_for_each_verb() {
    let directory = tempfile::tempdir().unwrap();
    let output = run(wsstream().arg("man").arg(directory.path())).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let page = |name: &str| std::fs::read_to_string(directory.path().join(name)).unwrap();
    let top = page("wsstream.1");
    assert!(top.contains(".TH WSSTREAM 1") && top.contains("wsstream\\-serve(1)"), "{top}");
    assert!(top.contains("Exit codes:"), "{top}");
    let serve = page("wsstream-serve.1");
    assert!(serve.contains("\\-\\-token\\-file") && serve.contains("Examples:"), "{serve}");
    assert!(!directory.path().join("wsstream-man.1").exists(), "a hidden verb has no page");

    let output = run(wsstream().args(["man", "/nonexistent"])).await;
    assert_eq!(output.status.code(), Some(252));
    assert!(stderr(&output).contains("/nonexistent/wsstream.1: No such file"), "{}", stderr(&output));
}
