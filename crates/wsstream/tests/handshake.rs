//! The upgrade: which requests ask for one, which subprotocol is chosen, and what a refusal says.
//!
//! D1 to D12, V1 to V7 and S5 are rows of upstream's conn_test and stream_test, numbered in their order.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]
#![allow(clippy::cast_possible_truncation, reason = "the numbers of these tests are small")]
#![allow(clippy::type_complexity, reason = "rows of tables are tuples")]

use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, Response, StatusCode, Version};
use wsstream::Subprotocol;
use wsstream::proto::status::Status;
use wsstream::proto::subprotocol::{DEFAULT_CHANNELS, Encoding, Framing, READER, REMOTECOMMAND};
use wsstream::upgrade::{Handshake, Rejection, is_websocket_with, offers};
use wsstream_testing::http::{ACCEPT, KEY};

const TOKEN: &str = "base64url.bearer.authorization.k8s.io.c2VjcmV0LXRva2Vu";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in lines {
        // As it would be parsed from the wire: any case in, lower case kept.
        headers
            .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// A request that is good unless it is made bad, with these lines of offers.
fn request(offers: &[&str]) -> Request<()> {
    let mut request = Request::get("/exec").body(()).unwrap();
    *request.headers_mut() = headers(&[
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", KEY),
    ]);
    for line in offers {
        request.headers_mut().append("Sec-WebSocket-Protocol", HeaderValue::from_str(line).unwrap());
    }
    request
}

fn status_of(rejection: Rejection) -> (Response<String>, Status) {
    let response = rejection.into_response();
    assert_eq!(response.headers()["content-type"], "application/json");
    let status: Status = serde_json::from_str(response.body()).unwrap();
    assert_eq!((status.kind.as_str(), status.api_version.as_str()), ("Status", "v1"));
    assert_eq!(i32::from(response.status().as_u16()), status.code);
    assert_eq!(status.status, "Failure");
    (response, status)
}

/// The rows D1 to D12: is this a WebSocket request that offers v5?
#[test]
fn detection_of_v5() {
    const CONNECTION: (&str, &str) = ("Connection", "Upgrade");
    const UPGRADE: (&str, &str) = ("Upgrade", "websocket");
    let protocol = |value| ("Sec-WebSocket-Protocol", value);
    let rows: [(&str, &[(&str, &str)], bool); 16] = [
        ("D1", &[], false),
        ("D2", &[CONNECTION], false),
        ("D3", &[UPGRADE], false),
        ("D4", &[CONNECTION, UPGRADE], false),
        ("D5", &[UPGRADE, protocol("v5.channel.k8s.io")], false),
        ("D6", &[CONNECTION, UPGRADE, protocol("v5.channel.k8s.io")], true),
        ("D7", &[CONNECTION, UPGRADE, protocol("v5.CHANNEL.k8s.io")], false),
        ("D8", &[CONNECTION, UPGRADE, protocol("v4.channel.k8s.io")], false),
        (
            "D9",
            &[CONNECTION, UPGRADE, protocol("v4.channel.k8s.io,v3.channel.k8s.io,v2.channel.k8s.io")],
            false,
        ),
        ("D10", &[CONNECTION, UPGRADE, protocol("v5.channel.k8s.io,  v4.channel.k8s.io")], true),
        (
            "D11",
            &[CONNECTION, UPGRADE, protocol("v4.channel.k8s.io, v5.channel.k8s.io, v3.channel.k8s.io")],
            true,
        ),
        ("D12", &[CONNECTION, UPGRADE, ("sec-websocket-protocol", "v5.channel.k8s.io")], true),
        // Beyond upstream: several lines are one list, and other spellings of the two tokens are legal.
        (
            "second line",
            &[CONNECTION, UPGRADE, protocol("v4.channel.k8s.io"), protocol("v5.channel.k8s.io")],
            true,
        ),
        (
            "keep-alive, upgrade",
            &[("Connection", "keep-alive, upgrade"), ("Upgrade", "WebSocket"), protocol("v5.channel.k8s.io")],
            true,
        ),
        ("upgrades", &[("Connection", "upgrades"), UPGRADE, protocol("v5.channel.k8s.io")], false),
        ("spdy", &[CONNECTION, ("Upgrade", "SPDY/3.1"), protocol("v5.channel.k8s.io")], false),
    ];
    for (name, lines, expect) in rows {
        assert_eq!(is_websocket_with(&headers(lines), &Subprotocol::V5), expect, "{name}");
    }
}

const fn row(name: &'static str) -> Subprotocol {
    Subprotocol::custom(name, Encoding::Binary, Framing::Channels)
}

/// The rows V1 to V7: what is chosen, `None` for a refusal.
#[test]
fn choice_of_the_subprotocol() {
    let none: &[Subprotocol] = &[];
    let three = &[row(""), row("raw"), row("base64")][..];
    let five = &[row(""), row("v1.raw"), row("v1.base64"), row("v2.raw"), row("v2.base64")][..];
    let rows: [(&str, &[Subprotocol], &[&str], Option<&str>); 7] = [
        ("V1", none, &["raw"], None),
        ("V2", three, &[], Some("")),
        ("V3", three, &["v1.raw"], None),
        ("V4", three, &["v1.raw", "v1.base64"], None),
        ("V5", three, &["v1.raw", "raw"], Some("raw")),
        ("V6", five, &["v1.raw"], Some("v1.raw")),
        ("V7", five, &["v2.base64"], Some("v2.base64")),
    ];
    for (name, supported, offered, expect) in rows {
        // One line with commas, and one line for each: the same list.
        for lines in [vec![offered.join(", ")], offered.iter().map(ToString::to_string).collect()] {
            let lines: Vec<_> = lines.iter().map(String::as_str).filter(|line| !line.is_empty()).collect();
            match (Handshake::negotiate(&request(&lines), supported), expect) {
                (Ok(handshake), Some(expect)) => {
                    assert_eq!(handshake.subprotocol().name(), expect, "{name}");
                    let response = handshake.response();
                    let echoed =
                        response.headers().get("sec-websocket-protocol").map(|v| v.to_str().unwrap());
                    assert_eq!(echoed, Some(expect).filter(|name| !name.is_empty()), "{name}");
                }
                (Err(rejection), None) => {
                    assert_eq!(status_of(rejection).0.status(), StatusCode::FORBIDDEN, "{name}");
                }
                (got, _) => panic!("{name}: {got:?}"),
            }
        }
    }
}

/// S5: the reader's set follows the same rules; and what each default set takes.
#[test]
fn choice_from_the_default_sets() {
    let rows: [(&[Subprotocol], &[&str], Option<&Subprotocol>); 14] = [
        (READER, &[], Some(&Subprotocol::READER_NONE)),
        (READER, &["binary.k8s.io"], Some(&Subprotocol::BINARY)),
        (READER, &["x, base64.binary.k8s.io, binary.k8s.io"], Some(&Subprotocol::BASE64_BINARY)),
        (READER, &["channel.k8s.io"], None),
        (DEFAULT_CHANNELS, &[], Some(&Subprotocol::NONE)),
        (DEFAULT_CHANNELS, &["base64.channel.k8s.io"], Some(&Subprotocol::BASE64_CHANNEL)),
        (DEFAULT_CHANNELS, &["v4.channel.k8s.io"], None),
        (REMOTECOMMAND, &["v5.channel.k8s.io,v4.channel.k8s.io"], Some(&Subprotocol::V5)),
        // The client's order counts, not the server's.
        (REMOTECOMMAND, &["v4.channel.k8s.io", "v5.channel.k8s.io"], Some(&Subprotocol::V4)),
        (REMOTECOMMAND, &["v3.channel.k8s.io,v2.channel.k8s.io"], Some(&Subprotocol::V3)),
        (REMOTECOMMAND, &["v3.channel.k8s.io,channel.k8s.io"], Some(&Subprotocol::CHANNEL)),
        (REMOTECOMMAND, &[" , v4.base64.channel.k8s.io ,"], Some(&Subprotocol::V4_BASE64_CHANNEL)),
        (REMOTECOMMAND, &[TOKEN, "v5.channel.k8s.io"], Some(&Subprotocol::V5)),
        (REMOTECOMMAND, &["V5.channel.k8s.io"], None),
    ];
    for (supported, lines, expect) in rows {
        let chosen = Handshake::negotiate(&request(lines), supported);
        assert_eq!(chosen.as_ref().ok().map(Handshake::subprotocol), expect, "{lines:?}");
    }
}

#[test]
fn the_answer_is_the_one_of_rfc_6455() {
    let response = Handshake::negotiate(&request(&[]), REMOTECOMMAND).unwrap().response();
    assert_eq!(response.status(), StatusCode::SWITCHING_PROTOCOLS);
    let lines: Vec<_> =
        response.headers().iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    // No `sec-websocket-protocol`: upstream sends an empty one, which strict clients refuse.
    assert_eq!(
        lines,
        [("upgrade", "websocket"), ("connection", "Upgrade"), ("sec-websocket-accept", ACCEPT)]
    );
}

#[test]
fn offers_of_several_lines_are_one_list() {
    let request = request(&["a,b", "", " c ,, d\t", "a"]);
    assert_eq!(offers(request.headers()), ["a", "b", "c", "d", "a"]);
}

/// What upstream's handshake refuses, in its order and with its codes, each with a body that kubectl can print.
#[test]
fn refusals() {
    type Break = fn(&mut Request<()>);
    let rows: [(&str, Break, u16, &str, &str); 13] = [
        ("POST", |r| *r.method_mut() = http::Method::POST, 405, "MethodNotAllowed", "must be a GET"),
        (
            "no upgrade",
            |r| drop(r.headers_mut().remove("upgrade")),
            400,
            "BadRequest",
            "Upgrade request required",
        ),
        (
            "no connection",
            |r| drop(r.headers_mut().remove("connection")),
            400,
            "BadRequest",
            "Upgrade request required",
        ),
        ("other upgrade", |r| set(r, "upgrade", "h2c"), 400, "BadRequest", "Upgrade request required"),
        (
            "no version",
            |r| drop(r.headers_mut().remove("sec-websocket-version")),
            400,
            "BadRequest",
            "must be 13",
        ),
        ("old version", |r| set(r, "sec-websocket-version", "8"), 400, "BadRequest", "must be 13"),
        (
            "no key",
            |r| drop(r.headers_mut().remove("sec-websocket-key")),
            400,
            "BadRequest",
            "16 bytes in base64",
        ),
        ("empty key", |r| set(r, "sec-websocket-key", ""), 400, "BadRequest", "16 bytes in base64"),
        ("short key", |r| set(r, "sec-websocket-key", "c2hvcnQ="), 400, "BadRequest", "16 bytes in base64"),
        (
            "long key",
            |r| set(r, "sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAAA="),
            400,
            "BadRequest",
            "16 bytes in base64",
        ),
        ("bad key", |r| set(r, "sec-websocket-key", "!Ghl"), 400, "BadRequest", "16 bytes in base64"),
        (
            "unpadded key",
            |r| set(r, "sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ"),
            400,
            "BadRequest",
            "16 bytes in base64",
        ),
        ("HTTP/2", |r| *r.version_mut() = Version::HTTP_2, 400, "BadRequest", "use HTTP/1.1"),
    ];
    for (name, make_bad, code, reason, text) in rows {
        let mut request = request(&["v5.channel.k8s.io"]);
        make_bad(&mut request);
        let Err(rejection) = Handshake::negotiate(&request, REMOTECOMMAND) else {
            panic!("{name}: accepted")
        };
        assert!(rejection.to_string().contains(text), "{name}: {rejection}");
        let (response, status) = status_of(rejection);
        assert_eq!((status.code, status.reason.as_str()), (i32::from(code), reason), "{name}");
        // RFC 6455 section 4.4: say which version would do; RFC 9110 section 15.5.6: say which method.
        let hint = response.headers().get("sec-websocket-version");
        assert_eq!(hint.is_some_and(|version| version == "13"), name.contains("version"), "{name}");
        let allow = response.headers().get("allow");
        assert_eq!(allow.is_some_and(|methods| methods == "GET"), code == 405, "{name}");
    }
}

fn set(request: &mut Request<()>, name: &'static str, value: &'static str) {
    request.headers_mut().insert(name, HeaderValue::from_static(value));
}

/// RFC 8441 has neither `Upgrade` nor `Connection`: it is a CONNECT with a pseudo header.
#[test]
fn a_websocket_over_http_2_is_refused_by_name() {
    let mut request = Request::connect("localhost").body(()).unwrap();
    *request.version_mut() = Version::HTTP_2;
    let Err(rejection) = Handshake::negotiate(&request, REMOTECOMMAND) else { panic!("accepted") };
    assert_eq!(
        status_of(rejection).1.message,
        "WebSockets over HTTP/2 (RFC 8441) are not served; use HTTP/1.1"
    );
}

#[test]
fn a_refused_subprotocol_names_what_is_accepted_and_never_the_token() {
    let request = request(&["v9.channel.k8s.io", TOKEN]);
    let (response, status) = status_of(Handshake::negotiate(&request, REMOTECOMMAND).unwrap_err());
    assert_eq!(status.code, 403);
    assert_eq!(status.reason, "Forbidden");
    for name in REMOTECOMMAND.iter().map(Subprotocol::name) {
        assert!(status.message.contains(&format!("{name:?}")), "{name} is not in {:?}", status.message);
    }
    assert!(status.message.contains("v9.channel.k8s.io"), "{}", status.message);
    assert!(!response.body().contains("c2VjcmV0"), "{}", response.body());
    assert!(!format!("{:?}", Handshake::negotiate(&request, REMOTECOMMAND)).contains("c2VjcmV0"));
}

#[test]
fn a_token_alone_is_no_subprotocol() {
    let (_, status) = status_of(Handshake::negotiate(&request(&[TOKEN]), DEFAULT_CHANNELS).unwrap_err());
    assert_eq!(status.code, 403);
}

/// A command that does not fit into a URL was silently sent without its query: no command and no streams.
#[test]
#[cfg(feature = "client")]
fn a_command_that_fits_no_url_is_an_error() {
    use wsstream::remotecommand::{Request, client::exec};
    let endpoint = "http://localhost/exec".parse().unwrap();
    let request = |length| exec(Request::command(["x".repeat(length)]).stdout(true)).request(&endpoint);
    let fits = request(60_000).unwrap();
    assert!(fits.uri().query().unwrap().ends_with("&stdout=true"));
    assert!(request(70_000).is_err());
}
