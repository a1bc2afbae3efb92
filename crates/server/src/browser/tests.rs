//! Requests as browsers and programs send them, and as attackers would like them to be taken.

use super::*;

fn browsers() -> Browsers {
    Browsers::new()
        .addresses(["127.0.0.1".parse().unwrap()])
        .host("Box.Example")
        .names(|name| name == "certified.example")
        .origin("https://console.example".parse().unwrap())
        .https()
}

fn ask(browsers: &Browsers, uri: &str, headers: &[(&str, &str)]) -> Result<From, i32> {
    let mut request = http::Request::builder().uri(uri);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (head, ()) = request.body(()).unwrap().into_parts();
    browsers.check(&head.method, &head.uri, &head.headers).map_err(|status| status.code)
}

#[test]
fn only_our_own_names_are_hosts() {
    let browsers = browsers();
    for (host, code) in [
        ("localhost", 0),
        ("localhost:9", 0),
        ("LOCALHOST.:1", 0),
        ("127.0.0.1:7443", 0),
        ("[::ffff:127.0.0.1]:7443", 0),
        ("box.example", 0),
        ("certified.example:443", 0),
        ("evil.example:7443", 403),
        ("127.0.0.1.evil.example", 403),
        ("box.example.evil.example", 403),
        ("localhost.evil.example", 403),
        ("192.0.2.1", 403),
        ("[::1]:7443", 403),
        ("evil.example@localhost", 400),
        ("local host", 400),
        ("localhost/x", 400),
        ("", 400),
    ] {
        let found = ask(&browsers, "/api", &[("host", host)]);
        assert_eq!(found.err().unwrap_or(0), code, "{host}");
    }
    assert_eq!(ask(&browsers, "/api", &[]), Err(400));
    assert_eq!(ask(&browsers, "/api", &[("host", "localhost"), ("host", "evil.example")]), Err(400));
    assert_eq!(ask(&browsers, "http://evil.example/api", &[("host", "localhost")]), Err(400));
    assert_eq!(ask(&browsers, "http://localhost/api", &[("host", "localhost")]), Ok(From::Here));
    let any = Browsers::new();
    assert_eq!(ask(&any, "/", &[("host", "192.0.2.1:1")]), Ok(From::Here));
    assert_eq!(ask(&any, "/", &[("host", "evil.example")]), Err(403));
}

#[test]
fn only_pages_of_our_own_or_on_the_list_are_answered() {
    let browsers = browsers();
    let allowed = Ok(From::Allowed("https://console.example".parse().unwrap()));
    for (host, origin, expected) in [
        ("localhost:7443", "https://localhost:7443", Ok(From::Here)),
        ("localhost:7443", "https://LOCALHOST:7443", Ok(From::Here)),
        ("box.example", "https://box.example", Ok(From::Here)),
        ("box.example:443", "https://box.example", Ok(From::Here)),
        ("box.example", "https://box.example:443", Ok(From::Here)),
        ("localhost:7443", "https://console.example", allowed),
        // Another host, port, scheme; a prefix; nobody; two.
        ("localhost:7443", "https://evil.example", Err(403)),
        ("localhost:7443", "https://localhost", Err(403)),
        ("localhost:99999", "https://localhost", Err(403)),
        ("localhost:7443", "https://localhost:7444", Err(403)),
        ("localhost:7443", "http://localhost:7443", Err(403)),
        ("localhost:7443", "https://127.0.0.1:7443", Err(403)),
        ("localhost:7443", "https://console.example.evil.example", Err(403)),
        ("localhost:7443", "http://console.example", Err(403)),
        ("localhost:7443", "https://console.example:8443", Err(403)),
        ("localhost:7443", "https://console.example/", Err(403)),
        ("localhost:7443", "https://console.example https://evil.example", Err(403)),
        ("localhost:7443", "null", Err(403)),
        ("localhost:7443", "", Err(403)),
        ("localhost:7443", "file://", Err(403)),
        ("localhost:7443", "chrome-extension://abc", Err(403)),
    ] {
        assert_eq!(ask(&browsers, "/", &[("host", host), ("origin", origin)]), expected, "{host} {origin}");
    }
    let two = [("host", "localhost:1"), ("origin", "https://localhost:1"), ("origin", "https://localhost:1")];
    assert_eq!(ask(&browsers, "/", &two), Err(403));
    // Without TLS here there may be a proxy that has it.
    let plain = Browsers::new();
    for origin in ["http://localhost:80", "http://localhost"] {
        assert_eq!(ask(&plain, "/", &[("host", "localhost"), ("origin", origin)]), Ok(From::Here));
    }
    let proxied = [("host", "localhost"), ("origin", "https://localhost")];
    assert_eq!(ask(&plain, "/", &proxied), Ok(From::Here));
}

#[test]
fn a_plain_get_of_another_site_is_refused_but_for_a_link_that_was_followed() {
    let browsers = browsers();
    for (site, mode, dest, expected) in [
        ("same-origin", "cors", "empty", Ok(From::Here)),
        ("none", "navigate", "document", Ok(From::Here)),
        ("cross-site", "navigate", "document", Ok(From::Here)),
        ("cross-site", "navigate", "iframe", Err(403)),
        ("cross-site", "no-cors", "image", Err(403)),
        ("same-site", "no-cors", "script", Err(403)),
        ("cross-site", "websocket", "websocket", Err(403)),
        ("unheard-of", "no-cors", "image", Err(403)),
    ] {
        let headers = [
            ("host", "localhost"),
            ("sec-fetch-site", site),
            ("sec-fetch-mode", mode),
            ("sec-fetch-dest", dest),
        ];
        assert_eq!(ask(&browsers, "/", &headers), expected, "{site} {mode} {dest}");
    }
}

#[test]
fn names_are_typed_bare() {
    for (typed, read) in
        [("Box.example", "box.example"), ("[::1]", "::1"), ("192.0.2.7", "192.0.2.7"), ("a_b", "a_b")]
    {
        assert_eq!(parse_host(typed).as_deref(), Ok(read));
    }
    for typed in ["", "https://a", "a:1", "a/b", "a..b", "*.a", "a b", "a@b"] {
        assert!(parse_host(typed).unwrap_err().contains("without scheme"), "{typed}");
    }
    for (typed, shown) in
        [("HTTPS://A.example:443", "https://a.example"), ("http://[::1]:8080", "http://[::1]:8080")]
    {
        assert_eq!(typed.parse::<Origin>().unwrap().to_string(), shown);
    }
    for typed in ["a.example", "https://", "https://a/", "https://a@b", "ws://a", "https://a:99999", "*"] {
        assert!(typed.parse::<Origin>().is_err(), "{typed}");
    }
}
