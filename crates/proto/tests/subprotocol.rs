//! The table of subprotocols and the choice between them, row by row as upstream's tests have it.
//!
//! V1 to V7, S4 and S5 are rows of upstream's conn_test and stream_test, numbered in their order.

use wsstream_proto::subprotocol::{
    BEARER_TOKEN_PREFIX, DEFAULT_CHANNELS, Encoding, Framing, NegotiationError, READER, REMOTECOMMAND,
    RemoteVersion, SPDY_REMOTECOMMAND, Subprotocol, contains_offer, negotiate, parse_offers, supports_close,
};

fn chosen<'s>(supported: &'s [Subprotocol], offers: &[&str]) -> Option<&'s str> {
    negotiate(supported, offers).ok().map(Subprotocol::name)
}

/// Number, supported, offered, chosen.
type Row<'a> = (&'a str, &'a [Subprotocol], &'a [&'a str], Option<&'a str>);

/// Rows V6, V7 and S4 use names of the test's own.
fn versioned(framing: Framing) -> Vec<Subprotocol> {
    vec![
        Subprotocol::custom("", Encoding::Binary, framing),
        Subprotocol::custom("v1.raw", Encoding::Binary, framing),
        Subprotocol::custom("v1.base64", Encoding::Base64, framing),
        Subprotocol::custom("v2.raw", Encoding::Binary, framing),
        Subprotocol::custom_owned("v2.base64".to_owned(), Encoding::Base64, framing),
    ]
}

/// Rows V1 to V7 of upstream's connection test, and again for the reader (S5).
#[test]
fn negotiation_rows() {
    for (set, raw, versions) in [
        (DEFAULT_CHANNELS, "channel.k8s.io", versioned(Framing::Channels)),
        (READER, "binary.k8s.io", versioned(Framing::Single)),
    ] {
        let rows: &[Row<'_>] = &[
            ("V1", &[], &[raw], None),
            ("V1, nothing requested", &[], &[], None),
            ("V2", set, &[], Some("")),
            ("V3", set, &["v1.raw"], None),
            ("V4", set, &["v1.raw", "v1.base64"], None),
            ("V5", set, &["v1.raw", raw], Some(raw)),
            ("V6", &versions, &["v1.raw"], Some("v1.raw")),
            ("V7", &versions, &["v2.base64"], Some("v2.base64")),
        ];
        for (row, supported, offers, expected) in rows {
            assert_eq!(chosen(supported, offers), *expected, "{row} of {raw}");
        }
    }
}

#[test]
fn the_row_chosen_says_how_messages_are_carried() {
    let set = versioned(Framing::Single);
    let row = negotiate(&set, &["v2.base64"]).unwrap();
    assert_eq!((row.encoding(), row.framing()), (Encoding::Base64, Framing::Single));
    let row = negotiate(READER, &["base64.binary.k8s.io"]).unwrap();
    assert_eq!(row, &Subprotocol::BASE64_BINARY);
}

/// The offers that real clients make, and the client's order among them.
#[test]
fn the_clients_order_wins_except_for_v2_and_v3() {
    const V5: &str = "v5.channel.k8s.io";
    const V4: &str = "v4.channel.k8s.io";
    const V3: &str = "v3.channel.k8s.io";
    const V2: &str = "v2.channel.k8s.io";
    const V1: &str = "channel.k8s.io";
    let rows: &[(&[&str], Option<&str>)] = &[
        (&[V5], Some(V5)),
        (&[V5, V4], Some(V5)),
        (&[V4, V5], Some(V4)),
        (&[V1, V5], Some(V1)),
        (&[V5, V4, V3, V2, V1], Some(V5)),
        (&[V3, V2, V4], Some(V4)),
        (&[V3, V2, V1], Some(V1)),
        (&[V2, "base64.channel.k8s.io"], Some("base64.channel.k8s.io")),
        (&[V3, V2], Some(V3)),
        (&[V2, V3], Some(V2)),
        (&["x", V2], Some(V2)),
        (&["SPDY/3.1+portforward.k8s.io", V4], Some(V4)),
        (&["V5.channel.K8S.io"], None),
        (&["v5.CHANNEL.k8s.io"], None),
        (&["binary.k8s.io"], None),
        (&[], Some("")),
    ];
    for (offers, expected) in rows {
        assert_eq!(chosen(REMOTECOMMAND, offers), *expected, "{offers:?}");
    }
}

/// Rows P1 to P6.
#[test]
fn close_is_supported_by_v5_alone() {
    for name in [
        "",
        "base64.channel.k8s.io",
        "channel.k8s.io",
        "v4.channel.k8s.io",
        "V5.channel.K8S.io",
        "binary.k8s.io",
    ] {
        assert!(!supports_close(name), "{name:?}");
    }
    assert!(supports_close("v5.channel.k8s.io"));
}

#[test]
fn the_table() {
    // name, encoding, status as JSON, sizes, half-close
    let rows = [
        ("v5.channel.k8s.io", Encoding::Binary, true, true, true),
        ("v4.channel.k8s.io", Encoding::Binary, true, true, false),
        ("v4.base64.channel.k8s.io", Encoding::Base64, true, true, false),
        ("v3.channel.k8s.io", Encoding::Binary, false, true, false),
        ("v2.channel.k8s.io", Encoding::Binary, false, false, false),
        ("channel.k8s.io", Encoding::Binary, false, false, false),
        ("base64.channel.k8s.io", Encoding::Base64, false, false, false),
        ("", Encoding::Binary, false, false, false),
    ];
    assert_eq!(REMOTECOMMAND.len(), rows.len());
    for (row, (name, encoding, json_status, resize, half_close)) in REMOTECOMMAND.iter().zip(rows) {
        assert_eq!(row.name(), name);
        assert_eq!(row.framing(), Framing::Channels, "{name:?}");
        assert_eq!(row.encoding(), encoding, "{name:?}");
        assert_eq!(row.json_status(), json_status, "{name:?}");
        assert_eq!(row.resize(), resize, "{name:?}");
        assert_eq!(row.half_close(), half_close, "{name:?}");
        assert_eq!(Subprotocol::by_name(name), Some(row));
    }
    for row in READER {
        assert_eq!(row.framing(), Framing::Single);
        assert_eq!(row.version(), None);
        assert!(!row.json_status() && !row.resize() && !row.half_close());
    }
    assert_eq!(Subprotocol::by_name("V5.channel.k8s.io"), None);
    assert_eq!(Subprotocol::by_name("binary.k8s.io"), None);
}

#[test]
fn a_private_name_may_promise_what_a_public_version_does() {
    let row = Subprotocol::custom("v5.example.com", Encoding::Binary, Framing::Channels);
    assert!(!row.json_status() && !row.half_close());
    let row = row.with_version(RemoteVersion::V5);
    assert!(row.json_status() && row.half_close());
}

#[test]
fn offers_are_one_list_over_all_lines() {
    let rows: &[(&[&str], &[&str])] = &[
        (&[], &[]),
        (&[""], &[]),
        (&[",, "], &[]),
        (&["v5.channel.k8s.io"], &["v5.channel.k8s.io"]),
        (&["v5.channel.k8s.io,  v4.channel.k8s.io"], &["v5.channel.k8s.io", "v4.channel.k8s.io"]),
        (&["a,b", "\tc ", ",d"], &["a", "b", "c", "d"]),
    ];
    for (lines, expected) in rows {
        assert_eq!(parse_offers(lines.iter().copied()), *expected, "{lines:?}");
    }
}

/// Rows D7 to D11: the name is compared exactly, wherever it stands in the list.
#[test]
fn an_offer_is_found_by_its_exact_name() {
    let rows = [
        ("v5.CHANNEL.k8s.io", false),
        ("v4.channel.k8s.io", false),
        ("v4.channel.k8s.io,v3.channel.k8s.io,v2.channel.k8s.io", false),
        ("v5.channel.k8s.io,  v4.channel.k8s.io", true),
        ("v4.channel.k8s.io, v5.channel.k8s.io, v3.channel.k8s.io", true),
    ];
    for (line, expected) in rows {
        assert_eq!(contains_offer(&parse_offers([line]), "v5.channel.k8s.io"), expected, "{line}");
    }
}

#[test]
fn a_refusal_names_both_sides() {
    let error = negotiate(DEFAULT_CHANNELS, &["v1.raw", "v1.base64"]).unwrap_err();
    assert_eq!(error.offered(), ["v1.raw", "v1.base64"]);
    assert_eq!(error.accepted(), ["", "channel.k8s.io", "base64.channel.k8s.io"]);
    assert_eq!(
        error.to_string(),
        r#"unable to negotiate protocol: client supports ["v1.raw", "v1.base64"], server accepts ["", "channel.k8s.io", "base64.channel.k8s.io"]"#
    );
    let error = negotiate(&[Subprotocol::V5], &[]).unwrap_err();
    assert_eq!(error.offered(), [""]);
}

#[test]
fn a_refusal_does_not_repeat_a_bearer_token() {
    let token = format!("{BEARER_TOKEN_PREFIX}c2VjcmV0");
    let error: NegotiationError = negotiate(DEFAULT_CHANNELS, &[&token, "nope"]).unwrap_err();
    let text = format!("{error} {error:?}");
    assert!(!text.contains("c2VjcmV0"), "{text}");
    assert!(text.contains("nope"), "{text}");
}

/// What each version means over SPDY (v1 to v4), and that no other row claims anything there.
#[test]
fn the_versions_over_spdy() {
    // name, status as JSON, sizes, FIN ends stdin
    let rows = [
        ("v4.channel.k8s.io", true, true, true),
        ("v3.channel.k8s.io", false, true, true),
        ("v2.channel.k8s.io", false, false, true),
        ("channel.k8s.io", false, false, false),
    ];
    assert_eq!(SPDY_REMOTECOMMAND.len(), rows.len());
    for (row, (name, json_status, resize, half_close)) in SPDY_REMOTECOMMAND.iter().zip(rows) {
        assert_eq!(row.name(), name);
        assert_eq!((row.json_status(), row.resize()), (json_status, resize), "{name}");
        assert_eq!(row.spdy_half_close(), half_close, "{name}");
        assert!(!row.half_close(), "{name}");
    }
    for row in [Subprotocol::V5, Subprotocol::BINARY] {
        assert!(!row.spdy_half_close(), "{}", row.name());
    }
}
