//! Too much and too slow. What is limited is told; whoever is in stays in.

use crate::fixture::{EXEC, PATIENCE, Target};
use crate::wire::{answer, frame};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A session of `cat`, and proof that it lives: a word comes back.
struct Cat(TcpStream);

impl Cat {
    async fn start(target: &Target) -> Self {
        let mut socket = TcpStream::connect(target.address).await.unwrap();
        let token = format!("Authorization: Bearer {}\r\n", target.tokens.admin);
        let request = target.websocket(&format!("{EXEC}?command=cat&stdin=true&stdout=true"), &token);
        socket.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(answer(&mut socket).await.unwrap().code, 101);
        Self(socket)
    }

    async fn echoes(&mut self) {
        self.0.write_all(&frame(2, b"\0word")).await.unwrap();
        let mut seen = Vec::new();
        let read = async {
            while !seen.ends_with(b"\x01word") {
                seen.push(self.0.read_u8().await.expect("the session was cut"));
            }
        };
        timeout(PATIENCE, read).await.expect("the session stands still");
    }
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let mut target = Target::start(&[]).await;
    let admin = target.tokens.admin.clone();
    let long = |bytes: usize| "x".repeat(bytes);
    let line = |path: &str, more: &str| {
        format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {admin}\r\n{more}\r\n",
            target.address
        )
    };
    for (name, request, code) in [
        ("a long header", line("/api", &format!("X: {}\r\n", long(200_000))), 431),
        ("many headers", line("/api", &"X: y\r\n".repeat(20_000)), 431),
        ("a long target", line(&format!("/{}", long(70_000)), ""), 414),
        (
            "a long token",
            format!(
                "GET /api HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\r\n",
                target.address,
                long(60_000)
            ),
            401,
        ),
    ] {
        let found = target.send(&request).await;
        assert!(found.as_ref().is_some_and(|answer| answer.code == code), "{name}: {found:?}");
    }
    target.goes_on().await;
}

#[tokio::test]
async fn slow_heads_and_handshakes_are_given_up_and_delay_nobody() {
    let mut target = Target::start(&[]).await;
    let mut secure = Target::start_with(&[], "info").await;
    let mut cat = Cat::start(&target).await;
    let started = Instant::now();
    let mut slow = Vec::new();
    for (address, start) in [(target.address, &b"GET /api HT"[..]), (secure.address, &[22, 3, 1, 2, 0][..])] {
        for _ in 0..20 {
            let mut socket = TcpStream::connect(address).await.unwrap();
            socket.write_all(start).await.unwrap();
            slow.push(socket);
        }
    }
    target.goes_on().await;
    cat.echoes().await;
    for socket in &mut slow {
        let mut rest = Vec::new();
        // A byte now and then buys no time.
        let _ = socket.write_all(b"T").await;
        let _ =
            timeout(PATIENCE, socket.read_to_end(&mut rest)).await.expect("a slow client is kept for ever");
    }
    assert!(started.elapsed() < Duration::from_secs(25), "{:?}", started.elapsed());
    target.goes_on().await;
    cat.echoes().await;
    assert!(secure.child.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn a_flood_of_connections_waits_outside_and_harms_no_session() {
    let mut target = Target::start(&["--max-connections", "8"]).await;
    let mut cat = Cat::start(&target).await;
    let mut flood = Vec::new();
    // As many as wait in the kernel; further ones wait in theirs.
    for _ in 0..100 {
        flood.push(TcpStream::connect(target.address).await.unwrap());
    }
    for _ in 0..5 {
        cat.echoes().await;
    }
    drop(flood);
    target.goes_on().await;
    cat.echoes().await;
    let descriptors =
        || std::fs::read_dir(format!("/proc/{}/fd", target.child.id().unwrap())).unwrap().count();
    crate::support::eventually("descriptors are not given back", || descriptors() < 60).await;
}

/// They took every place, for as long as a stranger is given.
#[tokio::test]
async fn one_address_alone_cannot_keep_the_others_out() {
    let mut target = Target::start(&["--max-connections", "40"]).await;
    let mut cats = Vec::new();
    // Who has been let in does not count: more of them than strangers may be.
    for _ in 0..12 {
        cats.push(Cat::start(&target).await);
    }
    let mut flood = Vec::new();
    for _ in 0..60 {
        flood.push(TcpStream::connect(target.address).await.unwrap());
    }
    // A quarter of 40 are heard, and the others closed at once.
    let mut closed = 0;
    for socket in &mut flood {
        closed += usize::from(timeout(Duration::from_millis(500), socket.read_u8()).await.is_ok());
        if closed == 50 {
            break;
        }
    }
    assert_eq!(closed, 50);
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = other.connect(target.address).await.unwrap();
    let token = format!("Authorization: Bearer {}\r\n", target.tokens.admin);
    let request = target.websocket(&format!("{EXEC}?command=cat&stdin=true&stdout=true"), &token);
    other.write_all(request.as_bytes()).await.unwrap();
    assert_eq!(answer(&mut other).await.unwrap().code, 101, "another address finds a place");
    for cat in &mut cats {
        cat.echoes().await;
    }
    drop(flood);
    // Until it has seen that they are gone, one more is one too many.
    let started = Instant::now();
    while target.send(&target.websocket("/api", &token)).await.is_none() {
        assert!(started.elapsed() < PATIENCE, "the address is kept out for ever");
    }
    target.goes_on().await;
}
