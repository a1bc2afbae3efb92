//! Browsers at the real server: hosts, origins, headers, and links that are good once.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::Full;
use hyper_util::rt::TokioIo;
use server_support::{Answer, Running, host_pod, soon};
use tokio::net::TcpStream;
use wsstream_server::{Pods, TlsSource, auth::Identity};

async fn server() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        options.access.allowed_hosts = vec!["box.example".into()];
        options.access.allowed_origins = vec!["https://console.example".parse().unwrap()];
    })
    .await
}

/// A request with a valid token, as a page would send it.
async fn ask(server: &Running, method: Method, path: &str, headers: &[(&str, &str)]) -> Answer {
    let mut request = Request::builder().method(method).uri(path);
    request = request.header("authorization", format!("Bearer {}", server.token));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    server.answer(request).await
}

#[tokio::test]
async fn a_name_that_is_not_ours_is_refused_on_every_path() {
    let server = server().await;
    for path in ["/", "/healthz", "/readyz", "/api", "/api/v1/pods", "/auth/exchange", "/nope"] {
        for method in [Method::GET, Method::POST, Method::OPTIONS] {
            let answer = ask(&server, method, path, &[("host", "rebound.example")]).await;
            let message = answer.failure(403, "Forbidden");
            assert!(message.contains("not known as \"rebound.example\""), "{message}");
        }
    }
    assert_eq!(ask(&server, Method::GET, "/api", &[("host", "box.example:80")]).await.status, 200);
    ask(&server, Method::GET, "/api", &[]).await.failure(400, "BadRequest");
}

#[tokio::test]
async fn a_page_that_is_not_ours_is_refused_on_every_path_and_an_allowed_one_may_read() {
    let server = server().await;
    let host = server.address.to_string();
    for path in ["/healthz", "/api", "/api/v1/namespaces/default/pods/host/exec?command=x", "/auth/exchange"]
    {
        for origin in ["https://evil.example", "null", "http://localhost:1"] {
            for method in [Method::GET, Method::POST, Method::OPTIONS] {
                let answer = ask(&server, method, path, &[("host", &host), ("origin", origin)]).await;
                answer.failure(403, "Forbidden");
                assert!(!answer.headers.contains_key("access-control-allow-origin"));
            }
        }
    }
    let same = format!("http://{host}");
    let answer = ask(&server, Method::GET, "/api", &[("host", &host), ("origin", &same)]).await;
    assert_eq!(answer.status, 200);
    let allowed = [("host", host.as_str()), ("origin", "https://console.example")];
    let answer = ask(&server, Method::GET, "/api", &allowed).await;
    assert_eq!((answer.status.as_u16(), &answer.headers["vary"]), (200, &"Origin".parse().unwrap()));
    assert_eq!(answer.headers["access-control-allow-origin"], "https://console.example");
    let preflight = [allowed[0], allowed[1], ("access-control-request-method", "GET")];
    let answer = ask(&server, Method::OPTIONS, "/api", &preflight).await;
    assert_eq!((answer.status.as_u16(), answer.body.len()), (204, 0));
    assert_eq!(answer.headers["access-control-allow-headers"], "authorization, content-type");
}

#[tokio::test]
async fn no_answer_can_be_rendered_framed_guessed_at_or_kept() {
    let server = server().await;
    let host = server.address.to_string();
    for (path, code) in
        [("/healthz", 200), ("/api", 200), ("/nope", 404), ("/api/v1/namespaces/x", 404), ("/version", 200)]
    {
        let answer = ask(&server, Method::GET, path, &[("host", &host)]).await;
        assert_eq!(answer.status.as_u16(), code);
        for (name, part) in [
            ("content-security-policy", "default-src 'none'"),
            ("content-security-policy", "frame-ancestors 'none'"),
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("cache-control", "no-store"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert!(answer.headers[name].to_str().unwrap().contains(part), "{path} {name}");
        }
    }
    ask(&server, Method::GET, "/api", &[("host", "evil.example")]).await.headers["x-frame-options"].len();
    let anonymous = server.answer(Request::builder().uri("/api").header("host", &host)).await;
    anonymous.failure(401, "Unauthorized");
    assert_eq!(anonymous.headers["cache-control"], "no-store");
}

async fn exchange(server: &Running, kind: &str, body: &str) -> Answer {
    let io = TokioIo::new(TcpStream::connect(server.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.unwrap();
    tokio::spawn(connection);
    let request = Request::post("/auth/exchange")
        .header("host", server.address.to_string())
        .header("content-type", kind)
        .body(Full::new(Bytes::from(body.to_owned())))
        .unwrap();
    Answer::of(soon("an answer", sender.send_request(request)).await.unwrap()).await
}

#[tokio::test]
async fn a_link_is_good_once_and_its_token_is_its_users() {
    let server = server().await;
    let code = server.api.links().mint(&Identity::new("ann")).unwrap();
    let body = format!("{{\"code\": {:?}}}", code.expose());
    exchange(&server, "text/plain", &body).await.failure(415, "UnsupportedMediaType");
    exchange(&server, "application/json", "{").await.failure(400, "BadRequest");
    exchange(&server, "application/json", &format!("{{\"code\":\"{}\"}}", "x".repeat(9000)))
        .await
        .failure(400, "BadRequest");
    let message =
        exchange(&server, "application/json", "{\"code\":\"x\"}").await.failure(401, "Unauthorized");
    assert!(message.contains("unknown, was used, or is too old"), "{message}");

    let answer = exchange(&server, "application/json; charset=utf-8", &body).await;
    assert_eq!((answer.status.as_u16(), &answer.json()["expiresInSeconds"]), (200, &3600.into()));
    assert_eq!(answer.headers["cache-control"], "no-store");
    exchange(&server, "application/json", &body).await.failure(401, "Unauthorized");
    let token = answer.json()["token"].as_str().unwrap().to_owned();
    let with = async |token: &str| {
        let request = Request::builder().uri("/api/v1/pods").header("host", server.address.to_string());
        server.answer(request.header("authorization", format!("Bearer {token}"))).await
    };
    assert_eq!(with(&token).await.status, 200);
    with(code.expose()).await.failure(401, "Unauthorized");
    // In a query it is nothing.
    let query = format!("/api?token={token}");
    let request = Request::builder().uri(query).header("host", server.address.to_string());
    server.answer(request).await.failure(401, "Unauthorized");
}
