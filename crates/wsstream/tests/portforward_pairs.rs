//! Pairs of SPDY streams, as clients other than ours open them: in any order, never completed, wrong.

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

use std::net::SocketAddr;
use std::time::Duration;

use common::{pattern, soon, until};
use forward::{echo, forwarding, target};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use wsstream::Subprotocol;
use wsstream::client::{Offer, SpdyOffer};
use wsstream::http::Request;
use wsstream::portforward::Routes;
use wsstream::portforward::server::{Errors, Options, Report};
use wsstream::spdy::{Builder, Connection, GoAwayStatus, Headers, ReadError, ResetStatus, Stream};

/// A client's connection, plain or through the tunnel, with its driver in a task.
async fn connect(address: SocketAddr, tunnel: bool) -> Connection {
    let io = TcpStream::connect(address).await.unwrap();
    io.set_nodelay(true).unwrap();
    let request = Request::post(format!("http://{address}/")).body(()).unwrap();
    let (connection, driver) = if tunnel {
        let mut request = request;
        *request.method_mut() = wsstream::http::Method::GET;
        let offer = Offer::new([Subprotocol::PORTFORWARD_TUNNEL]);
        soon(offer.connect(io, request)).await.unwrap().open_tunnel(|builder| builder)
    } else {
        let offer = SpdyOffer::new([Subprotocol::PORTFORWARD]);
        soon(offer.connect(io, request)).await.unwrap().open(|builder: Builder| builder)
    };
    tokio::spawn(driver);
    connection
}

async fn open(connection: &Connection, headers: &[(&str, &str)]) -> Stream {
    let headers = Headers::from_iter(headers.iter().copied());
    soon(connection.open(&headers, false)).await.unwrap()
}

async fn half(connection: &Connection, kind: &str, port: u16, request: &str) -> Stream {
    open(connection, &[("streamtype", kind), ("port", &port.to_string()), ("requestid", request)]).await
}

async fn finish(connection: Connection, reports: &mut tokio::sync::mpsc::Receiver<Report>) -> Report {
    connection.shutdown(GoAwayStatus::OK);
    soon(reports.recv()).await.unwrap()
}

async fn echoes(stream: &mut Stream, data: &[u8]) {
    stream.writer().send(data.to_vec().into()).await.unwrap();
    stream.writer().close().unwrap();
    let mut got = Vec::new();
    while let Some(chunk) = soon(stream.reader().chunk()).await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert!(got == data);
}

/// Error first or data first, several at once and interleaved, data before its pair is whole.
#[tokio::test]
async fn pairs_come_in_any_order() {
    let port = echo().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for tunnel in [false, true] {
        let connection = connect(address, tunnel).await;
        let mut data_first = half(&connection, "data", port, "a").await;
        // Before anybody knows what it is for; it is kept.
        data_first.writer().send("early ".into()).await.unwrap();
        let mut errors = Vec::new();
        for id in ["b", "c", "7"] {
            errors.push(half(&connection, "error", port, id).await);
        }
        let mut pairs = Vec::new();
        for id in ["7", "c", "b"] {
            pairs.push(half(&connection, "data", port, id).await);
        }
        errors.push(half(&connection, "error", port, "a").await);
        data_first.writer().send("late".into()).await.unwrap();
        data_first.writer().close().unwrap();
        let mut got = Vec::new();
        while let Some(chunk) = soon(data_first.reader().chunk()).await.unwrap() {
            got.extend_from_slice(&chunk);
        }
        assert_eq!(got, b"early late");
        for (number, stream) in pairs.iter_mut().enumerate() {
            echoes(stream, &pattern(1000 + number)).await;
        }
        for error in &mut errors {
            assert_eq!(soon(error.reader().chunk()).await, Ok(None));
        }
        // An id may be used again when its pair is over.
        let _error = half(&connection, "error", port, "a").await;
        echoes(&mut half(&connection, "data", port, "a").await, b"again").await;
        let report = finish(connection, &mut reports).await;
        assert_eq!((report.connections, report.failed, report.incomplete), (5, 0, 0), "{report}");
    }
}

/// Clients from before request ids: the error stream's number is the id, data comes right behind it.
#[tokio::test]
async fn pairs_without_ids_are_tied_by_their_numbers() {
    let port = echo().await.to_string();
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    let connection = connect(address, false).await;
    for _ in 0..2 {
        let _error = open(&connection, &[("streamtype", "error"), ("port", &port)]).await;
        let mut data = open(&connection, &[("streamtype", "data"), ("port", &port)]).await;
        echoes(&mut data, b"old").await;
    }
    assert_eq!(finish(connection, &mut reports).await.connections, 2);
}

async fn refused(connection: &Connection, headers: &[(&str, &str)]) -> ResetStatus {
    match soon(open(connection, headers).await.replied()).await {
        Err(ReadError::Reset(status)) => status,
        other => panic!("{headers:?}: {other:?}"),
    }
}

/// The smallest thing ends: one stream, never the connection.
#[tokio::test]
async fn streams_that_make_no_sense_are_refused_one_by_one() {
    let port = echo().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    for tunnel in [false, true] {
        let connection = connect(address, tunnel).await;
        let rows: [&[(&str, &str)]; 6] = [
            &[],
            &[("streamtype", "data")],
            &[("streamtype", "data"), ("port", "0")],
            &[("streamtype", "data"), ("port", "70000")],
            &[("streamtype", "stdin"), ("port", "80")],
            &[("port", "80")],
        ];
        for headers in rows {
            assert_eq!(refused(&connection, headers).await, ResetStatus::CANCEL);
        }
        // A second half of the same kind.
        let _error = half(&connection, "error", port, "0").await;
        let text = port.to_string();
        let twice = [("streamtype", "error"), ("port", &text), ("requestid", "0")];
        assert_eq!(refused(&connection, &twice).await, ResetStatus::CANCEL);
        echoes(&mut half(&connection, "data", port, "0").await, b"fine").await;
        let report = finish(connection, &mut reports).await;
        assert_eq!((report.connections, report.refused_streams), (1, 7), "{report}");
    }
}

/// So many may be incomplete, and for so long.
#[tokio::test]
async fn incomplete_pairs_are_bounded_in_number_and_in_time() {
    let port = echo().await;
    for (errors, text) in
        [(Errors::Reset, None), (Errors::Report, Some("(request=0) timed out waiting for streams"))]
    {
        let mut options = Options::default();
        (options.max_incomplete, options.pair_timeout) = (3, Duration::from_millis(300));
        options.errors = errors;
        let (address, mut reports) = forwarding(Routes::loopback(), options).await;
        let connection = connect(address, true).await;
        let mut waiting = Vec::new();
        for id in ["0", "1", "2"] {
            waiting.push(half(&connection, "error", port, id).await);
        }
        let number = port.to_string();
        let one_more = [("streamtype", "error"), ("port", &number), ("requestid", "3")];
        assert_eq!(refused(&connection, &one_more).await, ResetStatus::REFUSED_STREAM);
        // One that gets its other half in time is not given up.
        echoes(&mut half(&connection, "data", port, "1").await, b"in time").await;
        let mut said = Vec::new();
        let ended = loop {
            match soon(waiting[0].reader().chunk()).await {
                Ok(Some(chunk)) => said.extend_from_slice(&chunk),
                ended => break ended,
            }
        };
        assert_eq!(ended, Err(ReadError::Reset(ResetStatus::CANCEL)));
        assert_eq!(String::from_utf8(said).unwrap(), text.unwrap_or_default());
        // There is room again.
        let _error = half(&connection, "error", port, "0").await;
        echoes(&mut half(&connection, "data", port, "0").await, b"room").await;
        drop(waiting);
        let report = finish(connection, &mut reports).await;
        assert_eq!((report.connections, report.incomplete, report.refused_streams), (2, 2, 1), "{report}");
    }
}

/// A half that its client has reset holds no place, and leads nowhere when the other half comes.
#[tokio::test]
async fn a_half_that_was_reset_is_forgotten() {
    let port = echo().await;
    let mut options = Options::default();
    options.max_incomplete = 1;
    let (address, mut reports) = forwarding(Routes::loopback(), options).await;
    let connection = connect(address, false).await;
    let mut gone = half(&connection, "error", port, "0").await;
    soon(gone.replied()).await.unwrap();
    gone.writer().reset(ResetStatus::CANCEL);
    // Streams arrive in order, so the reset has when this one does.
    let _error = half(&connection, "error", port, "1").await;
    echoes(&mut half(&connection, "data", port, "1").await, b"room").await;
    let mut lonely = half(&connection, "data", port, "0").await;
    soon(lonely.replied()).await.unwrap();
    let report = finish(connection, &mut reports).await;
    assert_eq!((report.connections, report.refused_streams, report.incomplete), (1, 0, 2), "{report}");
}

#[tokio::test]
async fn connections_are_bounded_in_number() {
    let port = echo().await;
    let mut options = Options::default();
    options.max_connections = 2;
    let (address, mut reports) = forwarding(Routes::loopback(), options).await;
    let connection = connect(address, false).await;
    let _error = half(&connection, "error", port, "0").await;
    let mut first = half(&connection, "data", port, "0").await;
    first.writer().send("one".into()).await.unwrap();
    assert_eq!(soon(first.reader().chunk()).await.unwrap().unwrap(), "one");
    // An incomplete one counts, and its other half is always let in.
    let _error = half(&connection, "error", port, "1").await;
    let number = port.to_string();
    let one_more = [("streamtype", "error"), ("port", &*number), ("requestid", "2")];
    assert_eq!(refused(&connection, &one_more).await, ResetStatus::REFUSED_STREAM);
    let mut second = half(&connection, "data", port, "1").await;
    second.writer().send("two".into()).await.unwrap();
    assert_eq!(soon(second.reader().chunk()).await.unwrap().unwrap(), "two");
    assert_eq!(refused(&connection, &one_more).await, ResetStatus::REFUSED_STREAM);
    // There is room again when one has ended, both ways.
    first.writer().close().unwrap();
    assert_eq!(soon(first.reader().chunk()).await.unwrap(), None);
    let _error = half(&connection, "error", port, "3").await;
    echoes(&mut half(&connection, "data", port, "3").await, b"three").await;
    let report = finish(connection, &mut reports).await;
    assert_eq!((report.connections, report.refused_streams), (3, 2), "{report}");
}

/// A client that goes on sending on streams whose pair is never whole: bounded, and nobody else is held up.
#[tokio::test]
async fn data_of_incomplete_pairs_is_bounded_and_holds_nobody_up() {
    let port = echo().await;
    let mut options = Options::default();
    options.pair_timeout = Duration::from_millis(500);
    let (address, mut reports) = forwarding(Routes::loopback(), options).await;
    let connection = connect(address, false).await;
    let mut lonely = half(&connection, "data", port, "lonely").await;
    let flood = async {
        let block = wsstream::bytes::Bytes::from(vec![1; 32 << 10]);
        loop {
            if let Err(error) = lonely.writer().send(block.clone()).await {
                return error;
            }
        }
    };
    let others = async {
        for number in 0..20 {
            let id = number.to_string();
            let _error = half(&connection, "error", port, &id).await;
            echoes(&mut half(&connection, "data", port, &id).await, &pattern(10_000)).await;
        }
    };
    // Given up after the time for pairs, and then discarded: the others get on behind it at the latest.
    let (error, ()) = soon(async { tokio::join!(flood, others) }).await;
    assert!(matches!(error, wsstream::spdy::WriteError::Reset(_)), "{error}");
    let report = finish(connection, &mut reports).await;
    assert_eq!((report.connections, report.incomplete), (20, 1), "{report}");
}

/// What a client does that goes away in the middle of everything.
#[tokio::test]
async fn a_goaway_lets_open_connections_finish() {
    let (listener, port) = target().await;
    let (address, mut reports) = forwarding(Routes::loopback(), Options::default()).await;
    let connection = connect(address, false).await;
    let _error = half(&connection, "error", port, "0").await;
    let mut data = half(&connection, "data", port, "0").await;
    let mut socket = forward::accept(&listener).await;
    data.writer().send("last words".into()).await.unwrap();
    data.writer().close().unwrap();
    let _incomplete = half(&connection, "error", port, "1").await;
    until(|| connection.stats().unsent == 0).await;
    connection.shutdown(GoAwayStatus::OK);
    assert_eq!(forward::read_all(&mut socket).await.unwrap(), b"last words");
    socket.write_all(b"too late").await.unwrap();
    drop(socket);
    let report = soon(reports.recv()).await.unwrap();
    assert_eq!((report.connections, report.incomplete), (1, 1), "{report}");
    assert_eq!(report.failed, 0, "{report}");
}
