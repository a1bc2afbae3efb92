//! Port-forward's parameters and headers: the rows of upstream's tests, and what real clients send.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on fails"
)]

use wsstream_proto::channel::{ChannelId, ChannelMode, MAX_BASE64_CHANNEL};
use wsstream_proto::portforward::{
    Half, MAX_PORTS, PORTFORWARD_WEBSOCKET, PortError, PortsError, RequestId, StreamRequest, channel_modes,
    channels_of, parse_ports, ports_query, preamble, preamble_port,
};
use wsstream_proto::remotecommand::Spelling::{ApiServer, Kubelet};
use wsstream_proto::spdy::{Headers, StreamId};
use wsstream_proto::subprotocol::{Subprotocol, negotiate};

#[test]
fn ports_in_every_spelling_that_clients_use() {
    let table: [(&str, &[u16]); 6] = [
        ("ports=80", &[80]),
        ("ports=80&ports=90", &[80, 90]),
        ("ports=80%2C81", &[80, 81]),
        ("ports=80,90,100", &[80, 90, 100]),
        ("&x=1&ports=65535&port=1&ports=1,65535", &[65535, 1, 65535]),
        ("ports=80&ports=80", &[80, 80]),
    ];
    for (query, ports) in table {
        assert_eq!(parse_ports(query, ApiServer).unwrap(), ports, "{query}");
    }
    assert_eq!(parse_ports("port=80,90&port=100&ports=1", Kubelet).unwrap(), [80, 90, 100]);
    assert_eq!(ports_query(&[80, 90], ApiServer), "ports=80&ports=90");
    assert_eq!(ports_query(&[80, 90], Kubelet), "port=80&port=90");
}

#[test]
fn ports_that_are_none_are_named() {
    let not_a_port = |text: &str| PortsError::Port(PortError::NotAPort(text.to_owned()));
    let table = [
        ("", PortsError::Missing("ports")),
        ("port=80", PortsError::Missing("ports")),
        ("ports=", PortsError::Empty("ports")),
        ("ports=80&ports", PortsError::Empty("ports")),
        ("ports=abc", not_a_port("abc")),
        ("ports=-1", not_a_port("-1")),
        ("ports=%2B1", not_a_port("+1")),
        ("ports=65536", not_a_port("65536")),
        ("ports=80,,81", not_a_port("")),
        ("ports=80,0", PortsError::Port(PortError::Zero("0".to_owned()))),
    ];
    for (query, error) in table {
        assert_eq!(parse_ports(query, ApiServer), Err(error), "{query}");
    }
    let many = vec!["1"; MAX_PORTS].join(",");
    assert_eq!(parse_ports(&format!("ports={many}"), ApiServer).unwrap().len(), MAX_PORTS);
    assert_eq!(parse_ports(&format!("ports={many},1"), ApiServer), Err(PortsError::TooMany));
    let long = "x".repeat(10_000);
    assert!(parse_ports(&format!("ports={long}"), ApiServer).unwrap_err().to_string().len() < 200);
}

#[test]
fn channels_come_in_pairs_and_fit_into_base64() {
    assert_eq!(channels_of(0), Some((ChannelId(0), ChannelId(1))));
    assert_eq!(channels_of(MAX_PORTS - 1).map(|(_, error)| error), Some(MAX_BASE64_CHANNEL));
    assert_eq!(channels_of(MAX_PORTS), None);
    assert_eq!(channels_of(128), None);
    let modes: Vec<_> = channel_modes(2).collect();
    assert_eq!(
        modes,
        [ChannelMode::ReadWrite, ChannelMode::Write, ChannelMode::ReadWrite, ChannelMode::Write]
    );
}

/// 12345 is `39 30` on the wire.
#[test]
fn the_preamble_is_little_endian() {
    assert_eq!(preamble(12345), [0x39, 0x30]);
    assert_eq!(preamble_port([0x39, 0x30]), 12345);
}

/// The offers of every client of `portforward` that was measured.
#[test]
fn every_client_gets_the_version_that_works_for_it() {
    let table: [(&[&str], &str); 7] = [
        (&["SPDY/3.1+portforward.k8s.io"], "SPDY/3.1+portforward.k8s.io"),
        (&["v5.channel.k8s.io", "v4.channel.k8s.io"], "v4.channel.k8s.io"),
        (
            &["v5.channel.k8s.io", "v4.channel.k8s.io", "v3.channel.k8s.io", "channel.k8s.io"],
            "v4.channel.k8s.io",
        ),
        (&["v4.channel.k8s.io"], "v4.channel.k8s.io"),
        (&["v4.base64.channel.k8s.io", "v4.channel.k8s.io"], "v4.base64.channel.k8s.io"),
        (&["v4.channel.k8s.io", "SPDY/3.1+portforward.k8s.io"], "v4.channel.k8s.io"),
        (&[], ""),
    ];
    for (offers, chosen) in table {
        assert_eq!(negotiate(PORTFORWARD_WEBSOCKET, offers).unwrap().name(), chosen, "{offers:?}");
    }
    negotiate(PORTFORWARD_WEBSOCKET, &["v5.channel.k8s.io"]).unwrap_err();
    assert!(Subprotocol::PORTFORWARD_TUNNEL.is_tunnel() && !Subprotocol::V4.is_tunnel());
}

fn parse(id: u32, headers: &[(&str, &str)]) -> Result<StreamRequest, String> {
    let headers = Headers::from_iter(headers.iter().copied());
    StreamRequest::parse(&headers, StreamId::new(id).unwrap()).map_err(|error| error.to_string())
}

#[test]
fn streams_say_what_they_are() {
    let parsed = parse(3, &[("streamType", "data"), ("port", "80"), ("requestID", "7")]).unwrap();
    let expected = StreamRequest { half: Half::Data, port: 80, request: RequestId::new(7) };
    assert_eq!(parsed, expected);
    assert_eq!(StreamRequest::parse(&expected.headers(), StreamId::new(9).unwrap()), Ok(expected));
}

/// Upstream's rows: an explicit id wins over the stream's number.
#[test]
fn streams_without_an_id_are_tied_by_their_numbers() {
    let id = |id, headers: &[(&str, &str)]| parse(id, headers).unwrap().request.to_string();
    assert_eq!(id(1, &[("streamtype", "error"), ("port", "80")]), "1");
    assert_eq!(id(3, &[("streamtype", "data"), ("port", "80")]), "1");
    assert_eq!(id(3, &[("streamtype", "data"), ("port", "80"), ("requestid", "2")]), "2");
    assert_eq!(id(1, &[("streamtype", "data"), ("port", "80")]), "0");
}

#[test]
fn streams_that_are_refused() {
    let table: [(&[(&str, &str)], &str); 7] = [
        (&[("streamtype", "data")], "\"port\" header is required"),
        (&[("streamtype", "data"), ("port", "")], "\"port\" header is required"),
        (&[("streamtype", "data"), ("port", "abc")], "unable to parse \"abc\" as a port"),
        (&[("streamtype", "data"), ("port", "0")], "port \"0\" must be > 0"),
        (&[("port", "80")], "\"streamType\" header is required"),
        (&[("port", "80"), ("streamtype", "foo")], "invalid stream type \"foo\""),
        (&[("port", "80"), ("streamtype", "stdin")], "invalid stream type \"stdin\""),
    ];
    for (headers, text) in table {
        let error = parse(1, headers).unwrap_err();
        assert!(error.starts_with(text), "{error}");
    }
    let long = "1".repeat(65);
    parse(1, &[("port", "80"), ("streamtype", "data"), ("requestid", &long)]).unwrap_err();
    // What a peer sends never begins a line of its own in a log.
    let odd = parse(1, &[("port", "80"), ("streamtype", "data"), ("requestid", "1\n2")]).unwrap();
    assert_eq!(odd.request.to_string(), "1\\n2");
}
