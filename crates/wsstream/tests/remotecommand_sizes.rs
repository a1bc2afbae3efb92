//! Terminal sizes: what a handler sees of channel 4, and that sizes hold nothing up.

#![cfg(all(feature = "client", feature = "server"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
#![allow(clippy::type_complexity, reason = "rows of tables are tuples")]

mod common;
#[path = "common/web.rs"]
mod web;

use std::time::Duration;

use common::soon;
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use web::{exec_peer, exec_server};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams, TerminalSize};

const SUCCESS: &[u8] = b"\x03{\"metadata\":{},\"status\":\"Success\"}";

/// What comes in goes out; sizes are not looked at.
async fn cat(_: Request, mut streams: Streams) -> Result<ExitCode, Failure> {
    let stdin = streams.stdin.as_mut().unwrap();
    tokio::io::copy(stdin, streams.stdout.as_mut().unwrap()).await.map_err(Failure::internal)?;
    Ok(ExitCode(0))
}

/// 1 and 65535 arrive, 0 and 65536 are dropped and counted and the next one arrives: no terminal has such a size, and
/// one bad message should not end the resizing.
#[tokio::test]
async fn terminal_sizes() {
    let (sender, mut sizes) = mpsc::channel(100);
    let watch = move |_: Request, mut streams: Streams| {
        let sender = sender.clone();
        async move {
            let mut resize = streams.resize.take().unwrap();
            while let Some(size) = resize.next().await {
                sender.send(size).await.unwrap();
            }
            Ok(ExitCode(0))
        }
    };
    let (address, mut reports) = exec_server(watch).await;
    for protocol in ["v5.channel.k8s.io", "channel.k8s.io"] {
        // The size may come before the session is ready.
        let mut peer = exec_peer(address, "command=sh&stdin=1&stdout=1&tty=1", protocol).await;
        let rows: [(&[u8], &[(u16, u16)]); 10] = [
            (b"{\"Width\":80,\"Height\":24}\n", &[(80, 24)]),
            (b"{\"Width\":1,\"Height\":65535}", &[(1, 65535)]),
            (b"{\"Width\":0,\"Height\":24}\n", &[]),
            (b"{\"Width\":80,\"Height\":65536}\n", &[]),
            (b"{\"Width\":-1,\"Height\":\"24\"}\n", &[]),
            (b"not JSON at all\n", &[]),
            (b"{\"height\":40,\"width\":120}{\"Width\":2,\"Height\":3}", &[(120, 40), (2, 3)]),
            (b"{\"Wid", &[]),
            (b"th\":7,\"Height\":8}", &[(7, 8)]),
            (b"{ \"width\": 65535, \"HEIGHT\": 1 }\n", &[(65535, 1)]),
        ];
        for (message, expect) in rows {
            peer.send_binary(&[b"\x04", message].concat()).await;
            for (width, height) in expect {
                assert_eq!(soon(sizes.recv()).await, TerminalSize::new(*width, *height));
            }
        }
        peer.expect_binary(&[1]).await;
        // No more sizes: the session's input is at its end.
        peer.close(1000).await;
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!(report.result, Some(Ok(ExitCode(0))));
        assert_eq!(report.dropped_sizes, 4);
    }
}

/// Sizes that nobody takes wedge upstream's server; here they hold nothing up, with a terminal or without.
#[tokio::test]
async fn sizes_that_nobody_takes_hold_nothing_up() {
    for tty in ["&tty=1", ""] {
        let (address, mut reports) = exec_server(cat).await;
        let query = format!("command=cat&stdin=1&stdout=1{tty}");
        let mut peer = exec_peer(address, &query, "v5.channel.k8s.io").await;
        peer.expect_binary(&[1]).await;
        for n in 1..=2000 {
            peer.send_binary(format!("\x04{{\"Width\":{n},\"Height\":24}}\n").as_bytes()).await;
        }
        peer.send_binary(b"\x00still here").await;
        peer.expect_binary(b"\x01still here").await;
        peer.send_binary(&[255, 0]).await;
        peer.expect_binary(SUCCESS).await;
        peer.expect_close(1000).await;
        peer.shutdown().await;
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!(report.dropped_sizes, 0);
        assert_eq!(report.stats.dropped.not_read, if tty.is_empty() { 2000 } else { 0 });
    }
}

/// kubectl's attach sends a size that is one too large and then the right one: a handler that is late sees both.
#[tokio::test]
async fn a_late_handler_sees_the_newest_sizes() {
    let (address, mut reports) = exec_server(async |_: Request, mut streams: Streams| {
        // All of the sizes are in by the time that the input is.
        let input = streams.stdin.as_mut().unwrap().read_u8().await.unwrap();
        let mut resize = streams.resize.take().unwrap();
        let (mut last, mut count) = (None, 0);
        while let Ok(Some(size)) = tokio::time::timeout(Duration::from_millis(20), resize.next()).await {
            (last, count) = (Some(size), count + 1);
        }
        assert_eq!((input, last), (b'x', TerminalSize::new(100, 24)));
        Ok(ExitCode(count))
    })
    .await;
    let mut peer = exec_peer(address, "command=sh&stdin=1&stdout=1&tty=1", "v5.channel.k8s.io").await;
    for n in 1..=100 {
        peer.send_binary(format!("\x04{{\"Width\":{n},\"Height\":24}}\n").as_bytes()).await;
    }
    peer.send_binary(b"\x00x").await;
    peer.expect_binary(&[1]).await;
    let Some(Ok(ExitCode(count))) = soon(async {
        peer.next_message().await;
        peer.shutdown().await;
        reports.recv().await.unwrap().result
    })
    .await
    else {
        panic!("failed")
    };
    assert!((2..50).contains(&count), "{count} sizes were kept");
}
