//! A server behind a real socket, and an HTTP client that shows what came back.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing
)]

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use std::{future::Future, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    sync::oneshot,
};
use tokio_util::task::AbortOnDropHandle;
use wsstream::remotecommand::{
    Request as Command,
    client::{self, Process},
};
use wsstream_server::{
    Api, Container, Pod, Pods, Server, ServerOptions, TlsSource,
    api::Drained,
    target::{HostTarget, ProcessSpec, ProcessTarget, Target},
};

/// Long enough for a busy machine; a test that needs it has failed.
pub const DEADLINE: Duration = Duration::from_secs(30);

/// Waits for an event that must come.
pub async fn soon<T>(what: &str, event: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, event).await {
        Ok(value) => value,
        Err(_) => panic!("waited in vain for: {what}"),
    }
}

/// A pod with one container that runs commands here.
pub fn host_pod(name: &str) -> Pod {
    let target = HostTarget::new(name, name, Default::default());
    Pod::new(name).container(Container::new(name, Arc::new(target)).image("host"))
}

/// A supervised `sh -c script`, as a container of the given name.
pub fn process(pod: &str, container: &str, script: &str) -> (Arc<ProcessTarget>, Container) {
    let command: Vec<String> = ["sh", "-c", script].map(String::from).into();
    let mut spec = ProcessSpec::new(pod, container, command.clone());
    spec.stdin = true;
    let target = Arc::new(ProcessTarget::start(spec));
    let as_target: Arc<dyn Target> = target.clone();
    (target, Container::new(container, as_target).command(command).stdin(true))
}

/// Waits until a supervised command has ended for good.
pub async fn ended(target: &ProcessTarget) {
    let mut state = target.subscribe();
    let over = |state: &wsstream_server::target::ContainerState| {
        matches!(state, wsstream_server::target::ContainerState::Terminated(_))
    };
    soon("the end of a command", state.wait_for(over)).await.unwrap();
}

/// A running server. Dropped, it is cut off.
pub struct Running {
    pub address: SocketAddr,
    pub url: String,
    pub token: String,
    pub certificate: Option<String>,
    pub pods: Pods,
    pub api: Api,
    stop: Option<oneshot::Sender<()>>,
    task: AbortOnDropHandle<Drained>,
}

impl Running {
    /// Plain HTTP on a free port of the loopback.
    pub async fn new(pods: Pods) -> Self {
        Self::with(pods, |options| options.tls = TlsSource::Insecure).await
    }

    pub async fn with(pods: Pods, change: impl FnOnce(&mut ServerOptions)) -> Self {
        let mut options = ServerOptions::new(pods);
        options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        change(&mut options);
        let bound = Server::bind(options).await.unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        Self {
            address: bound.local_addr(),
            url: bound.url().to_owned(),
            token: bound.token().unwrap_or_default().to_owned(),
            certificate: bound.certificate_pem().map(str::to_owned),
            pods: bound.pods().clone(),
            api: bound.api().clone(),
            stop: Some(stop),
            task: AbortOnDropHandle::new(tokio::spawn(bound.run(async {
                stopped.await.ok();
            }))),
        }
    }

    /// Asks the server to end; it goes on with what is under way.
    pub fn stop(&mut self) {
        self.stop.take();
    }

    /// Waits for the end that was asked for.
    pub async fn ended(self) -> Drained {
        let Self { task, .. } = self;
        soon("the end of the server", task).await.unwrap()
    }

    /// Whether all tasks of the server have ended.
    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }

    pub fn request(&self, method: Method, path: &str) -> http::request::Builder {
        Request::builder()
            .method(method)
            .uri(path)
            .header("host", self.address.to_string())
            .header("authorization", format!("Bearer {}", self.token))
    }

    /// Sends a request on a connection of its own and reads the head of the answer.
    pub async fn send(&self, request: http::request::Builder) -> http::Response<Incoming> {
        send_over(TcpStream::connect(self.address).await.unwrap(), request).await
    }

    pub async fn answer(&self, request: http::request::Builder) -> Answer {
        Answer::of(self.send(request).await).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.request(Method::GET, path)).await
    }

    /// As kubectl asks for a table.
    pub async fn table(&self, path: &str) -> Answer {
        let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
        self.answer(self.request(Method::GET, path).header("accept", accept)).await
    }

    /// Starts a remote command with the client of this workspace.
    pub async fn start(&self, path: &str, container: Option<&str>, command: Command) -> Process {
        let start = if command.command.is_empty() { client::attach(command) } else { client::exec(command) };
        let container = container.map_or(String::new(), |name| format!("&container={name}"));
        let endpoint = format!("http://{}{path}", self.address).parse().unwrap();
        let mut request = start.request(&endpoint).unwrap();
        *request.uri_mut() = format!("{}{container}", request.uri()).parse().unwrap();
        request.headers_mut().insert("authorization", format!("Bearer {}", self.token).parse().unwrap());
        let stream = TcpStream::connect(self.address).await.unwrap();
        soon("an upgrade", start.connect(stream, request)).await.unwrap()
    }

    /// Opens a watch.
    pub async fn watch(&self, path: &str) -> Events {
        Events::of(self.send(self.request(Method::GET, path)).await)
    }
}

pub async fn send_over(
    io: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: http::request::Builder,
) -> http::Response<Incoming> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(io)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let request = request.body(Empty::<Bytes>::new()).unwrap();
    soon("an answer", sender.send_request(request)).await.unwrap()
}

/// A whole answer.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub async fn of(response: http::Response<Incoming>) -> Self {
        let (head, body) = response.into_parts();
        let body = soon("a body", body.collect()).await.unwrap().to_bytes();
        Self { status: head.status, headers: head.headers, body }
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    /// The cells of a table.
    pub fn cells(&self) -> Vec<Vec<String>> {
        let table = self.json();
        assert_eq!(table["kind"], "Table", "{table}");
        let row = |row: &Value| {
            row["cells"].as_array().unwrap().iter().map(|cell| cell.as_str().unwrap().to_owned()).collect()
        };
        table["rows"].as_array().unwrap().iter().map(row).collect()
    }

    /// An error in the one form that all errors have; returns its message.
    pub fn failure(&self, code: u16, reason: &str) -> String {
        assert_eq!(self.status.as_u16(), code, "{self:?}");
        assert_eq!(self.headers["content-type"], "application/json", "{self:?}");
        let status = self.json();
        assert_eq!(status["kind"], "Status", "{status}");
        assert_eq!(status["apiVersion"], "v1", "{status}");
        assert_eq!(status["status"], "Failure", "{status}");
        assert_eq!(status["code"], code, "{status}");
        assert_eq!(status["reason"], reason, "{status}");
        status["message"].as_str().unwrap().to_owned()
    }
}

/// The lines of a watch.
pub struct Events {
    body: Incoming,
    rest: Vec<u8>,
}

impl Events {
    pub fn of(response: http::Response<Incoming>) -> Self {
        assert_eq!(response.status(), 200);
        Self { body: response.into_body(), rest: Vec::new() }
    }

    /// The next event; `None` when the server has ended the watch.
    pub async fn next(&mut self) -> Option<Value> {
        loop {
            if let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.rest.drain(..=end).collect();
                return Some(serde_json::from_slice(&line).unwrap());
            }
            let frame = soon("a watch event", self.body.frame()).await?.unwrap();
            self.rest.extend_from_slice(&frame.into_data().unwrap());
        }
    }

    /// The next event, as its type and the name of its pod.
    pub async fn kind_and_name(&mut self) -> (String, String) {
        let event = self.next().await.expect("an event");
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        (text(&event["type"]), text(&event["object"]["metadata"]["name"]))
    }
}
