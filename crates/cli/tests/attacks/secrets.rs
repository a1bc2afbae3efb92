//! What can be read on the machine: the arguments of processes, their environment, the log.

use crate::fixture::{EXEC, Target};
use crate::support::run;
use std::path::Path;

/// Every process of this machine, by what it was started with.
fn readable(file: &str) -> Vec<(String, Vec<u8>)> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let numbered = processes.filter(|entry| entry.file_name().to_string_lossy().parse::<u32>().is_ok());
    numbered
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            Some((name, std::fs::read(entry.path().join(file)).ok()?))
        })
        .collect()
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack.windows(needle.len()).any(|part| part == needle.as_bytes())
}

#[tokio::test]
async fn a_token_is_in_no_log_and_in_no_arguments_or_environment() {
    let target = Target::start_with(&["--insecure-http"], "trace").await;
    let tokens = [&target.tokens.admin, &target.tokens.reader, &target.tokens.expired];
    for token in tokens {
        let marker = target.marker();
        target.send(&target.exec(token, &marker)).await.unwrap();
        target.send(&target.websocket(EXEC, &format!("Authorization: Basic {token}\r\n"))).await.unwrap();
    }
    // Our client, with the token from a file: while it runs, everybody may look.
    let kubeconfig = target.directory.path().join("kubeconfig");
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let with = text.replace("    {}\n", &format!("    token: \"{}\"\n", target.tokens.admin));
    std::fs::write(&kubeconfig, with).unwrap();
    let marker = target.marker();
    let script = format!("touch {}; cat", marker.display());
    let mut client = crate::support::client(&kubeconfig, &["exec", "-i", "host", "--", "sh", "-c", &script]);
    let mut client = client.stdin(std::process::Stdio::piped()).spawn().unwrap();
    crate::support::eventually("the session begins", || marker.exists()).await;
    let seen: Vec<_> = [readable("cmdline"), readable("environ")].concat();
    drop(client.stdin.take());
    client.wait().await.unwrap();
    assert!(seen.iter().any(|(_, text)| contains(text, &script)), "processes are looked at");
    for token in tokens {
        for (pid, text) in &seen {
            assert!(!contains(text, token), "process {pid} shows a token");
        }
        assert!(!target.log().contains(token.as_str()), "the log shows a token");
        assert!(!target.banner.contains(token.as_str()));
        let users = std::fs::read_to_string(target.directory.path().join("users.toml")).unwrap();
        assert!(!users.contains(token.as_str()), "the users file shows a token");
    }
    assert!(target.log().contains("session started"), "something is logged");
}

/// A line of the log is one that the server has written: it begins with a time, and no terminal obeys it.
#[tokio::test]
async fn what_is_asked_for_forges_no_line_of_the_log() {
    for format in ["text", "json"] {
        let target = Target::start_with(&["--insecure-http", "--log-format", format], "info").await;
        let forged = "%0a2026-01-01T00:00:00Z%20%20INFO%20forged%0d%1b%5b31m%e2%80%a8";
        let token = format!("Authorization: Bearer {}\r\n", target.tokens.nobody);
        let admin = format!("Authorization: Bearer {}\r\n", target.tokens.admin);
        for (path, more) in [
            (format!("/api/v1/namespaces/default/pods/host{forged}/exec?command=x"), &token),
            (format!("/api/v1/namespaces/{forged}/pods/host/exec?command=x"), &token),
            (format!("{EXEC}?command={forged}&container={forged}"), &token),
            (format!("{EXEC}?command={forged}&stdout=true"), &admin),
            (format!("/{forged}"), &String::new()),
        ] {
            target.send(&target.websocket(&path, more)).await.unwrap();
        }
        target.send("GET /api HTTP/1.1\r\nHost: \x1b[31mforged\r\n\r\n").await;
        target.send("GET /api HTTP/1.1\r\nHost: evil.example\r\nOrigin: \u{9b}31mforged\r\n\r\n").await;
        let log = target.log();
        assert!(log.contains("request forbidden"), "{log}");
        for line in log.lines() {
            assert!(!line.contains(['\u{1b}', '\r', '\u{2028}', '\u{9b}']), "{line:?}");
            let start = if format == "json" { "{\"timestamp\":\"2" } else { "2" };
            assert!(line.starts_with(start), "{format}: {line:?}");
        }
    }
}

#[tokio::test]
async fn what_holds_a_secret_is_for_its_owner_alone() {
    use std::os::unix::fs::PermissionsExt as _;
    let target = Target::start(&[]).await;
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&target.directory.path().join("kubeconfig")), 0o600);
    let output = run(crate::support::wsstream().args(["token", "--user", "a\nb"])).await;
    assert_eq!(output.status.code(), Some(2), "a name that would forge lines of the file");
}
