//! The tools of the chaos sweeps: what they claim about bytes, places and plans.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use wsstream_proto::subprotocol::Subprotocol;
use wsstream_testing::chaos::frames::Frames;
use wsstream_testing::chaos::lane::Lane;
use wsstream_testing::chaos::link::link;
use wsstream_testing::chaos::oracle::{Claim, Seen, judge};
use wsstream_testing::chaos::{At, Checker, Content, Fault, Plan, Proxy, Script, Verdict, Way};

#[test]
fn a_plan_is_its_line() {
    for seed in 0..2000 {
        let plan = Plan::random(seed, 5000, 90_000);
        assert_eq!(plan.to_string().parse::<Plan>().as_ref(), Ok(&plan));
        assert_eq!(Plan::random(seed, 5000, 90_000), plan, "a seed is a plan");
    }
    let line = "seed=7 up@120:fin down@f3+1:flip=08 down:split=5";
    assert_eq!(line.parse::<Plan>().unwrap().to_string(), line);
    assert!("up@x:fin".parse::<Plan>().is_err());
    assert!("up@1:frob".parse::<Plan>().is_err());
}

#[test]
fn content_is_the_same_from_every_offset_and_a_checker_sees_every_change() {
    let content = Content::new(7, 1);
    let whole = content.bytes(0, 1000);
    assert_eq!(content.bytes(313, 100), whole[313..413]);
    assert_ne!(Content::new(7, 2).bytes(0, 1000), whole);
    let feed = |bytes: &[u8]| {
        let mut checker = Checker::new(content, 1000);
        bytes.chunks(77).for_each(|part| checker.feed(part));
        (checker.is_complete(), checker.wrong())
    };
    assert_eq!(feed(&whole), (true, None));
    assert_eq!(feed(&whole[..999]), (false, None));
    assert_eq!(feed(&content.bytes(0, 1001)), (false, Some(1000)));
    let mut changed = whole.clone();
    changed[500] ^= 1;
    assert_eq!(feed(&changed), (false, Some(500)));
    let mut doubled = whole.clone();
    doubled.insert(300, whole[299]);
    assert!(feed(&doubled).1.is_some());
}

#[test]
fn lines_say_where_they_stand_and_a_late_checker_sees_every_gap() {
    let content = Content::lines(0xabc_def0_1234);
    let whole = content.bytes(0, 1600);
    assert_eq!(&whole[16..32], b"ef01234 0000001\n");
    assert_eq!(content.bytes(333, 100), whole[333..433]);
    let shown = Content::lines_on_a_terminal(0xabc_def0_1234);
    assert_eq!(shown.bytes(0, 1700), String::from_utf8_lossy(&whole).replace('\n', "\r\n").into_bytes());
    let feed = |bytes: &[u8], step| {
        let mut checker = Checker::late(content, 1600);
        bytes.chunks(step).for_each(|part| checker.feed(part));
        assert_eq!(checker.seen(), bytes.len() as u64);
        (checker.is_complete(), checker.wrong())
    };
    for step in [1, 7, 1000] {
        for from in 0..=1600 {
            assert_eq!(feed(&whole[from..], step), (true, None), "from {from}");
        }
        assert_eq!(feed(&whole[100..1599], step), (false, None));
        assert_eq!(feed(&[&whole[100..], b"x"].concat(), step), (false, Some(1600)));
        assert_eq!(feed(&[&whole[100..600], &whole[616..]].concat(), step).1, Some(606), "a line is missing");
        assert_eq!(feed(&[&whole[100..600], &whole[584..]].concat(), step).1, Some(606), "a line came twice");
        assert!(!feed(&[&whole[100..120], &whole[130..]].concat(), step).0, "a gap at the start");
    }
}

#[test]
fn frames_are_found_behind_the_head_that_upgrades() {
    let mut wire = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}".to_vec();
    wire.extend(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n");
    let mut expected = vec![wire.len()];
    for frame in [&[0x82, 1, 1][..], &[0x82, 0x83, 1, 2, 3, 4, 9, 9, 9], &[0x89, 0]] {
        wire.extend(frame);
        expected.push(wire.len());
    }
    wire.extend([0x82, 126, 1, 0]);
    wire.extend([0; 256]);
    expected.push(wire.len());
    for step in [1, 3, 1000] {
        let mut frames = Frames::default();
        let (mut at, mut found) = (0, Vec::new());
        while at < wire.len() {
            let seen = frames.seen();
            at += frames.follow(&wire[at..wire.len().min(at + step)]);
            if frames.seen() > seen {
                found.push(at);
            }
        }
        assert_eq!(found, expected);
    }
}

#[test]
fn faults_happen_at_their_places() {
    let head = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let wire = [&head[..], &[0x82, 2, 1, b'a', 0x82, 2, 1, b'b']].concat();
    let plan: Plan = "down@f1+1:flip=ff down@3:stall=1 down@f2:rst".parse().unwrap();
    for step in [1, 5, 1000] {
        let mut lane = Lane::new(&plan, Way::Down);
        let (mut out, mut faults) = (Vec::new(), Vec::new());
        for part in wire.chunks(step) {
            let mut at = 0;
            loop {
                let (used, fault) = lane.process(&part[at..], &mut out);
                at += used;
                match fault {
                    Some(fault) => faults.push((out.len(), fault)),
                    None => break,
                }
            }
        }
        let mut expected = wire.clone();
        expected[head.len() + 5] ^= 0xff;
        assert_eq!(out, expected);
        let stall = Fault::Stall(Some(Duration::from_millis(1)));
        assert_eq!(faults, [(3, stall), (wire.len(), Fault::Reset)]);
        assert_eq!(lane.fired(), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn a_wire_in_memory_does_what_tcp_may_do() {
    // Cut: what passed is read, then the end; the writer is refused.
    let (mut client, mut server) = link(&Plan::one(Way::Up, At::Byte(3), Fault::Fin), 100);
    client.write_all(b"hello").await.unwrap();
    let mut text = String::new();
    server.read_to_string(&mut text).await.unwrap();
    assert_eq!(text, "hel");
    assert!(client.write_all(b"x").await.is_err());
    // Half-closed: the other direction goes on.
    let (mut client, mut server) = link(&Plan::one(Way::Up, At::Byte(0), Fault::HalfClose), 100);
    assert_eq!(server.read(&mut [0; 9]).await.unwrap(), 0);
    server.write_all(b"still").await.unwrap();
    client.write_all(b"void").await.unwrap();
    assert_eq!(client.read(&mut [0; 9]).await.unwrap(), 5);
    // Stalled, and on again.
    let stall = Fault::Stall(Some(Duration::from_secs(60)));
    let (mut client, mut server) = link(&Plan::one(Way::Down, At::Byte(2), stall), 100);
    let started = tokio::time::Instant::now();
    server.write_all(b"abcd").await.unwrap();
    let mut four = [0; 4];
    client.read_exact(&mut four).await.unwrap();
    assert_eq!((four, started.elapsed().as_secs()), (*b"abcd", 60));
    // An end that is dropped with bytes unread resets its peer, and what that had not read is gone.
    let (mut client, mut server) = link(&Plan::smooth(), 100);
    client.write_all(b"unread").await.unwrap();
    server.write_all(b"lost").await.unwrap();
    drop(server);
    assert_eq!(client.read(&mut [0; 9]).await.unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn the_proxy_cuts_as_tcp_does() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let upstream = listener.local_addr().unwrap();
    for (line, kind) in [
        ("up@5:fin", None),
        ("up@5:rst", Some(std::io::ErrorKind::ConnectionReset)),
        ("up@5:half down:split=1", None),
    ] {
        let proxy = Proxy::start(upstream, line.parse().unwrap()).await.unwrap();
        let mut client = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut server, _) = listener.accept().await.unwrap();
        client.write_all(b"0123456789").await.unwrap();
        let mut got = Vec::new();
        match (kind, server.read_to_end(&mut got).await) {
            (None, Ok(_)) => assert_eq!(got, b"01234"),
            (Some(kind), Err(error)) => assert_eq!(error.kind(), kind),
            (expected, result) => panic!("{line}: {expected:?} expected, got {result:?}"),
        }
        if line.contains("half") {
            server.write_all(b"answer").await.unwrap();
            let mut answer = [0; 6];
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(&answer, b"answer");
        } else {
            let ended = client.read(&mut [0; 9]).await;
            assert!(matches!(ended, Ok(0) | Err(_)), "{line}: {ended:?}");
        }
        assert_eq!(proxy.record().fired, 1, "{line}");
    }
}

/// It once passed a reset on as soon as it could not write to the server any more, ahead of what the server had sent:
/// that made losses out of sessions whose wire nobody had cut.
#[tokio::test]
async fn what_a_server_sent_before_its_reset_arrives() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let slow = "down:split=4096 down:delay=10".parse().unwrap();
    let proxy = Proxy::start(listener.local_addr().unwrap(), slow).await.unwrap();
    let client = TcpStream::connect(proxy.address()).await.unwrap();
    let (mut server, _) = listener.accept().await.unwrap();
    let (mut reads, mut writes) = client.into_split();
    let flood = tokio::spawn(async move { while writes.write_all(&[b'.'; 4096]).await.is_ok() {} });
    // Closed with input unread: a reset, behind bytes that the other end's kernel has.
    server.readable().await.unwrap();
    server.write_all(&[b'x'; 40_000]).await.unwrap();
    drop(server);
    let mut got = Vec::new();
    let _ = reads.read_to_end(&mut got).await;
    assert_eq!(got.len(), 40_000);
    // The client learns all the same that nobody listens.
    tokio::time::timeout(Duration::from_secs(20), flood).await.unwrap().unwrap();
}

/// A judge that never says no is none.
#[test]
fn the_judge_knows_lies() {
    let script = Script { stdout: 10, ..Script::output(1, Subprotocol::V5, 10) };
    let seen = |claim, came: usize| {
        let mut stdout = script.checker(1);
        stdout.feed(&script.content(1).bytes(0, came));
        Seen {
            claim,
            stdout,
            stderr: script.checker(2),
            fired: 1,
            harmless: false,
            blind: false,
            wrongs: Vec::new(),
        }
    };
    let is_lie = |seen: &Seen| matches!(judge(&script, seen), Verdict::Lie(_));
    assert_eq!(judge(&script, &seen(Claim::Exited(0), 10)), Verdict::Complete);
    assert_eq!(judge(&script, &seen(Claim::Lost("cut".into()), 4)), Verdict::Reported);
    assert!(is_lie(&seen(Claim::Exited(0), 9)), "the tail is missing");
    assert!(is_lie(&seen(Claim::Exited(0), 11)), "a byte too many");
    assert!(is_lie(&seen(Claim::Exited(7), 10)), "not the exit code");
    assert!(is_lie(&seen(Claim::Ended, 10)), "no status");
    assert!(is_lie(&seen(Claim::Hung, 10)));
    assert!(is_lie(&Seen { fired: 0, ..seen(Claim::Lost("why?".into()), 4) }), "nothing happened");
    assert!(is_lie(&Seen { wrongs: vec!["panic".into()], ..seen(Claim::Exited(0), 10) }));
    let mut other = seen(Claim::Lost("cut".into()), 0);
    other.stdout.feed(b"other bytes");
    assert!(is_lie(&other), "lost, but altered");
}
