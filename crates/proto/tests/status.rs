//! The status on the error stream: the bytes a server writes, and the verdict a client reads from them.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests fail as tests do")]

mod cases;

use proptest::prelude::*;
use wsstream_proto::status::{ExitCode, Status, Verdict, is_complete_json};

fn json(status: &Status) -> String {
    String::from_utf8(status.to_channel_json()).unwrap()
}

fn invalid(raw: &str, reason: &str) -> Verdict {
    Verdict::Invalid { reason: format!("error stream protocol error: {reason}"), raw: raw.into() }
}

fn failed_with(raw: &[u8], json_status: bool) -> String {
    match Verdict::from_channel(raw, json_status) {
        Verdict::Failed(status) => status.message,
        other => panic!("expected a failure, got {other:?}"),
    }
}

/// The bytes of the error channel, as Go writes them.
#[test]
fn channel_bytes() {
    let rows = [
        (Status::success(), r#"{"metadata":{},"status":"Success"}"#),
        (
            Status::exit(ExitCode(42), "command terminated with exit code 42"),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: command terminated with exit code 42","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"42"}]}}"#,
        ),
        (
            Status::exit(ExitCode(7), "exit status 7"),
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#,
        ),
        (
            Status::internal("boom"),
            r#"{"metadata":{},"status":"Failure","message":"Internal error occurred: boom","reason":"InternalError","details":{"causes":[{"message":"boom"}]},"code":500}"#,
        ),
        (
            Status::not_found("pods", "x"),
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"pods \"x\" not found","reason":"NotFound","details":{"name":"x","kind":"pods"},"code":404}"#,
        ),
        (
            Status::too_many_requests("slow down", 60),
            r#"{"kind":"Status","apiVersion":"v1","metadata":{},"status":"Failure","message":"slow down","reason":"TooManyRequests","details":{"retryAfterSeconds":60},"code":429}"#,
        ),
    ];
    for (status, expected) in rows {
        assert_eq!(json(&status), expected);
        assert_eq!(Status::from_json(expected.as_bytes()).unwrap(), status);
    }
}

#[test]
fn go_escapes_html_and_line_separators() {
    let status = Status::bad_request("a<b>&c\u{2028}\u{2029}\"\\\n\t\u{1}\u{7f}\u{e9}\u{1f600}");
    let expected = r#""message":"a\u003cb\u003e\u0026c\u2028\u2029\"\\\n\t\u0001"#.to_owned()
        + "\u{7f}\u{e9}\u{1f600}\"";
    assert!(json(&status).contains(&expected), "{}", json(&status));
}

#[test]
fn api_failures() {
    let rows = [
        (Status::bad_request("m"), 400, "BadRequest", "m"),
        (Status::unauthorized("m"), 401, "Unauthorized", "m"),
        (Status::forbidden("pods", "x", "no"), 403, "Forbidden", "pods \"x\" is forbidden: no"),
        (Status::forbidden("pods", "", "no"), 403, "Forbidden", "pods is forbidden: no"),
        (Status::forbidden("", "", "no"), 403, "Forbidden", "forbidden: no"),
        (Status::not_found("pods", "x"), 404, "NotFound", "pods \"x\" not found"),
        (Status::method_not_allowed("m"), 405, "MethodNotAllowed", "m"),
        (Status::not_acceptable("m"), 406, "NotAcceptable", "m"),
        (Status::too_many_requests("m", 1), 429, "TooManyRequests", "m"),
        (Status::internal("m").into_api_object(), 500, "InternalError", "Internal error occurred: m"),
        (Status::service_unavailable("m"), 503, "ServiceUnavailable", "m"),
        (Status::failure(410, "Gone", "m"), 410, "Gone", "m"),
    ];
    for (status, code, reason, message) in rows {
        assert_eq!((status.code, &*status.reason, &*status.message), (code, reason, message));
        assert!(status.is_failure() && !status.is_success());
        assert!(json(&status).starts_with(r#"{"kind":"Status","apiVersion":"v1","metadata":{},"#));
        assert_eq!(Verdict::from_channel(&status.to_channel_json(), true), Verdict::Failed(status));
    }
}

#[test]
fn exit_0_is_success() {
    assert_eq!(Status::exit(ExitCode(0), "exit status 0"), Status::success());
}

#[test]
fn the_text_form_is_silent_on_success_only() {
    assert_eq!(Status::success().to_text(), None);
    assert_eq!(
        Status::exit(ExitCode(7), "exit status 7").to_text(),
        Some("command terminated with non-zero exit code: exit status 7")
    );
    assert_eq!(Status::internal("boom").to_text(), Some("Internal error occurred: boom"));
    assert_eq!(Status::failure(410, "Gone", "").to_text(), Some("Gone"));
    assert_eq!(Status::default().to_text(), Some("unknown error"));
}

/// The decoder rows of upstream's client, and both shapes of every status that servers write.
#[test]
fn verdict_rows() {
    let rows = [
        ("{}", invalid("{}", "unknown error")),
        (r#"{"status":"Maybe"}"#, invalid(r#"{"status":"Maybe"}"#, "unknown error")),
        (r#"{"status":null}"#, invalid(r#"{"status":null}"#, "unknown error")),
        (r#"{"status":"Success"}"#, Verdict::Exited(ExitCode(0))),
        (r#"{"metadata":{},"status":"Success"}"#, Verdict::Exited(ExitCode(0))),
        (r#"{"metadata":{"x":[1]},"status":"Success","details":null,"y":{}}"#, Verdict::Exited(ExitCode(0))),
        (
            r#"{"status":"Failure","reason":"NonZeroExitCode"}"#,
            invalid(r#"{"status":"Failure","reason":"NonZeroExitCode"}"#, "details must be set"),
        ),
        (
            r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":null}}"#,
            invalid(
                r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":null}}"#,
                "no ExitCode cause given",
            ),
        ),
        (
            r#"{"metadata":{},"status":"Failure","message":"command terminated with non-zero exit code: exit status 7","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"7"}]}}"#,
            Verdict::Exited(ExitCode(7)),
        ),
        (
            r#"{"status":"Failure","message":"m","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"255"}]}}"#,
            Verdict::Exited(ExitCode(255)),
        ),
    ];
    for (raw, expected) in rows {
        assert_eq!(Verdict::from_channel(raw.as_bytes(), true), expected, "{raw}");
    }
    let failure =
        r#"{"status":"Failure","message":"Internal error occurred: e","reason":"InternalError","code":500}"#;
    assert_eq!(failed_with(failure.as_bytes(), true), "Internal error occurred: e");
    assert_eq!(failed_with(br#"{"status":"Failure","message":"foobar"}"#, true), "foobar");
}

#[test]
fn exit_code_causes() {
    let rows = [
        (r#"[{"reason":"foo"}]"#, Err("no ExitCode cause given")),
        ("[]", Err("no ExitCode cause given")),
        (r#"[{"reason":"ExitCode"}]"#, Err(r#"invalid exit code value """#)),
        (r#"[{"reason":"ExitCode","message":"256"}]"#, Err(r#"invalid exit code value "256""#)),
        (r#"[{"reason":"ExitCode","message":"-1"}]"#, Err(r#"invalid exit code value "-1""#)),
        (r#"[{"reason":"ExitCode","message":"+5"}]"#, Err(r#"invalid exit code value "+5""#)),
        (r#"[{"reason":"ExitCode","message":"5 "}]"#, Err(r#"invalid exit code value "5 ""#)),
        // A failure that claims the code of success is neither.
        (r#"[{"reason":"ExitCode","message":"0"}]"#, Err(r#"invalid exit code value "0""#)),
        // The first cause of that reason decides.
        (r#"[{"reason":"foo"},{"reason":"ExitCode","message":"42"}]"#, Ok(42)),
        (
            r#"[{"reason":"ExitCode","message":"x"},{"reason":"ExitCode","message":"42"}]"#,
            Err(r#"invalid exit code value "x""#),
        ),
        (r#"[{"reason":"ExitCode","message":"042"}]"#, Ok(42)),
    ];
    for (causes, expected) in rows {
        let raw =
            format!(r#"{{"status":"Failure","reason":"NonZeroExitCode","details":{{"causes":{causes}}}}}"#);
        let expected = match expected {
            Ok(code) => Verdict::Exited(ExitCode(code)),
            Err(reason) => invalid(&raw, reason),
        };
        assert_eq!(Verdict::from_channel(raw.as_bytes(), true), expected, "{causes}");
    }
}

#[test]
fn what_is_not_one_status_object_is_quoted() {
    for raw in [
        "{",
        "this is not json",
        "\n",
        "null",
        "1",
        "[]",
        r#"["Status","v1","Success"]"#,
        r#"{"status":1}"#,
        r#"{"status":"Failure","reason":"NonZeroExitCode","details":["a"]}"#,
        r#"{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[["ExitCode","3"]]}}"#,
        // Two status messages, as kubectl sees them concatenated.
        r#"{"status":"Success"}{"status":"Success"}"#,
    ] {
        match Verdict::from_channel(raw.as_bytes(), true) {
            Verdict::Invalid { reason, raw: kept } => {
                assert!(reason.starts_with("error stream protocol error: "), "{reason}");
                assert!(reason.ends_with(&format!(" in {raw:?}")), "{reason}");
                assert_eq!(kept, raw.as_bytes());
            }
            other => panic!("{raw}: {other:?}"),
        }
    }
}

#[test]
fn an_endless_undecodable_status_is_quoted_in_part() {
    let raw = vec![b'x'; if cfg!(miri) { 1 << 13 } else { 1 << 20 }];
    match Verdict::from_channel(&raw, true) {
        Verdict::Invalid { reason, raw: kept } => {
            assert!(reason.len() < 2048 && reason.ends_with("x...\""), "{}", reason.len());
            assert_eq!(kept.len(), raw.len());
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn silence_is_a_success_of_no_protocol() {
    assert_eq!(Verdict::from_channel(b"", true), Verdict::Missing);
    assert_eq!(Verdict::from_channel(b"", false), Verdict::Ended);
}

#[test]
fn before_v4_any_text_is_a_failure() {
    let message = failed_with(b"command terminated with non-zero exit code: exit status 7", false);
    assert_eq!(
        message,
        "error executing remote command: command terminated with non-zero exit code: exit status 7"
    );
    // Even one that looks like a status of a later version.
    let message = failed_with(br#"{"status":"Success"}"#, false);
    assert_eq!(message, r#"error executing remote command: {"status":"Success"}"#);
}

#[test]
fn a_garbled_message_does_not_cost_the_exit_code() {
    let mut raw = br#"{"status":"Failure","message":"?","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"9"}]}}"#.to_vec();
    let garbled = raw.iter().position(|b| *b == b'?').unwrap();
    raw[garbled] = 0xff;
    assert_eq!(Verdict::from_channel(&raw, true), Verdict::Exited(ExitCode(9)));
}

#[test]
fn a_whole_object_is_recognised_as_it_arrives() {
    let raw = Status::exit(ExitCode(42), "a } in \" a string").to_channel_json();
    for end in 0..raw.len() {
        assert!(!is_complete_json(&raw[..end]), "{}", String::from_utf8_lossy(&raw[..end]));
    }
    assert!(is_complete_json(&raw));
    assert!(is_complete_json(b" \n{} trailing"));
    for not_an_object in ["", "1", "12", "null", "[]", "\"a\"", "x{}"] {
        assert!(!is_complete_json(not_an_object.as_bytes()), "{not_an_object}");
    }
}

#[test]
fn verdicts_in_words() {
    let rows = [
        (Verdict::Exited(ExitCode(42)), "command terminated with exit code 42"),
        (Verdict::Missing, "the session ended without a status"),
        (Verdict::Failed(Status::internal("e")), "Internal error occurred: e"),
        (invalid("{}", "unknown error"), "error stream protocol error: unknown error"),
    ];
    for (verdict, text) in rows {
        assert_eq!(verdict.to_string(), text);
    }
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn any_exit_survives_the_wire(code: u8, detail: String) {
        let raw = Status::exit(ExitCode(code), detail).to_channel_json();
        prop_assert!(is_complete_json(&raw));
        prop_assert_eq!(Verdict::from_channel(&raw, true), Verdict::Exited(ExitCode(code)));
    }

    #[test]
    fn any_failure_survives_the_wire(code: u16, reason in "[A-MO-Za-z]{0,12}", message: String) {
        let status = Status::failure(code, reason, message);
        prop_assert_eq!(Verdict::from_channel(&status.to_channel_json(), true), Verdict::Failed(status));
    }

    #[test]
    fn arbitrary_bytes_are_never_a_success(raw: Vec<u8>, json_status: bool) {
        let _ = is_complete_json(&raw);
        prop_assert!(!matches!(Verdict::from_channel(&raw, json_status), Verdict::Exited(_)));
    }
}
