//! The tools themselves: a tool that cannot fail proves nothing.

#![allow(clippy::panic, clippy::expect_used, reason = "helpers of tests fail as tests do")]

use std::io::ErrorKind;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use wsstream_testing::http::{ACCEPT, Upgrade};
use wsstream_testing::peer::{RawFrame, opcode};
use wsstream_testing::{Message, Peer, Plan, Stall, awkward_pair};

/// The text of the panic that the future ends with.
async fn failure(future: impl Future) -> String {
    match AssertUnwindSafe(future).catch_unwind().await {
        Ok(_) => panic!("it did not fail"),
        Err(panic) => *panic.downcast::<String>().expect("a text"),
    }
}

#[tokio::test]
async fn an_awkward_wire_delivers_everything_in_order_and_records_it() {
    let (mut a, mut b) = awkward_pair(Plan::awkward(1, 7), Plan::awkward(2, 3), 16);
    let transcripts = (a.transcript(), b.transcript());
    let sent: Vec<u8> = (0..=255u8).cycle().take(2000).collect();
    let send = async {
        a.write_all(&sent).await.unwrap();
        a.shutdown().await.unwrap();
    };
    let mut got = Vec::new();
    let (_, n) = tokio::join!(send, b.read_to_end(&mut got));
    assert_eq!((n.unwrap(), &got), (2000, &sent));
    assert_eq!(transcripts.0.written(), sent);
    assert_eq!(transcripts.1.read(), sent);
    assert!(transcripts.0.was_shut_down() && !transcripts.1.was_shut_down());
}

#[tokio::test]
async fn a_wire_fails_and_ends_at_the_byte_that_was_asked_for() {
    let plan = Plan::smooth().write_fails_at(5, ErrorKind::ConnectionReset).read_ends_at(2);
    let (mut a, mut b) = awkward_pair(plan, Plan::smooth(), 64);
    assert_eq!(a.write_all(b"abcdefgh").await.unwrap_err().kind(), ErrorKind::ConnectionReset);
    b.write_all(b"xyz").await.unwrap();
    let mut got = Vec::new();
    a.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"xy");
    drop(a);
    got.clear();
    b.read_to_end(&mut got).await.unwrap();
    assert_eq!(got, b"abcde");
}

#[tokio::test(start_paused = true)]
async fn a_stall_holds_until_it_is_released() {
    let stall = Stall::held();
    let (mut a, mut b) = awkward_pair(Plan::smooth().stall_writes(&stall), Plan::smooth(), 64);
    let write = tokio::spawn(async move { a.write_all(b"abc").await.unwrap() });
    let mut got = [0; 3];
    assert!(tokio::time::timeout(Duration::from_secs(9), b.read_exact(&mut got)).await.is_err());
    assert!(stall.has_waiter());
    stall.release();
    b.read_exact(&mut got).await.unwrap();
    assert_eq!(&got, b"abc");
    write.await.unwrap();
}

#[tokio::test]
async fn two_peers_understand_each_other_over_an_awkward_wire() {
    let (a, b) = awkward_pair(Plan::awkward(3, 5), Plan::awkward(4, 5).vectored(false), 1 << 20);
    let (mut client, mut server) = (Peer::client(a), Peer::server(b).answer_pings());
    let long = vec![b'x'; 70_000];
    client.send_frame(false, opcode::BINARY, &[0]).await;
    client.ping(b"are you there").await;
    client.send_frame(true, opcode::CONTINUATION, b"abc").await;
    client.send_binary(&long).await;
    client.send_text("text").await;
    server.expect_binary(b"\0abc").await;
    server.expect_binary(&long).await;
    server.expect_text("text").await;
    client.expect_pong(b"are you there").await;
    server.send_binary(b"\x01ab").await;
    server.send_binary(b"\x01c").await;
    server.close(1000).await;
    server.shutdown().await;
    client.expect_stream(1, b"abc").await;
    assert_eq!(client.expect_close(1000).await, "");
    client.expect_eof().await;
    client.close_without_code().await;
    server.expect_close_without_code().await;
}

#[tokio::test(start_paused = true)]
async fn a_script_that_is_not_followed_fails_with_the_line_and_the_transcript() {
    let (a, b) = awkward_pair(Plan::smooth(), Plan::smooth(), 1024);
    let (mut client, mut server) = (Peer::client(a), Peer::server(b));
    client.send_binary(b"\x01abc").await;
    let line = line!() + 1;
    let text = failure(server.expect_binary(b"\x01abd")).await;
    assert!(text.contains(&format!("tools.rs:{line}:")), "{text}");
    assert!(text.contains(r#"expected binary 01 61 62 64 "\x01abd" (4 bytes)"#), "{text}");
    assert!(text.contains(r#"but got binary 01 61 62 63 "\x01abc" (4 bytes)"#), "{text}");
    assert!(text.contains("\n  < binary, masked: 01 61 62 63"), "{text}");
    let text = failure(server.expect_close(1000)).await;
    assert!(text.contains("expected close 1000") && text.contains("nothing for 5s"), "{text}");

    client.send_raw(&RawFrame::new(true, opcode::BINARY, b"naked").encode()).await;
    let text = failure(server.next_message()).await;
    assert!(text.contains("a client masks every frame"), "{text}");
    server.stop_reading();
    client.send_text("t").await;
    assert!(AssertUnwindSafe(server.next_message()).catch_unwind().await.is_err());
    server.start_reading();
    assert_eq!(server.next_message().await, Message::Text(b"t".to_vec()));
    drop(client);
    let text = failure(server.expect_ping(b"")).await;
    assert!(text.contains("the end of the stream"), "{text}");
}

#[tokio::test]
async fn an_upgrade_gives_a_peer_and_a_refusal_its_body() {
    let (a, mut b) = awkward_pair(Plan::awkward(5, 9), Plan::smooth(), 4096);
    let serve = async {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            b.read_buf(&mut head).await.unwrap();
        }
        let answer =
            format!("HTTP/1.1 101 X\r\nSec-WebSocket-Accept: {ACCEPT}\r\nSec-WebSocket-Protocol: p\r\n\r\n");
        b.write_all(answer.as_bytes()).await.unwrap();
        b.write_all(&RawFrame::new(true, opcode::TEXT, b"early").encode()).await.unwrap();
        String::from_utf8(head).unwrap()
    };
    let request = Upgrade::get("/x?y=z").subprotocol("p, q").without("host");
    let (answer, head) = tokio::join!(request.send(a), serve);
    assert!(head.starts_with("GET /x?y=z HTTP/1.1\r\nConnection: Upgrade\r\n"), "{head}");
    assert_eq!((answer.status.as_u16(), answer.subprotocol()), (101, Some("p")));
    answer.into_peer().await.expect_text("early").await;

    let (a, mut b) = awkward_pair(Plan::smooth(), Plan::smooth(), 4096);
    b.write_all(
        b"HTTP/1.1 403 Forbidden\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n",
    )
    .await
    .unwrap();
    let answer = Upgrade::get("/").send(a).await;
    assert_eq!(answer.status.as_u16(), 403);
    assert_eq!(answer.body().await, b"abcd");
}
