//! The example of a CRI streaming server, driven over gRPC as a kubelet or crictl would, with our client at its URLs.
//! `cargo xtask interop` has crictl itself do it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::process::Stdio;

use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

/// `ExecRequest` of `runtime.v1`, and of `AttachRequest` what is the same.
#[derive(Clone, PartialEq, Message)]
struct ExecRequest {
    #[prost(string, tag = "1")]
    container_id: String,
    #[prost(string, repeated, tag = "2")]
    cmd: Vec<String>,
    #[prost(bool, tag = "4")]
    stdin: bool,
    #[prost(bool, tag = "5")]
    stdout: bool,
    #[prost(bool, tag = "6")]
    stderr: bool,
}

#[derive(Clone, PartialEq, Message)]
struct UrlResponse {
    #[prost(string, tag = "1")]
    url: String,
}

/// Starts the example on a socket in the folder.
async fn start(folder: &Path) -> (Child, PathBuf) {
    let socket = folder.join("cri.sock");
    let mut child = Command::new(env!("CARGO_BIN_EXE_cri_streaming"))
        .arg(&socket)
        .args(["sh", "-c", "cat"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), format!("unix://{}", socket.display()));
    (child, socket)
}

async fn connect(socket: PathBuf) -> Channel {
    let connector = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    Endpoint::from_static("http://socket").connect_with_connector(connector).await.unwrap()
}

async fn call(channel: &Channel, method: &'static str, request: ExecRequest) -> Result<String, Status> {
    let mut client = tonic::client::Grpc::new(channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static(method);
    let codec = ProstCodec::<ExecRequest, UrlResponse>::default();
    Ok(client.unary(Request::new(request), path, codec).await?.into_inner().url)
}

const EXEC: &str = "/runtime.v1.RuntimeService/Exec";

#[tokio::test]
async fn cri_streaming_gives_out_urls_that_run_once() {
    let folder = tempfile::tempdir().unwrap();
    let (_child, socket) = start(folder.path()).await;
    let channel = connect(socket).await;
    let request = ExecRequest {
        container_id: "app1".into(),
        cmd: ["sh", "-c", "cat; echo oops >&2; exit 7"].map(str::to_owned).into(),
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let url = call(&channel, EXEC, request.clone()).await.unwrap();
    assert!(url.starts_with("http://127.0.0.1:") && url.contains("/exec/"), "{url}");
    let client = || {
        let mut client = Command::new(env!("CARGO_BIN_EXE_client"));
        // What the client asks for in the URL is of no account here.
        client.args([&url, "ignored"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        client.kill_on_drop(true).spawn().unwrap()
    };
    let mut first = client();
    first.stdin.take().unwrap().write_all(b"over and out\n").await.unwrap();
    let output = first.wait_with_output().await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "over and out\n");
    assert_eq!((String::from_utf8_lossy(&output.stderr).as_ref(), output.status.code()), ("oops\n", Some(7)));
    let second = client().wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert!(!second.status.success() && said.contains("404"), "{said}");

    let error = |change: fn(&mut ExecRequest)| {
        let mut request = request.clone();
        change(&mut request);
        let channel = channel.clone();
        async move { call(&channel, EXEC, request).await.unwrap_err() }
    };
    let missing = error(|request| request.container_id.clear()).await;
    assert_eq!((missing.code(), missing.message()), (Code::InvalidArgument, "missing required container_id"));
    assert_eq!(error(|request| request.container_id = "other".into()).await.code(), Code::NotFound);
    let unknown = call(&channel, "/runtime.v1.RuntimeService/RunPodSandbox", request.clone()).await;
    assert_eq!(unknown.unwrap_err().code(), Code::Unimplemented);
}
