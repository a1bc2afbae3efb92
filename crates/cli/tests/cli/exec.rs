//! `wsstream exec`: exit codes, streams, and what is said when there is no exit code.

use crate::support::{LIMIT, Server, client, run, run_with_input, signal_child, stderr, stdout, wsstream};
use rustix::process::Signal;
use std::process::Stdio;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

#[tokio::test]
async fn the_exit_code_is_the_remote_one() {
    let server = Server::start(&[]).await;
    for (script, code) in
        [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137), ("exit 254", 254)]
    {
        let output = server.exec(&["host", "--", "sh", "-c", script]).await;
        assert_eq!(output.status.code(), Some(code), "{script}");
        assert_eq!(stderr(&output), "", "a line would say that the code is ours: {script}");
    }
}

#[tokio::test]
async fn outputs_are_apart() {
    let server = Server::start(&[]).await;
    let output = server.exec(&["host", "--", "sh", "-c", "echo out; echo err >&2"]).await;
    assert_eq!((stdout(&output).as_str(), stderr(&output).as_str()), ("out\n", "err\n"));
}

#[tokio::test]
async fn input_arrives_whole_and_so_does_the_output() {
    let server = Server::start(&[]).await;
    let input: Vec<u8> =
        (0..5_000_011_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    for length in [0, 1, 32 * 1024, input.len()] {
        let output =
            run_with_input(&mut server.client(&["exec", "-i", "host", "--", "cat"]), &input[..length]).await;
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert!(output.stdout == input[..length], "{} of {length} bytes", output.stdout.len());
    }
}

/// kubernetes/kubernetes 124571 and others: a reader slower than the writer loses the tail.
#[tokio::test]
async fn a_slow_reader_gets_everything_and_the_exit_code() {
    let server = Server::start(&[]).await;
    let length: usize = 16 << 20;
    let script = format!("head -c {length} /dev/zero; exit 5");
    let mut session = server.client(&["exec", "host", "--", "sh", "-c", &script]);
    let mut session = session.stdout(Stdio::piped()).spawn().unwrap();
    let mut reader = session.stdout.take().unwrap();
    let mut buffer = vec![0; 256 << 10];
    let mut read = 0;
    loop {
        let some = timeout(LIMIT, reader.read(&mut buffer)).await.unwrap().unwrap();
        if some == 0 {
            break;
        }
        read += some;
        // The pace of the reader, not a wait for anything.
        tokio::time::sleep(std::time::Duration::from_millis(4)).await;
    }
    assert_eq!(read, length);
    assert_eq!(timeout(LIMIT, session.wait()).await.unwrap().unwrap().code(), Some(5));
}

#[tokio::test]
async fn a_file_and_nothing_are_inputs_too() {
    let server = Server::start(&[]).await;
    let file = server.directory.path().join("input");
    std::fs::write(&file, vec![7; 100_000]).unwrap();
    let mut command = server.client(&["exec", "-i", "host", "--", "wc", "-c"]);
    let output = run(command.stdin(std::fs::File::open(&file).unwrap())).await;
    assert_eq!(stdout(&output).trim(), "100000");
    let output = server.exec(&["-i", "host", "--", "wc", "-c"]).await;
    assert_eq!(stdout(&output).trim(), "0", "/dev/null");
    let output =
        run_with_input(&mut server.client(&["exec", "host", "--", "wc", "-c"]), b"not asked for").await;
    assert_eq!(stdout(&output).trim(), "0", "without -i the command has no input");
}

/// A directory reads as an error. To close the command's input then would make a cut input look complete.
#[tokio::test]
async fn an_input_that_fails_is_not_taken_for_a_complete_one() {
    let server = Server::start(&[]).await;
    let done = server.directory.path().join("done");
    let script = format!("cat && touch {}", done.display());
    let mut command = server.client(&["exec", "-i", "host", "--", "sh", "-c", &script]);
    let output = run(command.stdin(std::fs::File::open(server.directory.path()).unwrap())).await;
    assert_eq!(output.status.code(), Some(252));
    let text = stderr(&output);
    assert!(text.starts_with("wsstream: cannot read standard input: Is a directory"), "{text}");
}

#[tokio::test]
async fn what_follows_on_our_input_belongs_to_who_reads_it_next() {
    let server = Server::start(&[]).await;
    let line = format!(
        "{} exec --kubeconfig {} -i host -- head -n 1; echo next; cat",
        env!("CARGO_BIN_EXE_wsstream"),
        server.kubeconfig.display()
    );
    let mut shell = tokio::process::Command::new("sh");
    let mut shell = shell
        .args(["-c", &line])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let (mut input, mut output) = (shell.stdin.take().unwrap(), shell.stdout.take().unwrap());
    input.write_all(b"first\n").await.unwrap();
    let mut seen = [0; 11];
    timeout(LIMIT, output.read_exact(&mut seen)).await.expect("the session ends").unwrap();
    assert_eq!(&seen, b"first\nnext\n");
    input.write_all(b"second\n").await.unwrap();
    drop(input);
    let mut rest = String::new();
    timeout(LIMIT, output.read_to_string(&mut rest)).await.unwrap().unwrap();
    assert_eq!(rest, "second\n");
}

#[tokio::test]
async fn refusals_read_like_kubectls() {
    let server = Server::start(&[]).await;
    let table: [(&[&str], &str); 3] = [
        (
            &["nope", "--", "true"],
            "Error from server (NotFound): pods \"nope\" not found\n  kubectl get pods -n default",
        ),
        (
            &["host", "-c", "nope", "--", "true"],
            "Error from server (BadRequest): container nope is not valid for pod host",
        ),
        (&["host", "--", "no-such-binary"], "Error from server (InternalError): "),
    ];
    for (arguments, text) in table {
        let output = server.exec(arguments).await;
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(stderr(&output).starts_with(text), "{arguments:?}: {}", stderr(&output));
        assert_eq!(stdout(&output), "");
    }
}

#[tokio::test]
async fn wrong_command_lines_have_code_2() {
    let table: [&[&str]; 6] = [
        &[],
        &["exec", "host"],
        &["exec", "host", "ls"],
        &["exec", "deploy/web", "--", "ls"],
        &["exec", "--protocol", "v9", "host", "--", "ls"],
        &["logs", "--tail", "x", "host"],
    ];
    for arguments in table {
        let output = run(wsstream().args(arguments)).await;
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn failures_on_this_side_have_their_code_and_say_what_to_do() {
    let output = run(wsstream().args(["exec", "host", "--", "true"])).await;
    assert_eq!(output.status.code(), Some(252));
    assert!(
        stderr(&output).starts_with("wsstream: no kubeconfig found\n  pass --kubeconfig FILE"),
        "{}",
        stderr(&output)
    );

    // A port that was free a moment ago.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let kubeconfig = directory.path().join("k");
    let text = format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: c\nclusters: [{{name: c, cluster: {{server: \"http://127.0.0.1:{port}\"}}}}]\n\
         users: [{{name: c, user: {{}}}}]\ncontexts: [{{name: c, context: {{cluster: c, user: c}}}}]\n"
    );
    std::fs::write(&kubeconfig, text).unwrap();
    let output = run(&mut client(&kubeconfig, &["exec", "host", "--", "true"])).await;
    assert_eq!(output.status.code(), Some(252));
    let text = stderr(&output);
    assert!(text.starts_with(&format!("wsstream: cannot reach http://127.0.0.1:{port}/: ")), "{text}");
    assert!(text.contains("Connection refused") && text.contains("context \"c\""), "{text}");
    let output = run(&mut client(&kubeconfig, &["exec", "--context", "d", "host", "--", "true"])).await;
    assert_eq!(output.status.code(), Some(252));
    assert!(stderr(&output).contains("has no context \"d\""), "{}", stderr(&output));
}

#[tokio::test]
async fn credentials_may_come_from_a_plugin() {
    let server = Server::start(&[]).await;
    let text = std::fs::read_to_string(&server.kubeconfig).unwrap();
    let token = text.split("token: \"").nth(1).unwrap().split('"').next().unwrap();
    let plugin = server.directory.path().join("plugin.sh");
    let credential = format!(
        r#"{{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{{"token":"{token}"}}}}"#
    );
    std::fs::write(&plugin, format!("test \"$1\" = give || exit 3\necho '{credential}'\n")).unwrap();
    let with = |argument: &str| {
        let user = format!(
            "exec: {{apiVersion: client.authentication.k8s.io/v1, command: sh, interactiveMode: Never, \
             args: [{}, {argument}]}}",
            plugin.display()
        );
        let file = server.directory.path().join(argument);
        std::fs::write(&file, text.replace(&format!("token: \"{token}\""), &user)).unwrap();
        file
    };
    let output = run(&mut client(&with("give"), &["exec", "host", "--", "echo", "let in"])).await;
    assert_eq!(stdout(&output), "let in\n", "{}", stderr(&output));
    let output = run(&mut client(&with("refuse"), &["exec", "host", "--", "true"])).await;
    assert_eq!(output.status.code(), Some(252));
    assert!(stderr(&output).contains("the plugin `sh`"), "{}", stderr(&output));
}

#[tokio::test]
async fn a_command_that_ends_early_ends_the_session() {
    let server = Server::start(&[]).await;
    let mut command = server.client(&["exec", "-i", "host", "--", "sh", "-c", "head -c 5; exit 4"]);
    let output = run(command.stdin(std::fs::File::open("/dev/zero").unwrap())).await;
    assert_eq!((output.status.code(), output.stdout.len()), (Some(4), 5), "{}", stderr(&output));
}

#[tokio::test]
async fn another_servers_certificate_is_not_trusted() {
    let (one, other) = (Server::start(&[]).await, Server::start(&[]).await);
    let url = |server: &Server| server.banner.lines().next().unwrap().rsplit(' ').next().unwrap().to_owned();
    let text = std::fs::read_to_string(&one.kubeconfig).unwrap().replace(&url(&one), &url(&other));
    let mixed = one.directory.path().join("mixed");
    std::fs::write(&mixed, text).unwrap();
    let output = run(&mut client(&mixed, &["exec", "host", "--", "true"])).await;
    assert_eq!(output.status.code(), Some(252));
    assert!(stderr(&output).contains("certificate"), "{}", stderr(&output));
}

#[tokio::test]
async fn every_protocol_runs_a_command_and_says_what_it_knows() {
    let server = Server::start(&[]).await;
    for (transport, protocol, status) in [
        ("websocket", "v5.channel.k8s.io", true),
        ("websocket", "v4.channel.k8s.io", true),
        ("websocket", "v4.base64.channel.k8s.io", true),
        ("websocket", "v3.channel.k8s.io", false),
        ("websocket", "v2.channel.k8s.io", false),
        ("websocket", "channel.k8s.io", false),
        ("websocket", "base64.channel.k8s.io", false),
        ("websocket", "none", false),
        ("spdy", "v4.channel.k8s.io", true),
        ("spdy", "v3.channel.k8s.io", false),
        ("spdy", "v2.channel.k8s.io", false),
        ("spdy", "channel.k8s.io", false),
    ] {
        let exec = async |script: &str| {
            let flags = ["--transport", transport, "--protocol", protocol];
            server.exec(&[&flags[..], &["host", "--", "sh", "-c", script]].concat()).await
        };
        let output = exec("echo out; echo err >&2").await;
        assert_eq!(stdout(&output), "out\n", "{protocol}");
        assert!(stderr(&output).starts_with("err\n"), "{protocol}");
        if status {
            assert_eq!(output.status.code(), Some(0), "{protocol}");
            assert_eq!(exec("exit 7").await.status.code(), Some(7), "{protocol}");
        } else {
            assert_eq!(output.status.code(), Some(253), "{protocol}: a clean end says nothing of success");
            assert!(
                stderr(&output).contains("wsstream: ended: no exit code: "),
                "{protocol}: {}",
                stderr(&output)
            );
            let output = exec("exit 7").await;
            assert_eq!(output.status.code(), Some(1), "{protocol}");
            assert!(stderr(&output).contains("exit code 7"), "{protocol}: {}", stderr(&output));
        }
    }
}

/// Over SPDY each version can say that the input is over.
#[tokio::test]
async fn input_over_spdy_has_an_end() {
    let server = Server::start(&[]).await;
    let input: Vec<u8> = (0..1_000_000u32).map(|i| (i % 251) as u8).collect();
    for protocol in ["v4.channel.k8s.io", "channel.k8s.io"] {
        let arguments =
            ["exec", "-i", "--transport", "spdy", "--protocol", protocol, "host", "--", "wc", "-c"];
        let output = run_with_input(&mut server.client(&arguments), &input).await;
        assert_eq!(stdout(&output).trim(), "1000000", "{protocol}: {}", stderr(&output));
    }
}

#[tokio::test]
async fn an_end_of_input_that_cannot_be_signalled_is_said() {
    let server = Server::start(&[]).await;
    let warning = "wsstream: warning: the end of input cannot be signalled over v4.channel.k8s.io";
    // The command ends by itself, having read a line.
    let arguments = [
        "exec",
        "-i",
        "--protocol",
        "v4.channel.k8s.io",
        "host",
        "--",
        "sh",
        "-c",
        "read line; sleep 0.2; echo $line",
    ];
    let output = run_with_input(&mut server.client(&arguments), b"x\n").await;
    assert_eq!((output.status.code(), stdout(&output).as_str()), (Some(0), "x\n"));
    assert_eq!(stderr(&output).matches(warning).count(), 1, "{}", stderr(&output));
    let quiet: Vec<&str> = [&["exec", "-q"], &arguments[1..]].concat();
    assert_eq!(stderr(&run_with_input(&mut server.client(&quiet), b"x\n").await), "");
}

/// kubectl exits 0 or 1 here, with or without a text, as the network has it.
#[tokio::test]
async fn a_server_that_dies_loses_the_session() {
    let mut server = Server::start(&[]).await;
    let mut session = server.client(&["exec", "-q", "host", "--", "sh", "-c", "echo up; exec sleep 1000"]);
    let mut session = session.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    timeout(LIMIT, session.stdout.as_mut().unwrap().read_exact(&mut up)).await.unwrap().unwrap();
    server.child.kill().await.unwrap();
    let output = timeout(LIMIT, session.wait_with_output()).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(254));
    let text = stderr(&output);
    assert!(text.starts_with("wsstream: lost: "), "also under --quiet: {text}");
    assert!(text.contains("3 bytes of output"), "how far it came: {text}");
}

#[tokio::test]
async fn an_output_that_nobody_reads_ends_us_like_any_filter() {
    let server = Server::start(&[]).await;
    let mut session = server.client(&["exec", "host", "--", "yes"]);
    let mut session = session.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut reader = session.stdout.take().unwrap();
    reader.read_exact(&mut [0; 2]).await.unwrap();
    drop(reader);
    let output = timeout(LIMIT, session.wait_with_output()).await.expect("it ends").unwrap();
    assert_eq!(output.status.code(), Some(141));
    assert_eq!(stderr(&output), "");
}

#[tokio::test]
async fn signals_end_the_session_and_are_named() {
    let server = Server::start(&[]).await;
    for (signal, name, code) in [
        (Signal::INT, "SIGINT", 130),
        (Signal::TERM, "SIGTERM", 143),
        (Signal::HUP, "SIGHUP", 129),
        (Signal::QUIT, "SIGQUIT", 131),
    ] {
        let mut session = server.client(&["exec", "host", "--", "sh", "-c", "echo up; exec sleep 1000"]);
        let mut session = session.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        timeout(LIMIT, session.stdout.as_mut().unwrap().read_exact(&mut [0; 3])).await.unwrap().unwrap();
        signal_child(&session, signal);
        let output = timeout(LIMIT, session.wait_with_output()).await.expect("it ends").unwrap();
        assert_eq!(output.status.code(), Some(code), "{name}");
        assert_eq!(stderr(&output), format!("wsstream: interrupted by {name}\n"));
    }
}

/// The argument vector travels in a URL; without this the request would go out without its query.
#[tokio::test]
async fn a_command_that_is_too_long_is_refused_here() {
    let server = Server::start(&[]).await;
    let long = "x".repeat(70_000);
    let output = server.exec(&["host", "--", "echo", &long]).await;
    assert_eq!(output.status.code(), Some(2));
    assert!(stderr(&output).starts_with("wsstream: the command is too long"), "{}", stderr(&output));
    let output = server.exec(&["host", "--", "echo", &long[..50_000]]).await;
    assert_eq!(stdout(&output).len(), 50_001, "{}", stderr(&output));
}

#[tokio::test]
async fn arguments_arrive_as_they_were_typed() {
    let server = Server::start(&[]).await;
    let words = ["a b", "", "ü&=+%20", "$HOME *", "-x", "--", "line\nbreak", "q\"'"];
    let arguments = [&["host", "--", "printf", "[%s]"], &words[..]].concat();
    let output = server.exec(&arguments).await;
    assert_eq!(stdout(&output), words.iter().map(|word| format!("[{word}]")).collect::<String>());
}
