//! Who is let in by `wsstream serve`, and as whom.

use crate::support::{LIMIT, Server, run, stderr, stdout, wsstream};
use std::path::Path;

/// A token and the lines for the users file, as `wsstream token` prints them.
pub(crate) async fn token(arguments: &[&str]) -> (String, String) {
    let output = run(wsstream().arg("token").args(arguments)).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    let (token, lines) = text.split_once("\n\n").unwrap();
    assert!(token.len() == 43 && !lines.contains(token), "{text}");
    (token.to_owned(), lines.to_owned())
}

/// Puts a token into a kubeconfig that has none, or replaces it.
pub(crate) fn with_token(kubeconfig: &Path, token: &str) {
    let text = std::fs::read_to_string(kubeconfig).unwrap();
    let (before, rest) = text.split_once("\n  user:\n").unwrap();
    let (_, after) = rest.split_once('\n').unwrap();
    std::fs::write(kubeconfig, format!("{before}\n  user:\n    token: {token:?}\n{after}")).unwrap();
}

#[tokio::test]
async fn users_come_and_go_while_the_server_runs() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml");
    let (ann, of_ann) = token(&["--user", "ann", "--group", "ops"]).await;
    let (ben, of_ben) = token(&["--user", "ben"]).await;
    std::fs::write(&file, &of_ann).unwrap();
    let server = Server::start(&["--users", file.to_str().unwrap()]).await;
    let text = std::fs::read_to_string(&server.kubeconfig).unwrap();
    assert!(!text.contains("\n    token:"), "the server knows no token to write: {text}");
    let output = server.exec(&["host", "--", "echo", "in"]).await;
    assert!(stderr(&output).contains("no bearer token"), "{}", stderr(&output));

    with_token(&server.kubeconfig, &ann);
    let output = server.exec(&["host", "--", "echo", "in"]).await;
    assert_eq!(stdout(&output), "in\n", "{}", stderr(&output));
    with_token(&server.kubeconfig, &ben);
    let output = server.exec(&["host", "--", "echo", "in"]).await;
    assert!(stderr(&output).contains("not one that this server accepts"), "{}", stderr(&output));

    std::fs::write(&file, format!("{of_ann}{of_ben}expires = 2000-01-01T00:00:00Z\n")).unwrap();
    refused_at_last(&server, "has expired").await;
    std::fs::write(&file, &of_ben).unwrap();
    let deadline = tokio::time::Instant::now() + LIMIT;
    while server.exec(&["host", "--", "true"]).await.status.code() != Some(0) {
        assert!(tokio::time::Instant::now() < deadline, "the new user is never let in");
    }
    std::fs::write(&file, "[[user]]\nname = 3\n").unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(2500)).await;
    assert_eq!(
        server.exec(&["host", "--", "true"]).await.status.code(),
        Some(0),
        "a broken file changes nothing"
    );
}

/// Asks until the refusal says this: files are looked at once a second.
async fn refused_at_last(server: &Server, text: &str) {
    let deadline = tokio::time::Instant::now() + LIMIT;
    loop {
        let output = server.exec(&["host", "--", "true"]).await;
        if stderr(&output).contains(text) {
            assert_ne!(output.status.code(), Some(0));
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "{}", stderr(&output));
    }
}

#[tokio::test]
async fn a_users_file_that_cannot_be_used_is_named_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("users.toml");
    for (text, part) in [
        (
            "[[user]]\nname = \"a\"\ntokens = [\"secret-secret\"]\n",
            "users.toml: line 3: a token is written sha256:",
        ),
        ("x = 1", "users.toml: line 1: unknown field"),
    ] {
        std::fs::write(&file, text).unwrap();
        let output = run(wsstream()
            .args(["serve", "--listen", ":0", "--kubeconfig"])
            .arg(directory.path().join("k"))
            .arg("--users")
            .arg(&file))
        .await;
        let said = stderr(&output);
        assert_eq!(output.status.code(), Some(252), "{said}");
        assert!(said.contains(part) && !said.contains("secret-secret"), "{said}");
    }
}

/// kubectl takes such a file; we said `failed to parse header value`.
#[tokio::test]
async fn a_token_file_may_end_with_a_newline() {
    let server = Server::start(&[]).await;
    let text = std::fs::read_to_string(&server.kubeconfig).unwrap();
    let token = text.split("token: \"").nth(1).unwrap().split('"').next().unwrap();
    let file = server.directory.path().join("token");
    for end in ["", "\n", " \r\n"] {
        std::fs::write(&file, format!("{token}{end}")).unwrap();
        let named =
            text.replace(&format!("token: \"{token}\""), &format!("tokenFile: {:?}", file.to_str().unwrap()));
        assert_ne!(named, text);
        std::fs::write(&server.kubeconfig, named).unwrap();
        let output = server.exec(&["host", "--", "echo", "in"]).await;
        assert_eq!(stdout(&output), "in\n", "{end:?}: {}", stderr(&output));
    }
}
