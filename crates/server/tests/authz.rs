//! Authorisation at the real server: every route asks, what it asks is what it then does, and a no tells nothing.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use futures_util::future::BoxFuture;
use http::{Method, Request};
use server_support::{Answer, host_pod, process, send_over, soon};
use std::sync::{Arc, Mutex};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::task::AbortOnDropHandle;
use wsstream_server::{
    Api, Pod, Pods,
    api::Access,
    auth::{AllowAll, BearerTokens, Token},
    authz::{Attributes, Authorizer, Forbidden},
};

/// Writes down what it is asked, and answers with the same word every time.
#[derive(Clone)]
struct Recorder {
    asked: Arc<Mutex<Vec<String>>>,
    allow: bool,
}

impl Authorizer for Recorder {
    fn authorize<'a>(&'a self, asked: Attributes<'a>) -> BoxFuture<'a, Result<(), Forbidden>> {
        let Attributes { verb, namespace, name, container, .. } = asked;
        let line = format!("{verb} {} {namespace:?} {name:?} {container:?}", asked.full_resource());
        self.asked.lock().unwrap().push(line);
        Box::pin(std::future::ready(if self.allow { Ok(()) } else { Err(Forbidden::default()) }))
    }
}

struct Served {
    address: std::net::SocketAddr,
    recorder: Recorder,
    _task: AbortOnDropHandle<()>,
}

async fn serve(allow: bool) -> Served {
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let (_, a) = process("two", "a", "cat");
    let (_, b) = process("two", "b", "cat");
    pods.add(Pod::new("two").container(a).container(b)).unwrap();
    let recorder = Recorder { asked: Arc::default(), allow };
    let access = Access::new(AllowAll).authorizer(recorder.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Api::new(pods, access).router();
    let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
    Served { address, recorder, _task: AbortOnDropHandle::new(task) }
}

impl Served {
    async fn ask(&self, method: Method, path: &str, upgrade: bool) -> Answer {
        let mut request =
            Request::builder().method(method).uri(path).header("host", self.address.to_string());
        if upgrade {
            request = request
                .header("connection", "Upgrade")
                .header("upgrade", "websocket")
                .header("sec-websocket-version", "13")
                .header("sec-websocket-key", "AAAAAAAAAAAAAAAAAAAAAA==")
                .header("sec-websocket-protocol", "v4.channel.k8s.io");
        }
        let io = TcpStream::connect(self.address).await.unwrap();
        Answer::of(send_over(io, request).await).await
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.recorder.asked.lock().unwrap())
    }
}

const POD: &str = "/api/v1/namespaces/default/pods";

/// Path, and what is asked for it.
const ASKED: [(&str, &str); 27] = [
    ("/exec?command=x", "create pods/exec"),
    ("/exec?command=x&container=host", "create pods/exec"),
    ("/attach", "create pods/attach"),
    ("/portforward?ports=1", "create pods/portforward"),
    ("/log", "get pods/log"),
    ("", "get pods"),
    ("kubelet /exec/default/host/host?command=x", "create pods/exec"),
    ("kubelet /exec/default/host/some-uid/host?command=x", "create pods/exec"),
    ("kubelet /attach/default/host/host", "create pods/attach"),
    ("kubelet /attach/default/host/some-uid/host", "create pods/attach"),
    ("kubelet /portForward/default/host", "create pods/portforward"),
    ("kubelet /portForward/default/host/some-uid", "create pods/portforward"),
    ("kubelet /containerLogs/default/host/host", "get pods/log"),
    ("list /api/v1/pods", "list pods \"\" \"\" \"\""),
    ("list /api/v1/pods?watch=1", "watch pods \"\" \"\" \"\""),
    ("list /api/v1/pods?watch=0", "list pods \"\" \"\" \"\""),
    ("list /api/v1/namespaces/default/pods", "list pods \"default\" \"\" \"\""),
    ("list /api/v1/namespaces/def%61ult/pods?watch=true", "watch pods \"default\" \"\" \"\""),
    ("list /api/v1/namespaces/default/pods?w%61tch", "watch pods \"default\" \"\" \"\""),
    (
        "list /api/v1/namespaces/default/pods?fieldSelector=metadata.name%3Dhost",
        "list pods \"default\" \"host\" \"\"",
    ),
    (
        "list /api/v1/namespaces/default/pods?fieldSelector=metadata.name!%3Dhost",
        "list pods \"default\" \"\" \"\"",
    ),
    ("list /api/v1/namespaces", "list namespaces \"\" \"\" \"\""),
    ("list /api/v1/namespaces/default", "get namespaces \"default\" \"default\" \"\""),
    ("list /api/v1/namespaces/none", "get namespaces \"none\" \"none\" \"\""),
    ("list /api/v1/namespaces/default/pods/two/exec", "create pods/exec \"default\" \"two\" \"\""),
    ("list /api/v1/namespaces/default/pods/two/log?container=b", "get pods/log \"default\" \"two\" \"b\""),
    ("list /api/v1/namespaces/a%2Fb/pods/c%2fd/exec", "create pods/exec \"a/b\" \"c/d\" \"\""),
];

#[tokio::test]
async fn every_route_asks_for_what_it_does_whatever_the_method() {
    let server = serve(false).await;
    for (path, expected) in ASKED {
        let (path, expected) = match path.split_once(' ') {
            Some((_, path)) => (path.to_owned(), expected.to_owned()),
            None => (format!("{POD}/host{path}"), expected.to_owned()),
        };
        let runs = expected.starts_with("create");
        let methods: &[Method] =
            if runs { &[Method::GET, Method::POST, Method::HEAD] } else { &[Method::GET, Method::HEAD] };
        for method in methods {
            for upgrade in [false, true] {
                let answer = server.ask(method.clone(), &path, upgrade).await;
                assert_eq!(answer.status.as_u16(), 403, "{method} {path}");
                if *method != Method::HEAD {
                    let message = answer.failure(403, "Forbidden");
                    assert!(message.contains("User \"anonymous\" cannot "), "{message}");
                }
                let asked = server.asked();
                assert_eq!(asked.len(), 1, "{method} {path}");
                assert!(asked[0].starts_with(&expected), "{method} {path}: {asked:?}");
                let container = asked[0].ends_with("\"host\"");
                if expected.split(' ').count() == 2 {
                    let wanted = !expected.ends_with("portforward") && expected != "get pods";
                    assert_eq!(container, wanted, "{method} {path}: {asked:?}");
                }
            }
        }
    }
}

#[tokio::test]
async fn what_says_nothing_about_pods_is_open_to_who_is_let_in() {
    let server = serve(false).await;
    for path in ["/api", "/apis", "/api/v1", "/version"] {
        assert_eq!(server.ask(Method::GET, path, false).await.status.as_u16(), 200, "{path}");
    }
    server.ask(Method::GET, "/api/v1/nodes", false).await.failure(404, "NotFound");
    assert!(server.asked().is_empty());
}

#[tokio::test]
async fn a_no_in_kubernetes_words_is_the_same_for_what_exists_and_what_does_not() {
    let server = serve(false).await;
    for rest in ["", "/log", "/exec?command=x", "/exec?command=x&container=no", "/attach", "/portforward"] {
        let of = async |name: &str, upgrade| {
            let answer = server.ask(Method::GET, &format!("{POD}/{name}{rest}"), upgrade).await;
            let text = answer.text().replace(name, "NAME");
            let mut headers: Vec<_> = answer.headers.keys().map(ToString::to_string).collect();
            headers.sort();
            (answer.status, text, headers, answer.headers["content-length"].to_str().unwrap().len())
        };
        for upgrade in [false, true] {
            let (there, missing, many) =
                (of("host", upgrade).await, of("nope", upgrade).await, of("two", upgrade).await);
            assert_eq!(there, missing, "{rest}");
            assert_eq!(there, many, "{rest}");
        }
    }
    let kubelet = async |path: &str| {
        let answer = server.ask(Method::GET, path, false).await;
        answer.text().replace("host", "NAME").replace("nope", "NAME")
    };
    assert_eq!(kubelet("/exec/default/host/host").await, kubelet("/exec/default/nope/host").await);
    assert_eq!(kubelet("/exec/default/host/uid/x").await, kubelet("/exec/default/nope/uid/x").await);

    let answer = server.ask(Method::POST, &format!("{POD}/host/exec"), false).await;
    assert_eq!(
        answer.failure(403, "Forbidden"),
        "pods \"host\" is forbidden: User \"anonymous\" cannot create resource \"pods/exec\" in API group \"\" in the namespace \
         \"default\""
    );
    assert_eq!(answer.json()["details"], serde_json::json!({"name": "host", "kind": "pods"}));
    let answer = server.ask(Method::GET, "/api/v1/pods", false).await;
    assert_eq!(
        answer.failure(403, "Forbidden"),
        "pods is forbidden: User \"anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope"
    );
}

#[tokio::test]
async fn a_yes_leads_to_what_was_asked_about() {
    let server = serve(true).await;
    server.ask(Method::GET, &format!("{POD}/nope/log"), false).await.failure(404, "NotFound");
    assert_eq!(server.asked(), ["get pods/log \"default\" \"nope\" \"\""]);
    // The first of two parameters counts, for the question and for the deed.
    let path = format!("{POD}/two/log?container=b&container=a&tailLines=x");
    let message = server.ask(Method::GET, &path, false).await.failure(400, "BadRequest");
    assert!(message.contains("tailLines"), "{message}");
    assert_eq!(server.asked(), ["get pods/log \"default\" \"two\" \"b\""]);
    let answer = server.ask(Method::GET, &format!("{POD}/host"), false).await;
    assert_eq!(answer.json()["metadata"]["name"], "host");
}

#[tokio::test]
async fn an_authorizer_that_waits_is_waited_for_and_an_absent_caller_is_not_asked_about() {
    struct Slow;
    impl Authorizer for Slow {
        fn authorize<'a>(&'a self, _asked: Attributes<'a>) -> BoxFuture<'a, Result<(), Forbidden>> {
            Box::pin(async {
                tokio::task::yield_now().await;
                Err(Forbidden { reason: "not today".into() })
            })
        }
    }
    let pods = Pods::new();
    pods.add(host_pod("host")).unwrap();
    let tokens = BearerTokens::new([Token::new("t").unwrap()]);
    let router = Api::new(pods, Access::new(tokens).authorizer(Slow)).router();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let _task =
        AbortOnDropHandle::new(tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }));
    let ask = async |token: Option<&str>| {
        let mut request = Request::builder().uri(POD).header("host", address.to_string());
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        Answer::of(send_over(TcpStream::connect(address).await.unwrap(), request).await).await
    };
    soon("an answer", ask(None)).await.failure(401, "Unauthorized");
    let message = soon("an answer", ask(Some("t"))).await.failure(403, "Forbidden");
    assert!(message.ends_with("in the namespace \"default\": not today"), "{message}");
}
