//! What is sent inside of a session, or becomes part of a command.

use crate::fixture::{EXEC, Target};
use crate::wire::{answer, channels, frame};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

/// Runs a command as the one who may, with the frames sent behind the upgrade.
async fn run(target: &Target, query: &str, frames: &[Vec<u8>]) -> [String; 5] {
    let mut socket = TcpStream::connect(target.address).await.unwrap();
    let token = format!("Authorization: Bearer {}\r\n", target.tokens.admin);
    let request = target.websocket(&format!("{EXEC}?{query}"), &token);
    socket.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut socket).await.unwrap().code, 101);
    for frame in frames {
        socket.write_all(frame).await.unwrap();
    }
    channels(&mut socket).await
}

#[tokio::test]
async fn arguments_are_arguments_and_no_shell_sees_them() {
    let mut target = Target::start(&[]).await;
    let marker = target.marker();
    let path = marker.display();
    let hostile = [
        format!("; touch {path}"),
        format!("$(touch {path})"),
        format!("`touch {path}`"),
        format!("| touch {path}"),
        format!("\ntouch {path}\n"),
        "*".to_owned(),
        "$HOME".to_owned(),
        "-n".to_owned(),
        "\u{1b}[31m".to_owned(),
    ];
    let encode = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
    let arguments: String = hostile.iter().map(|word| format!("&command={}", encode(word))).collect();
    let format = encode("<%s>");
    let found = run(&target, &format!("command=printf&command={format}{arguments}&stdout=true"), &[]).await;
    let expected: String = hostile.iter().map(|word| format!("<{word}>")).collect();
    assert_eq!(found[1], expected);
    target.nothing_ran(&marker, "an argument").await;
}

#[tokio::test]
async fn a_request_sets_no_environment_and_no_terminal() {
    let target = Target::start(&[]).await;
    let query = "command=sh&command=-c&command=echo%20%22%24TERM%7C%24LD_PRELOAD%7C%24X%22&stdout=true&tty=true\
                 &TERM=%24(id)&env=LD_PRELOAD%3D%2Ftmp%2Fx.so&env=X%3D1&LD_PRELOAD=%2Ftmp%2Fx.so&X=1";
    let found = run(&target, query, &[]).await;
    assert_eq!(found[1], "xterm||\r\n", "{found:?}");
}

#[tokio::test]
async fn a_nul_in_an_argument_is_refused_and_cuts_nothing_short() {
    let mut target = Target::start(&[]).await;
    let marker = target.marker();
    let query = format!("command=touch&command={}%00.harmless&stdout=true", marker.display());
    let mut socket = TcpStream::connect(target.address).await.unwrap();
    let token = format!("Authorization: Bearer {}\r\n", target.tokens.admin);
    socket.write_all(target.websocket(&format!("{EXEC}?{query}"), &token).as_bytes()).await.unwrap();
    let answer = answer(&mut socket).await.unwrap();
    if answer.code == 101 {
        let found = channels(&mut socket).await;
        assert!(found[3].contains("Failure"), "{found:?}");
    } else {
        assert_eq!(answer.code, 400, "{answer:?}");
    }
    target.nothing_ran(&marker, "an argument with a NUL").await;
}

#[tokio::test]
async fn a_hostile_resize_changes_no_terminal_and_ends_no_server() {
    let mut target = Target::start(&[]).await;
    let sizes = [
        "{\"Width\":99999999999999999999,\"Height\":1}",
        "{\"Width\":-1,\"Height\":-1}",
        "{\"Width\":0,\"Height\":0}",
        "{\"Width\":\"1\",\"Height\":null}",
        "{\"Width\":1e9,\"Height\":NaN}",
        "{\"Width\":80",
        "[[[[[[[[[[[[[[[[[[[[",
        "\u{0}\u{1b}[31m",
        "",
    ];
    // A good one first, which is waited for; then the others, then a word that says that they have been read.
    let resize = |text: &str| frame(2, &[&[4], text.as_bytes()].concat());
    let mut frames = vec![resize("{\"Width\":81,\"Height\":25}")];
    frames.extend(sizes.iter().map(|text| resize(text)));
    frames.push(frame(2, b"\0go\n"));
    let script = "read word; stty size";
    let encoded: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
    let query = format!("command=sh&command=-c&command={encoded}&stdin=true&stdout=true&tty=true");
    let found = run(&target, &query, &frames).await;
    assert!(
        found[1].ends_with("25 81\r\n") || found[1].ends_with("0 0\r\n") || found[3].contains("Failure"),
        "{found:?}"
    );
    target.goes_on().await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_their_session_alone() {
    let mut target = Target::start(&[]).await;
    let huge = [&[0x82, 0xff][..], &u64::MAX.to_be_bytes(), &[0; 4]].concat();
    let unmasked = vec![0x82, 0x02, 0x00, b'x'];
    let reserved = frame(0x0f, b"x");
    let fragmented_ping = vec![0x09, 0x80, 0, 0, 0, 0];
    for (name, bytes) in [
        ("a length of 2^64", huge),
        ("no mask", unmasked),
        ("an opcode", reserved),
        ("half a ping", fragmented_ping),
    ] {
        let marker = target.marker();
        let script = format!("cat; touch {}", marker.display());
        let encoded: String = script.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let query = format!("command=sh&command=-c&command={encoded}&stdin=true&stdout=true");
        let _ = run(&target, &query, &[bytes]).await;
        target.goes_on().await;
        let _ = name;
    }
}
