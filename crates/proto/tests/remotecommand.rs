//! The query of exec and attach in both spellings, with what real clients send.

mod cases;

use proptest::prelude::*;
use wsstream_proto::remotecommand::{Request, RequestError, Spelling};

/// Parses and says which of stdin, stdout, stderr and tty are on.
fn flags(query: &str, spelling: Spelling) -> Result<[bool; 4], RequestError> {
    Request::parse(query, spelling).map(|r| [r.stdin, r.stdout, r.stderr, r.tty])
}

#[test]
fn what_clients_send() {
    let rows = [
        (
            "kubectl",
            "command=date&container=nginx&stderr=true&stdout=true",
            Request::command(["date"]).container("nginx").stdout(true).stderr(true),
        ),
        (
            "kube-rs",
            "&stdin=true&stdout=true&command=sh&command=-c&command=echo+a%20b",
            Request::command(["sh", "-c", "echo a b"]).stdin(true).stdout(true),
        ),
        (
            "python asks for stderr with a terminal",
            "command=sh&stderr=True&stdin=True&stdout=True&tty=True",
            Request::command(["sh"]).stdin(true).stdout(true).tty(true),
        ),
        (
            "C#",
            "command=ls&command=%2F&stderr=1&stdin=0&stdout=1&tty=0",
            Request::command(["ls", "/"]).stdout(true).stderr(true),
        ),
        ("attach", "stdin=true&stdout=true&tty=false", Request::default().stdin(true).stdout(true)),
        (
            "unknown parameters",
            "pretty&x=%zz&%ff=1&stdout=1&Stdin=1&input=1&=&&",
            Request::default().stdout(true),
        ),
        (
            "odd arguments",
            "stdout=1&command=&command&command=a%3Db%26c&command=%2B%25&command=%C3%A9%F0%9F%98%80&command=a=b;c",
            Request::command(["", "", "a=b&c", "+%", "\u{e9}\u{1f600}", "a=b;c"]).stdout(true),
        ),
        ("an encoded name", "c%6fmmand=x&std%6Fut=1", Request::command(["x"]).stdout(true)),
        (
            "the first container",
            "stdout=1&container=a&container=b",
            Request::default().container("a").stdout(true),
        ),
        ("an empty container", "stdout=1&container=&container=b", Request::default().stdout(true)),
    ];
    for (what, query, expected) in rows {
        assert_eq!(Request::parse(query, Spelling::ApiServer), Ok(expected), "{what}");
    }
}

#[test]
fn what_the_api_server_takes_for_true() {
    let rows = [
        ("stdout=1&stdin=true", true),
        ("stdout=1&stdin=True", true),
        ("stdout=1&stdin=1", true),
        ("stdout=1&stdin=", true),
        ("stdout=1&stdin", true),
        ("stdout=1&stdin=no", true),
        ("stdout=1&stdin=00", true),
        ("stdout=1&stdin=true&stdin=false", true),
        ("stdout=1", false),
        ("stdout=1&stdin=0", false),
        ("stdout=1&stdin=false", false),
        ("stdout=1&stdin=False", false),
        ("stdout=1&stdin=FALSE", false),
        ("stdout=1&stdin=f%61lse", false),
        ("stdout=1&stdin=false&stdin=true", false),
    ];
    for (query, expected) in rows {
        assert_eq!(flags(query, Spelling::ApiServer), Ok([expected, true, false, false]), "{query}");
    }
}

#[test]
fn what_the_kubelet_takes_for_true() {
    let rows = [
        ("input=1&output=1&error=1", [true, true, true, false]),
        ("input=1&output=1&error=1&tty=1", [true, true, false, true]),
        ("output=1&input=true&error=&tty", [false, true, false, false]),
        ("output=1&input=0&input=1", [false, true, false, false]),
        ("output=1&stdin=1&stdout=1&stderr=1", [false, true, false, false]),
    ];
    for (query, expected) in rows {
        assert_eq!(flags(query, Spelling::Kubelet), Ok(expected), "{query}");
    }
    // There the container is in the path.
    let request = Request::parse("output=1&container=c&command=a", Spelling::Kubelet);
    assert_eq!(request, Ok(Request::command(["a"]).stdout(true)));
}

#[test]
fn a_request_without_streams() {
    for (query, spelling) in [
        ("", Spelling::ApiServer),
        ("command=date", Spelling::ApiServer),
        ("command=date&tty=true", Spelling::ApiServer),
        ("stdin=false&stdout=0", Spelling::ApiServer),
        // A terminal has no stderr of its own.
        ("stderr=true&tty=true", Spelling::ApiServer),
        ("stdin=1&stdout=1", Spelling::Kubelet),
        ("output=true", Spelling::Kubelet),
    ] {
        let error = Request::parse(query, spelling).unwrap_err();
        assert_eq!(error, RequestError::NoStreams, "{query}");
        assert_eq!(error.to_string(), "you must specify at least 1 of stdin, stdout, stderr");
    }
}

#[test]
fn exec_wants_a_command() {
    let attach = Request::default().stdout(true);
    assert_eq!(attach.validate(), Ok(()));
    let error = attach.validate_exec().unwrap_err();
    assert_eq!(error.to_string(), "you must specify at least one command for the container");
    assert_eq!(Request::command(["date"]).stdout(true).validate_exec(), Ok(()));
    assert_eq!(Request::command(["date"]).validate_exec(), Err(RequestError::NoStreams));
    assert_eq!(Request::command(["date"]).stderr(true).tty(true).validate(), Err(RequestError::NoStreams));
}

#[test]
fn a_command_is_taken_as_it_is_or_not_at_all() {
    let rows = [
        ("command=a%00b", RequestError::Nul { parameter: "command" }),
        ("container=%00", RequestError::Nul { parameter: "container" }),
        ("command=%ff", RequestError::Encoding { parameter: "command" }),
        ("command=%C3", RequestError::Encoding { parameter: "command" }),
        ("command=%ed%a0%80", RequestError::Encoding { parameter: "command" }),
        ("command=100%", RequestError::Encoding { parameter: "command" }),
        ("command=%4", RequestError::Encoding { parameter: "command" }),
        ("command=%zz", RequestError::Encoding { parameter: "command" }),
        ("command=%+1", RequestError::Encoding { parameter: "command" }),
        ("container=%", RequestError::Encoding { parameter: "container" }),
        ("tty=%ff", RequestError::Encoding { parameter: "tty" }),
    ];
    for (query, expected) in rows {
        let parsed = Request::parse(&format!("stdout=true&{query}"), Spelling::ApiServer);
        assert_eq!(parsed, Err(expected), "{query}");
    }
    assert_eq!(
        Request::command(["a\0"]).stdout(true).validate(),
        Err(RequestError::Nul { parameter: "command" })
    );
}

#[test]
fn written_in_kubectls_order() {
    let all =
        Request::command(["sh", "-c", "echo a&b=c"]).container("main").stdin(true).stdout(true).stderr(true);
    let command = "command=sh&command=-c&command=echo+a%26b%3Dc";
    assert_eq!(
        all.to_query(Spelling::ApiServer),
        format!("{command}&container=main&stderr=true&stdin=true&stdout=true")
    );
    assert_eq!(all.to_query(Spelling::Kubelet), format!("{command}&error=1&input=1&output=1"));
    let tty = all.tty(true);
    assert_eq!(
        tty.to_query(Spelling::ApiServer),
        format!("{command}&container=main&stdin=true&stdout=true&tty=true")
    );
    assert_eq!(tty.to_query(Spelling::Kubelet), format!("{command}&input=1&output=1&tty=1"));
    assert_eq!(Request::default().to_query(Spelling::ApiServer), "");
}

proptest! {
    #![proptest_config(cases::cases())]

    #[test]
    fn what_is_written_is_read_back(
        command in prop::collection::vec("[^\0]{0,8}", 0..5),
        container in prop::option::of("[^\0]{1,8}"),
        [stdin, stdout, stderr, tty]: [bool; 4],
    ) {
        let mut request = Request::command(command).stdin(stdin).stdout(stdout).stderr(stderr && !tty).tty(tty);
        request.container = container;
        for spelling in [Spelling::ApiServer, Spelling::Kubelet] {
            if spelling == Spelling::Kubelet {
                request.container = None;
            }
            let parsed = Request::parse(&request.to_query(spelling), spelling);
            match request.validate() {
                Ok(()) => prop_assert_eq!(parsed, Ok(request.clone())),
                Err(error) => prop_assert_eq!(parsed, Err(error)),
            }
        }
    }

    #[test]
    fn any_query_is_parsed_or_refused(noise: String, query in "((command|stdin|stdout|tty|x)=[%+0-9a-fA-F]{0,6}&){0,6}") {
        for query in [noise, query] {
            for spelling in [Spelling::ApiServer, Spelling::Kubelet] {
                if let Ok(request) = Request::parse(&query, spelling) {
                    prop_assert_eq!(request.validate(), Ok(()));
                    prop_assert!(!(request.tty && request.stderr));
                }
            }
        }
    }
}
