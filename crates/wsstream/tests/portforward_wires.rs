//! Port-forward over every wire: our client, our server and real sockets behind it.

#![cfg(all(feature = "client", feature = "server"))]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]

mod common;
#[path = "common/forward.rs"]
mod forward;
#[path = "common/web.rs"]
mod web;

use std::time::Duration;

use common::{pattern, soon, until};
use forward::{
    accept, closed_port, echo, forwarding, open, read_all, read_exact, stream_wires, target, wires,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use wsstream::portforward::client::{OpenError, Wire};
use wsstream::portforward::server::{Errors, Options};
use wsstream::portforward::{ForwardError, PortStream, Routes};

const MIB: usize = 1 << 20;

#[tokio::test]
async fn bytes_go_both_ways_over_every_wire() {
    let port = echo().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in wires(port) {
        let wire = attempt.wire();
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        for data in [pattern(1), pattern(100_000), pattern(MIB)] {
            let (mut reader, mut writer) = stream.split();
            let sent = data.clone();
            let send = async {
                writer.write_all(&sent).await.unwrap();
                writer.flush().await.unwrap();
                writer
            };
            let receive = async {
                let got = read_exact(&mut reader, data.len()).await;
                assert!(got == data, "{wire:?}: the bytes differ");
                reader
            };
            let (writer, reader) = tokio::join!(send, receive);
            // Together again for the next round.
            stream = PortStream::join(reader, writer);
        }
        drop(stream);
        assert!(session.close().await.is_orderly(), "{wire:?}");
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!((report.connections, report.failed), (1, 0), "{wire:?}: {report}");
    }
}

/// The client ends its direction, and then a long answer comes.
#[tokio::test]
async fn a_half_closed_client_gets_a_long_download() {
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let (listener, port) = target().await;
        let answer = pattern(16 * MIB);
        let expected = answer.clone();
        let serving = tokio::spawn(async move {
            let mut socket = accept(&listener).await;
            let question = read_all(&mut socket).await.unwrap();
            socket.write_all(&answer).await.unwrap();
            socket.shutdown().await.unwrap();
            question
        });
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        stream.send("question".into()).await.unwrap();
        stream.close().unwrap();
        let got = read_all(&mut stream).await.unwrap();
        assert!(got == expected);
        assert_eq!(soon(serving).await.unwrap(), b"question");
        drop(stream);
        assert!(session.close().await.is_orderly());
    }
}

/// The server's end does not end what the client still has to say.
#[tokio::test]
async fn a_server_that_ends_first_still_gets_the_upload() {
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let (listener, port) = target().await;
        let serving = tokio::spawn(async move {
            let mut socket = accept(&listener).await;
            socket.write_all(b"bye").await.unwrap();
            socket.shutdown().await.unwrap();
            read_all(&mut socket).await.unwrap()
        });
        let session = open(address, attempt).await;
        let mut connection = soon(session.forward.connect(port)).await.unwrap();
        assert_eq!(read_all(&mut connection.stream).await.unwrap(), b"bye");
        // Nothing went wrong so far, and the client is told at once: kubectl before 1.32 closes its side only then.
        assert_eq!(soon(connection.report.wait()).await, None);
        let upload = pattern(4 * MIB);
        connection.stream.write_all(&upload).await.unwrap();
        connection.stream.close().unwrap();
        assert!(soon(serving).await.unwrap() == upload);
        drop(connection);
        assert!(session.close().await.is_orderly());
        assert_eq!(soon(reports.recv()).await.unwrap().failed, 0);
    }
}

#[tokio::test]
async fn a_server_may_speak_first() {
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    let (listener, port) = target().await;
    let serving = tokio::spawn(async move {
        for _ in 0..4 {
            let mut socket = accept(&listener).await;
            socket.write_all(b"220 ready\r\n").await.unwrap();
            assert_eq!(read_exact(&mut socket, 6).await, b"QUIT\r\n");
        }
    });
    for attempt in wires(port) {
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        assert_eq!(read_exact(&mut stream, 11).await, b"220 ready\r\n");
        stream.send("QUIT\r\n".into()).await.unwrap();
        // Both directions end, over channels with the session.
        assert_eq!(read_all(&mut stream).await.unwrap(), b"");
        session.close().await;
    }
    soon(serving).await.unwrap();
}

/// A refused port beside a running download: the one ends, the other one does not notice.
#[tokio::test]
async fn a_refused_connection_ends_no_other() {
    for errors in [Errors::Reset, Errors::Report] {
        let mut options = Options::default();
        options.errors = errors;
        let (address, mut reports) = forwarding(Routes::loopback(), options).await;
        let refused = closed_port().await;
        for attempt in stream_wires() {
            let (listener, port) = target().await;
            let session = open(address, attempt).await;
            let mut running = session.connect(port).await;
            let mut socket = accept(&listener).await;
            socket.write_all(&pattern(MIB)).await.unwrap();
            for _ in 0..3 {
                let mut connection = soon(session.forward.connect(refused)).await.unwrap();
                let error = read_all(&mut connection.stream).await.unwrap_err();
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
                let text = soon(connection.report.wait()).await;
                match errors {
                    Errors::Reset => assert_eq!(text, None),
                    Errors::Report => {
                        let text = text.unwrap();
                        assert!(text.starts_with(&format!("error forwarding port {refused}: cannot connect to 127.0.0.1:{refused} or [::1]:{refused}: ")), "{text}");
                    }
                }
            }
            let writing = tokio::spawn(async move {
                socket.write_all(&pattern(MIB)).await.unwrap();
            });
            let got = read_all(&mut running).await.unwrap();
            soon(writing).await.unwrap();
            assert!(got == [pattern(MIB), pattern(MIB)].concat());
            drop(running);
            assert!(session.close().await.is_orderly());
            let report = soon(reports.recv()).await.unwrap();
            assert_eq!((report.connections, report.failed), (4, 3), "{report}");
        }
    }
}

/// A client that aborts in mid-download: its target learns of it, the other connections go on.
#[tokio::test]
async fn an_abort_in_mid_download_ends_that_connection_alone() {
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let (listener, port) = target().await;
        let session = open(address, attempt).await;
        let mut aborted = session.connect(port).await;
        let mut socket = accept(&listener).await;
        let endless = tokio::spawn(async move {
            let block = pattern(64 << 10);
            loop {
                if let Err(error) = socket.write_all(&block).await {
                    return error;
                }
            }
        });
        read_exact(&mut aborted, MIB).await;
        drop(aborted);
        // The endless sender fails: nothing is kept up for a client that is gone.
        soon(endless).await.unwrap();
        let mut other = session.connect(port).await;
        let mut socket = accept(&listener).await;
        socket.write_all(b"still here").await.unwrap();
        assert_eq!(read_exact(&mut other, 10).await, b"still here");
        drop(other);
        session.close().await;
        // Neither was a failure of the server's.
        assert_eq!(soon(reports.recv()).await.unwrap().failed, 0);
    }
}

/// A target that aborts is no clean end for the client.
#[tokio::test]
async fn a_target_that_aborts_is_an_error_and_no_end() {
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let (listener, port) = target().await;
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        let mut socket = accept(&listener).await;
        socket.write_all(b"half of").await.unwrap();
        assert_eq!(read_exact(&mut stream, 7).await, b"half of");
        #[allow(deprecated, reason = "an abort is what is wanted: zero blocks nothing")]
        socket.set_linger(Some(Duration::ZERO)).unwrap();
        drop(socket);
        let error = read_all(&mut stream).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
        drop(stream);
        session.close().await;
        assert_eq!(soon(reports.recv()).await.unwrap().failed, 1);
    }
}

#[tokio::test]
async fn two_hundred_connections_at_once() {
    const CONNECTIONS: usize = 200;
    let port = echo().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        let mut all = JoinSet::new();
        for number in 0..CONNECTIONS {
            let forward = session.forward.clone();
            all.spawn(async move {
                let stream = forward.connect(port).await.unwrap().stream;
                let data: Vec<u8> = pattern(20_000 + number).iter().map(|byte| byte ^ number as u8).collect();
                let (mut reader, mut writer) = stream.split();
                let sent = data.clone();
                let send = async {
                    writer.write_all(&sent).await.unwrap();
                    writer.close().unwrap();
                };
                let (got, ()) = tokio::join!(read_all(&mut reader), send);
                assert!(got.unwrap() == data, "connection {number}");
            });
        }
        while let Some(done) = soon(all.join_next()).await {
            done.unwrap();
        }
        assert!(session.close().await.is_orderly());
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!((report.connections, report.failed), (CONNECTIONS as u64, 0), "{report}");
    }
}

/// One target that reads nothing, in every class of stream numbers that Go's peers know, does not hold up the rest.
#[tokio::test]
async fn connections_that_stand_still_hold_no_other_up() {
    let (stalled, stalled_port) = target().await;
    let port = echo().await;
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        let mut still = Vec::new();
        for _ in 0..5 {
            let mut stream = session.connect(stalled_port).await;
            let socket = accept(&stalled).await;
            // As much as is taken at once: until then nobody is held up.
            for _ in 0..4 {
                stream.send(vec![7; 32 << 10].into()).await.unwrap();
            }
            still.push((stream, socket));
        }
        let mut stream = session.connect(port).await;
        for round in 0..50 {
            let data = pattern(32 << 10);
            stream.send(data.clone().into()).await.unwrap();
            assert!(read_exact(&mut stream, data.len()).await == data, "round {round}");
        }
        drop((stream, still));
        session.close().await;
    }
}

/// An upload without its end is no whole upload: the target is told by a reset, as if the client were its own.
#[tokio::test]
async fn an_upload_that_breaks_off_is_a_reset_at_the_target() {
    #[derive(Debug, Clone, Copy)]
    enum How {
        Reset,
        Lost,
    }
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    for (wire, how) in (0..4).flat_map(|wire| [(wire, How::Reset), (wire, How::Lost)]) {
        let (listener, port) = target().await;
        let attempt = wires(port).swap_remove(wire);
        if matches!((attempt.wire(), how), (Wire::Channels(_), How::Reset)) {
            // Channels know no reset.
            continue;
        }
        let wire = attempt.wire();
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        let mut socket = accept(&listener).await;
        stream.send("half of".into()).await.unwrap();
        assert_eq!(read_exact(&mut socket, 7).await, b"half of");
        let mut rest = None;
        match how {
            How::Reset => drop(stream),
            How::Lost => {
                session.driver.abort();
                rest = Some(stream);
            }
        }
        let error = read_all(&mut socket).await.expect_err("an end in good order");
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{wire:?} {how:?}");
        drop(rest);
    }
}

/// A relay that was given up before it began has relayed nothing, and its socket must not look as if it had.
#[tokio::test]
async fn a_relay_that_is_never_polled_resets_its_socket() {
    let port = echo().await;
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    let session = open(address, wsstream::portforward::client::spdy()).await;
    let (listener, local) = target().await;
    let mut user = TcpStream::connect(("127.0.0.1", local)).await.unwrap();
    let mut socket = accept(&listener).await;
    let options = wsstream::portforward::RelayOptions::default();
    drop(wsstream::portforward::relay_tcp(session.connect(port).await, &mut socket, &options));
    drop(socket);
    let error = read_all(&mut user).await.expect_err("an end in good order");
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

/// What had arrived when the client left is still handed on.
#[tokio::test]
async fn an_upload_is_complete_although_the_client_left_behind_it() {
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let (listener, port) = target().await;
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        let mut socket = accept(&listener).await;
        let upload = pattern(3 * MIB);
        let sending = async {
            stream.write_all(&upload).await.unwrap();
            stream.shutdown().await.unwrap();
            drop(stream);
            session.close().await;
        };
        // Reads slowly at first, so that much of it waits in the server when the client leaves.
        let receiving = async {
            let first = read_exact(&mut socket, 1000).await;
            let all = [first, read_all(&mut socket).await.unwrap()].concat();
            drop(socket);
            all
        };
        let ((), got) = tokio::join!(sending, receiving);
        assert!(got == upload);
        assert_eq!(soon(reports.recv()).await.unwrap().failed, 0);
    }
}

#[tokio::test]
async fn a_lost_client_lets_go_of_its_targets() {
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in wires(1) {
        let (listener, port) = target().await;
        let attempt = match attempt.wire() {
            Wire::Channels(encoding) => wsstream::portforward::client::channels([port], encoding),
            _ => attempt,
        };
        let session = open(address, attempt).await;
        let _stream = session.connect(port).await;
        let mut socket = accept(&listener).await;
        session.driver.abort();
        // Its end or its abort, but soon.
        let mut buffer = [0; 16];
        let _ = soon(socket.read(&mut buffer)).await;
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!((report.connections, report.failed), (1, 0), "{report}");
        assert!(!report.end.unwrap().is_orderly());
    }
}

#[tokio::test]
async fn a_panic_is_the_failure_of_one_connection() {
    let forwarder = async |port: u16, mut stream: PortStream| {
        assert_ne!(port, 1, "this is the panic of the test");
        stream.send("fine".into()).await.map_err(ForwardError::Client)
    };
    let forwarder = move |port, stream| forwarder(port, stream);
    let (address, mut reports) = forwarding(forwarder, Options::default()).await;
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        let (mut good, mut bad) = (session.connect(2).await, session.connect(1).await);
        read_all(&mut bad).await.unwrap_err();
        // A forwarder that returns has ended its stream, whether it has said so or not.
        assert_eq!(read_all(&mut good).await.unwrap(), b"fine");
        assert_eq!(read_all(&mut session.connect(2).await).await.unwrap(), b"fine");
        drop((good, bad));
        session.close().await;
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!((report.connections, report.failed), (3, 1), "{report}");
    }
}

#[cfg(unix)]
#[tokio::test]
async fn a_port_may_lead_to_a_unix_socket() {
    let folder = tempfile_folder();
    let path = folder.join("socket");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let routes = Routes::none().unix(2375, &path);
    let (address, mut reports) = forwarding(routes, Options::default()).await;
    let serving = tokio::spawn(async move {
        for _ in 0..2 {
            let (mut socket, _) = listener.accept().await.unwrap();
            let question = read_all(&mut socket).await.unwrap();
            socket.write_all(&question).await.unwrap();
        }
    });
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        let mut stream = session.connect(2375).await;
        stream.send("ping".into()).await.unwrap();
        stream.close().unwrap();
        assert_eq!(read_all(&mut stream).await.unwrap(), b"ping");
        // Every other port is refused, whatever listens there.
        read_all(&mut session.connect(2376).await).await.unwrap_err();
        drop(stream);
        session.close().await;
        assert_eq!(soon(reports.recv()).await.unwrap().failed, 1);
    }
    soon(serving).await.unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

#[cfg(unix)]
fn tempfile_folder() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("wsstream-forward-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// localhost is both families: a server that listens on ::1 alone is reached too.
#[tokio::test]
async fn a_port_of_the_other_family_is_reached() {
    let Ok(listener) = tokio::net::TcpListener::bind("[::1]:0").await else { return };
    let port = listener.local_addr().unwrap().port();
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    let session = open(address, wsstream::portforward::client::spdy()).await;
    let mut stream = session.connect(port).await;
    accept(&listener).await.write_all(b"six").await.unwrap();
    assert_eq!(read_all(&mut stream).await.unwrap(), b"six");
}

/// A server that is told to stop lets connections finish and takes no new ones.
#[tokio::test]
async fn a_server_that_stops_lets_connections_finish() {
    for attempt in stream_wires() {
        let (listener, port) = target().await;
        let (stop, stopped) = tokio::sync::watch::channel(false);
        let (sender, mut reports) = tokio::sync::mpsc::channel(1);
        let address = web::serve(move |mut request| {
            let session = wsstream::portforward::server::PortForward::accept(&mut request).unwrap();
            let response = session.response();
            let (mut stopped, sender) = (stopped.clone(), sender.clone());
            tokio::spawn(async move {
                let stop = async { drop(stopped.wait_for(|stop| *stop).await) };
                sender.send(session.serve_until(Routes::loopback(), stop).await).await
            });
            web::switching(response)
        })
        .await;
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        let mut socket = accept(&listener).await;
        socket.write_all(b"one").await.unwrap();
        assert_eq!(read_exact(&mut stream, 3).await, b"one");
        stop.send(true).unwrap();
        // Told at once, although another connection runs and would make it wait for that one's bytes.
        let refused = loop {
            match tokio::time::timeout(Duration::from_secs(5), session.forward.connect(port)).await.unwrap() {
                // It was on its way when the server stopped.
                Ok(_) => tokio::task::yield_now().await,
                refused => break refused,
            }
        };
        assert!(matches!(refused, Err(OpenError::Refused(_))), "{refused:?}");
        socket.write_all(b"two").await.unwrap();
        drop(socket);
        assert_eq!(read_all(&mut stream).await.unwrap(), b"two");
        stream.close().unwrap();
        let refused = soon(session.forward.connect(port)).await;
        assert!(matches!(refused, Err(OpenError::Session(_) | OpenError::Refused(_))), "{refused:?}");
        assert!(soon(session.driver).await.unwrap().is_orderly());
        assert!(soon(reports.recv()).await.unwrap().connections >= 1);
    }
}

/// Each is two streams that are opened only to be reset, and no attack.
#[tokio::test]
async fn a_thousand_connections_that_are_broken_off_end_no_other() {
    let port = echo().await;
    let (address, _reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        let mut stream = session.connect(port).await;
        for _ in 0..1000 {
            drop(session.connect(port).await);
        }
        stream.send("still here".into()).await.unwrap();
        assert_eq!(read_exact(&mut stream, 10).await, b"still here");
        drop(stream);
        assert!(session.close().await.is_orderly());
    }
}

/// A port that neither takes nor refuses: the place of a client that has given up must not stay taken.
#[tokio::test]
async fn a_client_that_gives_up_is_not_connected_for() {
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let listener = socket.listen(1).unwrap();
    let full = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(taken) = tokio::time::timeout(Duration::from_millis(500), TcpStream::connect(full)).await {
        waiting.push(taken.unwrap());
    }
    let routes = Routes::loopback().connect_timeout(Duration::from_secs(3600));
    let (address, mut reports) = forwarding(routes, Options::default()).await;
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        drop(session.connect(full.port()).await);
        assert!(session.close().await.is_orderly());
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!((report.connections, report.failed), (1, 0), "{report}");
    }
}

/// Nothing is left of connections that are over: no bytes that wait, no streams that are open.
#[tokio::test]
async fn a_thousand_connections_one_after_the_other() {
    let port = echo().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for attempt in stream_wires() {
        let session = open(address, attempt).await;
        for _ in 0..1000 {
            let mut stream = session.connect(port).await;
            stream.send("x".into()).await.unwrap();
            stream.close().unwrap();
            assert_eq!(read_all(&mut stream).await.unwrap(), b"x");
        }
        let stats = session.forward.stats().unwrap();
        until(|| session.forward.stats().unwrap().open_streams == 0).await;
        assert_eq!(stats.waiting, 0);
        session.close().await;
        let report = soon(reports.recv()).await.unwrap();
        assert_eq!((report.connections, report.failed, report.incomplete), (1000, 0, 0), "{report}");
    }
}
