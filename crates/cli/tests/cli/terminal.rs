//! `wsstream exec -it` on a real terminal: sizes, keys, and a terminal that is as it was afterwards.

use crate::support::{Server, Tty, eventually, run_with_input, signal_child, stderr, stdout};
use rustix::process::Signal;

async fn shell(server: &Server, width: u16, height: u16) -> Tty {
    let command = server.client(&["exec", "-it", "host", "--", "sh", "-c", "echo ready; exec sh"]);
    let mut tty = Tty::start(&command, width, height);
    tty.expect("ready\r\n").await;
    assert_ne!(tty.settings(), tty.found, "raw while the session lasts");
    tty
}

#[tokio::test]
async fn sizes_follow_the_terminal() {
    let server = Server::start(&[]).await;
    let mut tty = shell(&server, 111, 33).await;
    tty.type_in("stty size\r").await;
    tty.expect("33 111\r\n").await;
    tty.type_in("trap 'stty size' WINCH\r").await;
    tty.resize(97, 42);
    // The size travels while we type; ask until it is there.
    tty.type_in("until test \"$(stty size)\" = \"42 97\"; do sleep 0.02; done; echo same\r").await;
    tty.expect("same\r\n").await;
    tty.type_in("exit 3\r").await;
    assert_eq!(tty.ended().await.code(), Some(3));
    assert_eq!(tty.settings(), tty.found);
}

#[tokio::test]
async fn control_keys_are_the_commands() {
    let server = Server::start(&[]).await;
    let mut tty = shell(&server, 80, 24).await;
    tty.type_in("sh -c 'trap \"echo caught; exit\" INT; echo wait\"ing\"; while :; do sleep 0.05; done'\r")
        .await;
    // Printed by the command, not by the echo of the line, which has a quote in it.
    tty.expect("waiting\r\n").await;
    tty.type_in("\x03").await;
    tty.expect("caught\r\n").await;
    tty.type_in("echo on $((1 + 1)) go\r").await;
    tty.expect("on 2 go\r\n").await;
    tty.type_in("\x04").await;
    assert_eq!(tty.ended().await.code(), Some(0), "the shell took Ctrl-D for its end of input");
    assert_eq!(tty.settings(), tty.found);
}

#[tokio::test]
async fn signals_leave_the_terminal_as_it_was() {
    let server = Server::start(&[]).await;
    for (signal, code) in [
        (Signal::TERM, 143),
        (Signal::HUP, 129),
        (Signal::INT, 130),
        (Signal::QUIT, 131),
        (Signal::ABORT, 134),
        (Signal::USR1, 138),
        (Signal::USR2, 140),
        (Signal::ALARM, 142),
        (Signal::XCPU, 152),
        (Signal::PROF, 155),
        (Signal::IO, 157),
    ] {
        let mut tty = shell(&server, 80, 24).await;
        signal_child(&tty.child, signal);
        assert_eq!(tty.ended().await.code(), Some(code), "{signal:?}");
        assert_eq!(tty.settings(), tty.found, "{signal:?}");
    }
}

/// No name in Rust's libraries, so they are sent by number.
#[tokio::test]
async fn real_time_signals_leave_the_terminal_as_it_was() {
    let server = Server::start(&[]).await;
    for number in [40, 64] {
        let mut tty = shell(&server, 80, 24).await;
        let send = format!("kill -{number} {}", tty.child.id().unwrap());
        let sent = tokio::process::Command::new("sh").args(["-c", &send]).status().await.unwrap();
        assert!(sent.success());
        assert_eq!(tty.ended().await.code(), Some(128 + number));
        assert_eq!(tty.settings(), tty.found, "{number}");
    }
}

#[tokio::test]
async fn a_lost_session_leaves_the_terminal_as_it_was() {
    let mut server = Server::start(&[]).await;
    let mut tty = shell(&server, 80, 24).await;
    server.child.kill().await.unwrap();
    tty.expect("wsstream: lost: ").await;
    assert_eq!(tty.ended().await.code(), Some(254));
    assert_eq!(tty.settings(), tty.found);
}

#[tokio::test]
async fn a_refusal_leaves_the_terminal_as_it_was() {
    let server = Server::start(&[]).await;
    let mut tty = Tty::start(&server.client(&["exec", "-it", "nope", "--", "sh"]), 80, 24);
    tty.expect("Error from server (NotFound): pods \"nope\" not found\r\n").await;
    assert_eq!(tty.ended().await.code(), Some(1));
    assert_eq!(tty.settings(), tty.found);
}

/// A shell puts its own settings back while a job is stopped; the job has to make the terminal raw again.
#[tokio::test]
async fn raw_again_after_a_stop() {
    let server = Server::start(&[]).await;
    let mut tty = shell(&server, 80, 24).await;
    let raw = tty.settings();
    tty.set_sane();
    assert_ne!(tty.settings(), raw);
    signal_child(&tty.child, Signal::STOP);
    signal_child(&tty.child, Signal::CONT);
    eventually("the terminal is raw again", || tty.settings() == raw).await;
    tty.type_in("exit\r").await;
    assert_eq!(tty.ended().await.code(), Some(0));
    assert_eq!(tty.settings(), tty.found);
}

#[tokio::test]
async fn no_terminal_means_no_terminal_there() {
    let server = Server::start(&[]).await;
    let mut command = server.client(&["exec", "-it", "host", "--", "sh", "-c", "tty; cat"]);
    let output = run_with_input(&mut command, b"piped\n").await;
    assert_eq!(stdout(&output), "not a tty\npiped\n");
    assert_eq!(stderr(&output), "Unable to use a TTY - input is not a terminal or the right kind of file\n");
    let output = run_with_input(&mut server.client(&["exec", "-t", "host", "--", "tty"]), b"").await;
    assert_eq!(stdout(&output), "not a tty\n");
    assert_eq!(stderr(&output), "wsstream: warning: -t has no effect without -i\n");
}

#[tokio::test]
async fn what_is_typed_while_connecting_is_not_lost() {
    let server = Server::start(&[]).await;
    let mut tty = Tty::start(&server.client(&["exec", "-it", "host", "--", "sh"]), 80, 24);
    tty.type_in("echo early$((1 + 1))bird\n").await;
    tty.expect("early2bird\r\n").await;
    tty.type_in("exit\r").await;
    assert_eq!(tty.ended().await.code(), Some(0));
}
