//! `wsstream serve`: what it prints and writes, what it refuses, and how it stops.

use crate::support::{
    LIMIT, Server, client, eventually, read_banner, run, signal_child, stderr, stdout, wsstream,
};
use rustix::process::Signal;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, BufReader};
use tokio::time::timeout;

#[tokio::test]
async fn serves_soon_and_prints_a_line_that_works_as_pasted() {
    let started = Instant::now();
    let server = Server::start(&[]).await;
    // A second in a release build on an idle machine; this one is neither.
    assert!(started.elapsed() < Duration::from_secs(5), "took {:?}", started.elapsed());

    let url = server.banner.lines().next().unwrap().strip_prefix("wsstream is serving ").unwrap();
    assert!(url.starts_with("https://127.0.0.1:") && !url.ends_with(":0"), "{url}");
    assert!(server.banner.contains("pod host: runs commands on this machine"), "{}", server.banner);
    let kubeconfig = std::fs::read_to_string(&server.kubeconfig).unwrap();
    assert!(kubeconfig.contains(url), "the port in the file is the one that was chosen: {kubeconfig}");
    assert_eq!(std::fs::metadata(&server.kubeconfig).unwrap().permissions().mode() & 0o777, 0o600);

    // Pasted into a shell, with our client in kubectl's place: the flags are the same.
    let line = server.banner.lines().last().unwrap();
    let ours = line.replacen("kubectl", concat!(env!("CARGO_BIN_EXE_wsstream"), " $VERB"), 1);
    let ours = ours.replacen("$VERB", "exec", 1).replacen(" exec -it", " -it", 1) + " -c 'echo it works'";
    let mut shell = tokio::process::Command::new("sh");
    let output = run(shell.arg("-c").arg(&ours).stdin(Stdio::null())).await;
    assert_eq!(stdout(&output), "it works\n", "{ours}: {}", stderr(&output));
}

#[tokio::test]
async fn the_token_is_in_the_kubeconfig_and_nowhere_else() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("k");
    let mut child = wsstream()
        .args(["serve", "--listen", ":0", "--log", "trace", "--kubeconfig"])
        .arg(&kubeconfig)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut log = child.stderr.take().unwrap();
    let banner = read_banner(&mut output).await;
    let text = std::fs::read_to_string(&kubeconfig).unwrap();
    let token = text.split("token: \"").nth(1).unwrap().split('"').next().unwrap();
    assert!(token.len() * 6 >= 256, "at least 256 bits: {} characters", token.len());

    // The log is read while the request runs: a full pipe would stop the server.
    let mut lines = Vec::new();
    let request = async {
        let output = run(&mut client(&kubeconfig, &["exec", "host", "--", "true"])).await;
        assert_eq!(output.status.code(), Some(0));
        signal_child(&child, Signal::TERM);
    };
    let ((), read) = tokio::join!(request, timeout(LIMIT, log.read_to_end(&mut lines)));
    read.unwrap().unwrap();
    let lines = String::from_utf8_lossy(&lines);
    assert!(lines.contains("wsstream"), "something is logged: {lines}");
    assert!(!lines.contains(token) && !banner.contains(token));
}

#[tokio::test]
async fn plain_http_is_for_loopback() {
    let output = run(wsstream().args(["serve", "--insecure-http", "--listen", "0.0.0.0:0"])).await;
    assert_eq!(output.status.code(), Some(2));
    let text = stderr(&output);
    assert!(text.contains("--insecure-http is for loopback, and 0.0.0.0:0"), "{text}");
    assert!(text.contains("leave --insecure-http out"), "it says what to do: {text}");
    assert_eq!(stdout(&output), "");

    let server = Server::start(&["--insecure-http"]).await;
    assert!(server.banner.starts_with("wsstream is serving http://127.0.0.1:"), "{}", server.banner);
    let output = server.exec(&["host", "--", "echo", "plain"]).await;
    assert_eq!(stdout(&output), "plain\n", "{}", stderr(&output));
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("k");
    let output = run(wsstream().args(["serve", "--listen", &address, "--kubeconfig"]).arg(&kubeconfig)).await;
    assert_eq!(output.status.code(), Some(252));
    assert!(stderr(&output).contains(&address), "{}", stderr(&output));
    assert!(!kubeconfig.exists(), "no kubeconfig without a server");
}

#[tokio::test]
async fn flags_name_pods_of_both_kinds() {
    let server = Server::start(&[
        "--namespace",
        "lab",
        "--pod",
        "web/shell",
        "--run",
        "web/app=sh -c 'echo started; exit 0'",
    ])
    .await
    .started(&["web/app"])
    .await;
    assert!(server.banner.contains("pod web/shell: runs commands on this machine"), "{}", server.banner);
    assert!(server.banner.contains("pod web/app: sh -c 'echo started; exit 0'"), "{}", server.banner);
    let output = server.exec(&["web", "-c", "shell", "--", "echo", "here"]).await;
    assert_eq!(stdout(&output), "here\n", "the kubeconfig names the namespace: {}", stderr(&output));
    let output = server.exec(&["web", "--", "echo", "first"]).await;
    assert_eq!(stdout(&output), "first\n");
    assert_eq!(stderr(&output), "Defaulted container \"shell\" out of: shell, app\n");
    let output = run(&mut server.client(&["logs", "-f", "web", "-c", "app"])).await;
    assert_eq!(stdout(&output), "started\n", "{}", stderr(&output));
    let output = server.exec(&["-n", "default", "web", "-c", "shell", "--", "true"]).await;
    assert_eq!(output.status.code(), Some(1), "not in this namespace");
}

#[tokio::test]
async fn the_configuration_file_counts_and_flags_win() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("wsstream.toml");
    std::fs::write(
        &config,
        "[server]\nlisten = \"127.0.0.1:1\"\n\n[[pod]]\nname = \"box\"\n\n[[pod.container]]\nname = \"main\"\nkind = \"host\"\n",
    )
    .unwrap();
    // Port 1 would need a privilege, or be somebody else's: the flag `--listen :0` of `start` wins.
    let server = Server::start(&["--config", config.to_str().unwrap(), "--pod", "extra"]).await;
    for pod in ["box", "extra"] {
        let output = server.exec(&[pod, "--", "echo", pod]).await;
        assert_eq!(stdout(&output), format!("{pod}\n"), "{}", stderr(&output));
    }
    let output = server.exec(&["host", "--", "true"]).await;
    assert_eq!(output.status.code(), Some(1), "the default pod is there only when none is named");

    let output = run(wsstream().args(["serve", "--pod", "box", "--config"]).arg(&config)).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).contains("has a pod box already"), "{}", stderr(&output));

    std::fs::write(&config, "[server]\nlisten = 7\n").unwrap();
    let output = run(wsstream().args(["serve", "--config"]).arg(&config)).await;
    assert_eq!(output.status.code(), Some(252));
    assert!(stderr(&output).contains("wsstream.toml"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_token_file_decides_who_may() {
    let directory = tempfile::tempdir().unwrap();
    let tokens = directory.path().join("tokens");
    std::fs::write(&tokens, "correct-horse-battery-staple-0123456789\n").unwrap();
    std::fs::set_permissions(&tokens, std::fs::Permissions::from_mode(0o600)).unwrap();
    let server = Server::start(&["--token-file", tokens.to_str().unwrap()]).await;
    assert_eq!(server.exec(&["host", "--", "true"]).await.status.code(), Some(0));

    let wrong = directory.path().join("wrong");
    let text = std::fs::read_to_string(&server.kubeconfig).unwrap().replace("correct-", "incorrect-");
    std::fs::write(&wrong, text).unwrap();
    let output = run(&mut client(&wrong, &["exec", "host", "--", "true"])).await;
    assert_eq!(output.status.code(), Some(1));
    let text = stderr(&output);
    assert!(text.starts_with("Error from server (Unauthorized): "), "{text}");
    assert!(text.contains("no credentials that this server accepts"), "{text}");
}

#[tokio::test]
async fn stops_when_told_and_takes_its_kubeconfig_along() {
    let home = tempfile::tempdir().unwrap();
    let start = || async {
        let mut child = wsstream()
            .args(["serve", "--listen", ":0"])
            .env("HOME", home.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        let banner = read_banner(&mut output).await;
        let kubeconfig = banner.split("--kubeconfig ").nth(1).unwrap().split(' ').next().unwrap().to_owned();
        (child, std::path::PathBuf::from(kubeconfig))
    };
    let (mut child, kubeconfig) = start().await;
    assert!(kubeconfig.starts_with(home.path().join(".local/state/wsstream")), "{}", kubeconfig.display());
    assert!(kubeconfig.exists());
    signal_child(&child, Signal::TERM);
    let status = timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(!kubeconfig.exists(), "its token is worth nothing any more");

    // Somebody else's file by the same name stays.
    let (mut child, kubeconfig) = start().await;
    std::fs::write(&kubeconfig, "another server's").unwrap();
    signal_child(&child, Signal::INT);
    timeout(LIMIT, child.wait()).await.unwrap().unwrap();
    assert_eq!(std::fs::read_to_string(&kubeconfig).unwrap(), "another server's");
}

#[tokio::test]
async fn a_kubeconfig_that_was_placed_by_hand_stays() {
    let mut server = Server::start(&[]).await;
    server.signal(Signal::TERM);
    let status = timeout(LIMIT, server.child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(0));
    assert!(server.kubeconfig.exists());
}

#[tokio::test]
async fn sessions_may_end_before_the_server_does() {
    let mut server = Server::start(&[]).await;
    let release = server.directory.path().join("release");
    let script = format!("echo up; until test -e {}; do sleep 0.02; done; echo done", release.display());
    let mut session = server.client(&["exec", "host", "--", "sh", "-c", &script]);
    let mut session = session.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = session.stdout.take().unwrap();
    let mut up = [0; 3];
    timeout(LIMIT, lines.read_exact(&mut up)).await.unwrap().unwrap();

    server.signal(Signal::TERM);
    // New connections are refused at once…
    let mut refused = false;
    for _ in 0..100 {
        let output = server.exec(&["host", "--", "true"]).await;
        refused = output.status.code() == Some(252) || output.status.code() == Some(1);
        if refused {
            break;
        }
    }
    assert!(refused);
    // … and the session ends in its own time.
    std::fs::write(&release, "").unwrap();
    let mut rest = String::new();
    timeout(LIMIT, lines.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "done\n");
    assert_eq!(timeout(LIMIT, session.wait()).await.unwrap().unwrap().code(), Some(0));
    assert_eq!(timeout(LIMIT, server.child.wait()).await.unwrap().unwrap().code(), Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = Server::start(&[]).await;
    let pid_file = server.directory.path().join("pid");
    let script = format!("echo $$ > {}; exec sleep 1000", pid_file.display());
    let mut session = server.client(&["exec", "host", "--", "sh", "-c", &script]).spawn().unwrap();
    eventually("the command starts", || {
        std::fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n'))
    })
    .await;
    server.signal(Signal::TERM);
    let early = timeout(Duration::from_millis(300), server.child.wait()).await;
    assert!(early.is_err(), "it waits for the session");
    let asked = Instant::now();
    server.signal(Signal::TERM);
    let status = timeout(LIMIT, server.child.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(143));
    assert!(asked.elapsed() < Duration::from_secs(5), "took {:?}", asked.elapsed());
    let status = timeout(LIMIT, session.wait()).await.unwrap().unwrap();
    assert_eq!(status.code(), Some(254), "the session is lost, and says so");
    let pid = std::fs::read_to_string(&pid_file).unwrap();
    eventually("no process is left behind", || !std::path::Path::new("/proc").join(pid.trim()).exists())
        .await;
}

#[tokio::test]
async fn nohup_is_respected() {
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("k");
    let mut shell = tokio::process::Command::new("sh");
    let line =
        format!("trap '' HUP; exec {} serve --listen :0 --kubeconfig k", env!("CARGO_BIN_EXE_wsstream"));
    let mut child = shell
        .arg("-c")
        .arg(line)
        .current_dir(directory.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    read_banner(&mut output).await;
    signal_child(&child, Signal::HUP);
    let output = run(&mut client(&kubeconfig, &["exec", "host", "--", "echo", "still here"])).await;
    assert_eq!(stdout(&output), "still here\n", "{}", stderr(&output));
}

/// Supervised commands ran before it was known that nobody could reach them.
#[tokio::test]
async fn no_command_starts_for_a_server_that_does_not() {
    let directory = tempfile::tempdir().unwrap();
    let started = directory.path().join("started");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let pod = format!("web=touch {}", started.display());
    for flags in
        [["--listen", &address, "--tls-min-version", "1.2"], ["--listen", ":0", "--users", "/nonexistent"]]
    {
        let mut command = wsstream();
        command.args(["serve", "--run", &pod]).args(flags).env("HOME", directory.path());
        let output = run(&mut command).await;
        assert!(output.status.code().is_some_and(|code| code > 0), "{flags:?}");
        assert!(!started.exists(), "{flags:?}");
    }
}

/// `--check-config` said ok to each of these, none of which starts.
#[tokio::test]
async fn what_does_not_start_is_not_ok() {
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let foreign = "apiVersion: v1\nclusters: [{name: prod}]\n";
    std::fs::write(file("foreign"), foreign).unwrap();
    std::fs::write(file("ca.pem"), "").unwrap();
    std::os::unix::fs::symlink("foreign", file("link")).unwrap();
    std::fs::create_dir(file("open")).unwrap();
    std::fs::set_permissions(file("open"), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let (config, started) = (file("wsstream.toml"), file("started"));
    let pod = format!(
        "[[pod]]\nname = \"web\"\n[[pod.container]]\nkind = \"process\"\ncommand = [\"touch\", {started:?}]\n"
    );
    for (key, lines) in [
        ("client_auth", "client_auth = \"required\""),
        ("client_ca", "client_ca = \"ca.pem\"\ninsecure_http = true"),
        ("metrics_listen", "metrics_listen = \"0.0.0.0:0\""),
        ("kubeconfig", "kubeconfig = \"foreign\""),
        ("audit_log", "audit_log = \"link\""),
        ("admin_socket", "admin_socket = \"open/admin\""),
        ("listen", "listen = \"unix:open/api\""),
    ] {
        let listen = if key == "listen" { "" } else { "listen = \"127.0.0.1:0\"\n" };
        std::fs::write(&config, format!("[server]\n{lines}\n{listen}{pod}")).unwrap();
        let serve = |flags: &[&str]| {
            let mut command = wsstream();
            command.args(["serve", "--config", &config]).args(flags).env("HOME", directory.path());
            command
        };
        let checked = run(&mut serve(&["--check-config"])).await;
        assert_eq!(checked.status.code(), Some(2), "{key}: {}", stdout(&checked));
        let start = format!("wsstream: {config}:2: {key}: ");
        assert!(stderr(&checked).starts_with(&start), "{key}: {}", stderr(&checked));
        let ran = run(&mut serve(&[])).await;
        assert!(ran.status.code().is_some_and(|code| code > 0), "{key} is no reason not to start");
    }
    assert_eq!(std::fs::read_to_string(file("foreign")).unwrap(), foreign);
}

#[tokio::test]
async fn a_configuration_is_checked_without_starting_anything() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wsstream.toml");
    let started = directory.path().join("started");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = wsstream();
        // No home: nothing may need to be written.
        command.args(["serve", "--check-config", "--config"]).arg(&file).env("HOME", directory.path());
        command
    };
    let pod = format!(
        "[[pod]]\nname = \"web\"\n[[pod.container]]\nkind = \"process\"\ncommand = [\"touch\", {:?}]\n",
        started.display().to_string()
    );
    let right = format!("[server]\nlisten = \"127.0.0.1:1\"\n{pod}");
    let output = run(&mut check(&right)).await;
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.starts_with("ok\n") && text.contains("127.0.0.1:1") && text.contains("default/web"),
        "{text}"
    );
    assert_eq!(stderr(&output), "");

    let wrong = format!("[server]\n\ntls_cert = \"c\"\ntls_key = \"k\"\ntoken_file = \"t\"\n{pod}");
    let output = run(&mut check(&wrong)).await;
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
    let text = stderr(&output);
    let at = |line: usize, rest: &str| format!("wsstream: {}:{line}: {rest}", file.display());
    assert!(text.contains(&at(3, "tls_cert: ")), "{text}");
    assert!(text.contains(&at(5, "token_file: token file ")), "{text}");
    assert!(text.ends_with("wsstream: the configuration has 2 faults; nothing was started\n"), "{text}");

    let output = run(check(&right).args(["--token-file", "/nonexistent"])).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).starts_with("wsstream: --token-file: token file /nonexistent: "),
        "{}",
        stderr(&output)
    );

    let output = run(&mut check("[server]\nlisten = 1\n")).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with(&at(2, "expected an address")), "{}", stderr(&output));
    assert!(!started.exists());
    let left: Vec<_> =
        std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["wsstream.toml"]);
}
