//! Every error is a Status in JSON, on every path and for every method, and names the cause.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::Method;
use server_support::{Running, ended, host_pod, process};
use wsstream_server::{Pod, Pods};
use wsstream_testing::http::Upgrade;

const PODS: &str = "/api/v1/namespaces/default/pods";

async fn server() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let (_, a) = process("two", "a", "cat");
    let (_, b) = process("two", "b", "cat");
    pods.add(Pod::new("two").container(a).container(b)).unwrap();
    let (done, container) = process("done", "done", "exit 0");
    ended(&done).await;
    pods.add(Pod::new("done").container(container)).unwrap();
    Running::new(pods).await
}

#[tokio::test]
async fn every_path_and_method_answers_with_a_status() {
    let server = server().await;
    let methods = [
        Method::GET,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
        Method::TRACE,
    ];
    let paths = [
        // Known paths: with GET they are served, so only the other methods are looked at.
        ("/api", true),
        ("/apis", true),
        ("/api/v1", true),
        ("/version", true),
        ("/api/v1/namespaces", true),
        ("/api/v1/namespaces/default", true),
        ("/api/v1/pods", true),
        ("/api/v1/namespaces/default/pods", true),
        ("/api/v1/namespaces/default/pods/host", true),
        ("/api/v1/namespaces/default/pods/host/log", true),
        ("/healthz", true),
        ("/readyz", true),
        ("/livez", true),
        // Unknown paths.
        ("/", false),
        ("/openapi/v2", false),
        ("/openapi/v3", false),
        ("/apis/apps/v1", false),
        ("/api/v1/nodes", false),
        ("/api/v1/namespaces/default/pods/host/exec/more", false),
        ("/api/v1/namespaces/default/secrets", false),
        ("/metric", false),
        ("/%ff", false),
        ("//api", false),
        ("/api/v1/../v1/pods", false),
    ];
    for (path, known) in paths {
        for method in &methods {
            if known && *method == Method::GET {
                continue;
            }
            let answer = server.answer(server.request(method.clone(), path)).await;
            if known {
                let message = answer.failure(405, "MethodNotAllowed");
                assert_eq!(message, "the server does not allow this method on the requested resource");
                assert!(answer.headers["allow"].to_str().unwrap().contains("GET"), "{path} {answer:?}");
            } else {
                let message = answer.failure(404, "NotFound");
                assert_eq!(message, "the server could not find the requested resource", "{method} {path}");
            }
        }
    }
    // A method of one's own invention, and HEAD, whose answer has no body.
    let odd = Method::from_bytes(b"BREW").unwrap();
    server.answer(server.request(odd, "/api/v1/pods")).await.failure(405, "MethodNotAllowed");
    let head = server.answer(server.request(Method::HEAD, "/api/v1/nodes")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (404, 0));
    let head = server.answer(server.request(Method::HEAD, "/api/v1/pods")).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (200, 0));
}

#[tokio::test]
async fn what_is_wrong_with_a_request_is_named() {
    let server = server().await;
    for (path, code, reason, message) in [
        ("/nope", 404, "NotFound", "pods \"nope\" not found"),
        ("/nope/log", 404, "NotFound", "pods \"nope\" not found"),
        ("/nope/exec?command=ls", 404, "NotFound", "pods \"nope\" not found"),
        ("/..%2f..%2fhost", 404, "NotFound", "pods \"../../host\" not found"),
        ("/host%ff", 400, "BadRequest", "Invalid UTF-8 in `pod`"),
        ("/host/log", 400, "BadRequest", "container \"host\" in pod \"host\" has no logs"),
        ("/host/log?container=x", 400, "BadRequest", "container x is not valid for pod host"),
        ("/host/exec?container=x&command=ls", 400, "BadRequest", "container x is not valid for pod host"),
        (
            "/two/log",
            400,
            "BadRequest",
            "a container name must be specified for pod two, choose one of: [a b]",
        ),
        (
            "/two/attach",
            400,
            "BadRequest",
            "a container name must be specified for pod two, choose one of: [a b]",
        ),
        ("/two/log?container=a&tailLines=-1", 400, "BadRequest", "tailLines=\"-1\" is not a whole number"),
        ("/two/log?container=a&limitBytes=x", 400, "BadRequest", "limitBytes=\"x\" is not a whole number"),
        (
            "/two/log?container=a&sinceTime=noon",
            400,
            "BadRequest",
            "sinceTime=\"noon\" is not an RFC 3339 time",
        ),
        ("/two/log?container=a&stream=Stderr", 400, "BadRequest", "stream=\"Stderr\" is not supported"),
        ("/two/log?container=a&previous=true", 400, "BadRequest", "previous terminated container \"a\""),
        (
            "/done/exec?command=ls",
            400,
            "BadRequest",
            "cannot exec into a container in a completed pod; current phase is Succeeded",
        ),
        (
            "/done/attach",
            400,
            "BadRequest",
            "cannot attach to a container in a completed pod; current phase is Succeeded",
        ),
        ("/host/exec?command=ls", 400, "BadRequest", "Upgrade request required"),
        ("/host/attach", 400, "BadRequest", "Upgrade request required"),
        ("?watch=1&resourceVersion=x", 400, "BadRequest", "invalid resource version \"x\""),
        ("?limit=x", 400, "BadRequest", "limit=\"x\" is not a whole number"),
        ("?labelSelector=a%20b", 400, "BadRequest", "unable to parse labelSelector"),
        ("?fieldSelector=spec.x%3D1", 400, "BadRequest", "field label not supported: spec.x"),
    ] {
        let answer = server.get(&format!("{PODS}{path}")).await;
        let found = answer.failure(code, reason);
        assert!(found.contains(message), "{path}: {found}");
    }
    let missing = server.get(&format!("{PODS}/nope")).await.json();
    assert_eq!(missing["details"], serde_json::json!({"name": "nope", "kind": "pods"}));
    let protobuf = server.request(Method::GET, PODS).header("accept", "application/vnd.kubernetes.protobuf");
    let message = server.answer(protobuf).await.failure(406, "NotAcceptable");
    assert!(message.contains("application/json"), "{message}");
}

/// kubectl tries a refused WebSocket upgrade again over SPDY by POST, and shows only that answer.
#[tokio::test]
async fn an_upgrade_fails_alike_for_websocket_and_spdy() {
    let server = server().await;
    for (path, code, reason, message) in [
        ("/nope/exec?command=ls&stdout=true", 404, "NotFound", "pods \"nope\" not found"),
        ("/host/exec?container=x&command=ls", 400, "BadRequest", "container x is not valid for pod host"),
        ("/done/exec?command=ls", 400, "BadRequest", "completed pod"),
        ("/two/attach?stdin=1", 400, "BadRequest", "choose one of: [a b]"),
    ] {
        let path = format!("{PODS}{path}");
        let websocket = server
            .request(Method::GET, &path)
            .header("connection", "Upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", wsstream_testing::http::KEY)
            .header("sec-websocket-protocol", "v5.channel.k8s.io");
        let spdy = server
            .request(Method::POST, &path)
            .header("connection", "Upgrade")
            .header("upgrade", "SPDY/3.1")
            .header("x-stream-protocol-version", "v4.channel.k8s.io");
        let (websocket, spdy) = (server.answer(websocket).await, server.answer(spdy).await);
        assert!(websocket.failure(code, reason).contains(message), "{websocket:?}");
        assert_eq!(websocket.body, spdy.body);
        assert_eq!(websocket.status, spdy.status);
    }
}

#[tokio::test]
async fn an_upgrade_that_we_do_not_serve_is_told_what_we_do() {
    let server = server().await;
    let path = format!("{PODS}/host/exec?command=ls&stdout=true");
    for method in [Method::GET, Method::POST] {
        let ask = |upgrade, version| {
            server
                .request(method.clone(), &path)
                .header("connection", "Upgrade")
                .header("upgrade", upgrade)
                .header("x-stream-protocol-version", version)
        };
        let message = server.answer(ask("h2c", "v4.channel.k8s.io")).await.failure(400, "BadRequest");
        assert!(message.contains("SPDY/3.1") && message.contains("v5.channel.k8s.io"), "{message}");
        // SPDY knows no v5.
        let message = server.answer(ask("SPDY/3.1", "v5.channel.k8s.io")).await.failure(403, "Forbidden");
        assert!(message.contains("unable to negotiate protocol"), "{message}");
        assert_eq!(server.answer(ask("SPDY/3.1", "v4.channel.k8s.io")).await.status, 101);
    }
    let upgrade = Upgrade::get(&path)
        .header("Authorization", &format!("Bearer {}", server.token))
        .subprotocol("v9.channel.k8s.io");
    let stream = tokio::net::TcpStream::connect(server.address).await.unwrap();
    let answer = upgrade.send(stream).await;
    assert_eq!(answer.status, 403, "{}", answer.head);
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[tokio::test]
async fn nobody_gets_in_without_a_token_and_everybody_learns_why() {
    let server = server().await;
    let send = |path: &str, token: Option<&str>| {
        let mut request = http::Request::get(path).header("host", "localhost");
        if let Some(token) = token {
            request = request.header("authorization", token);
        }
        server.answer(request)
    };
    let wrong = format!("Bearer {}x", server.token);
    for path in ["/api", PODS, "/nonsense", &format!("{PODS}/host/exec?command=ls"), "/version"] {
        for (token, cause) in [
            (None, "no bearer token was sent"),
            (Some("Bearer"), "is not `Bearer <token>`"),
            (Some("Basic eDp5"), "is not `Bearer <token>`"),
            (Some("Bearer nonsense"), "is not one that this server accepts"),
            (Some(wrong.as_str()), "is not one that this server accepts"),
        ] {
            let answer = send(path, token).await;
            let message = answer.failure(401, "Unauthorized");
            assert!(message.contains(cause), "{path}: {message}");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
    }
    // A token in the query is no token: it would end up in logs.
    send(&format!("/api?access_token={}", server.token), None).await.failure(401, "Unauthorized");
    for path in ["/healthz", "/readyz", "/livez"] {
        let answer = send(path, None).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "ok"));
    }
    assert_eq!(send("/api", Some(&format!("Bearer {}", server.token))).await.status, 200);
}

/// A 405, or an `Allow` beside the 401, would tell an outsider which paths exist.
#[tokio::test]
async fn no_method_gets_past_the_token_on_any_path() {
    let server = server().await;
    let paths = [
        "/version",
        "/api",
        "/apis",
        "/api/v1",
        "/api/v1/namespaces",
        "/api/v1/namespaces/default",
        "/api/v1/pods",
        PODS,
        &format!("{PODS}/host"),
        &format!("{PODS}/host/log"),
        &format!("{PODS}/host/exec?command=ls"),
        &format!("{PODS}/host/attach"),
        &format!("{PODS}/host/portforward"),
        &format!("{PODS}/nope"),
        "/nonsense",
    ];
    for path in paths {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "BREW"] {
            let answer = server
                .answer(http::Request::builder().method(method).uri(path).header("host", "localhost"))
                .await;
            assert!(!answer.headers.contains_key("allow"), "{method} {path}: {answer:?}");
            assert!(answer.headers.contains_key("www-authenticate"), "{method} {path}: {answer:?}");
            if method == "HEAD" {
                assert_eq!(answer.status, 401, "{path}");
            } else {
                answer.failure(401, "Unauthorized");
            }
        }
    }
}

/// kubectl tries GET with a WebSocket, then POST with SPDY, and prints the message of the latter.
#[tokio::test]
async fn port_forward_says_what_is_wrong_whatever_the_wire() {
    let server = server().await;
    let request = |pod: &str, method: &Method, upgrade: &str| {
        let request = server.request(method.clone(), &format!("{PODS}/{pod}/portforward"));
        if upgrade.is_empty() {
            return request;
        }
        request.header("connection", "Upgrade").header("upgrade", upgrade)
    };
    let wires = [
        (Method::GET, "websocket", "Sec-WebSocket-Version"),
        (Method::POST, "SPDY/3.1", "X-Stream-Protocol-Version"),
        (Method::POST, "", "Upgrade request required"),
        (Method::GET, "h2c", "this server takes WebSocket and SPDY"),
    ];
    for (method, upgrade, part) in &wires {
        let message = server.answer(request("host", method, upgrade)).await.failure(400, "BadRequest");
        assert!(message.contains(part), "{message}");
        server.answer(request("nope", method, upgrade)).await.failure(404, "NotFound");
    }
    // SPDY without a version in common: upstream's 403, with what would have been taken.
    let spdy = request("host", &Method::POST, "SPDY/3.1").header("x-stream-protocol-version", "v9, v8");
    let answer = server.answer(spdy).await;
    assert_eq!(answer.headers["x-accepted-stream-protocol-versions"], "portforward.k8s.io");
    assert!(answer.failure(403, "Forbidden").contains("portforward.k8s.io"));
    // Channels name their ports in the URL.
    let channels = |query: &str| {
        request("host", &Method::GET, "websocket")
            .uri(format!("{PODS}/host/portforward{query}"))
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", wsstream_testing::http::KEY)
            .header("sec-websocket-protocol", "v5.channel.k8s.io,v4.channel.k8s.io")
    };
    for (query, part) in
        [("", "\"ports\" is required"), ("?ports=", "cannot be empty"), ("?ports=80,x", "\"x\" as a port")]
    {
        let message = server.answer(channels(query)).await.failure(400, "BadRequest");
        assert!(message.contains(part), "{message}");
    }
}

/// As Kubernetes' API server answers, a failing check being 503 and not its 500: what balancers and kubelets count is that
/// it is no success, and 503 says of itself that the server is not broken.
#[tokio::test]
async fn readiness_lists_its_checks_and_fails_with_a_status() {
    let server = server().await;
    let get = |path: &'static str| {
        let request = http::Request::builder().method("GET").uri(path).header("host", "localhost");
        let server = &server;
        async move { server.answer(request).await }
    };
    assert_eq!(get("/readyz?verbose").await.text(), "[+]ping ok\n[+]shutdown ok\nreadyz check passed\n");
    assert_eq!(get("/livez?verbose").await.text(), "[+]ping ok\nlivez check passed\n");
    let check = server.api.readiness().check("audit");
    assert_eq!(get("/readyz").await.text(), "ok");
    check.set(false);
    let message = get("/readyz").await.failure(503, "ServiceUnavailable");
    assert_eq!(message, "readyz check failed: audit");
    let verbose = get("/readyz?verbose").await;
    assert_eq!(verbose.status, 503);
    assert_eq!(
        verbose.text(),
        "[+]ping ok\n[+]shutdown ok\n[-]audit failed: reason withheld\nreadyz check failed\n"
    );
    for path in ["/livez", "/healthz"] {
        assert_eq!(get(path).await.status, 200, "a server that is not ready lives");
    }
    check.set(true);
    assert_eq!(get("/readyz").await.status, 200);
}
