//! From a configuration file to pods that answer.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use server_support::{Answer, DEADLINE, send_over, soon};
use std::path::Path;
use tokio::{net::TcpStream, sync::oneshot};
use wsstream_server::{Config, PodSpec, Server, TlsSource};

const FILE: &str = r#"
    [server]
    listen = "127.0.0.1:0"
    token_file = "tokens"
    kubeconfig = "kubeconfig"
    insecure_http = true

    [[pod]]
    name = "web"
    namespace = "prod"
    labels = { app = "web" }
    [[pod.container]]
    name = "main"
    kind = "process"
    command = ["sh", "-c", "echo $MODE in $PWD; exec cat"]
    stdin = true
    env = { MODE = "fast" }
    cwd = "work"
    [[pod.container]]
    name = "shell"
    kind = "host"
"#;

#[tokio::test]
async fn a_file_becomes_a_server_that_runs_its_commands() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().canonicalize().unwrap();
    std::fs::create_dir(root.join("work")).unwrap();
    std::fs::write(root.join("tokens"), "secret\n").unwrap();
    std::fs::write(root.join("config.toml"), FILE).unwrap();
    let options = Config::load(&root.join("config.toml")).unwrap().into_options().unwrap();
    assert_eq!(options.tls, TlsSource::Insecure);
    let bound = Server::bind(options).await.unwrap();
    assert_eq!(bound.token(), Some("secret"));
    assert!(root.join("kubeconfig").is_file());
    let (address, (stop, stopped)) = (bound.local_addr(), oneshot::channel::<()>());
    let serving = tokio::spawn(bound.run(async {
        stopped.await.ok();
    }));

    let get = async |path: &str| {
        let request =
            http::Request::get(path).header("host", "localhost").header("authorization", "Bearer secret");
        Answer::of(send_over(TcpStream::connect(address).await.unwrap(), request).await).await
    };
    let pod = get("/api/v1/namespaces/prod/pods/web").await.json();
    assert_eq!(pod["metadata"]["labels"]["app"], "web");
    assert_eq!(pod["spec"]["containers"][0]["stdin"], true);
    assert_eq!(pod["spec"]["containers"][1]["name"], "shell");
    let expected = format!("fast in {}\n", root.join("work").display());
    soon("the command's output", async {
        while get("/api/v1/namespaces/prod/pods/web/log?container=main").await.text() != expected {}
    })
    .await;
    drop(stop);
    tokio::time::timeout(DEADLINE, serving).await.unwrap().unwrap();
}

#[tokio::test]
async fn without_a_pod_the_host_is_one() {
    let options = Config::default().into_options().unwrap();
    assert_eq!(options.pods.names(), [("default".to_owned(), "host".to_owned())]);
    assert_eq!(options.listen, [wsstream_server::serve::DEFAULT_LISTEN]);
    assert_eq!(options.tls, TlsSource::Generated);
}

/// What flags can get wrong, a file does not see.
#[tokio::test]
async fn nothing_is_started_when_one_thing_is_wrong() {
    let dir = tempfile::tempdir().unwrap();
    let trace = dir.path().join("started");
    let touch = || PodSpec::process("a", vec!["touch".into(), trace.display().to_string()]);
    let with = |change: &dyn Fn(&mut Config)| {
        let mut config = Config::default();
        config.pods.push(touch());
        change(&mut config);
        config.into_options().unwrap_err().to_string()
    };
    for (error, cause) in [
        (with(&|config| config.pods.push(touch())), "pod \"a\" exists already"),
        (with(&|config| config.pods.push(PodSpec::new("b"))), "pod \"b\" has no container"),
        (with(&|config| config.pods.push(PodSpec::process("b", vec![]))), "needs a command"),
        (with(&|config| config.pods.push(PodSpec::host("B"))), "pod name \"B\" is not valid"),
        (with(&|config| config.tls_cert = Some(Path::new("c").into())), "go together"),
        (with(&|config| config.limits.sessions = Some(1024)), "must be below max_connections (1024)"),
    ] {
        assert!(error.contains(cause), "{error}");
    }
    assert!(!trace.exists());
    let mut config = Config::default();
    config.pods.push(touch());
    let options = config.into_options().unwrap();
    soon("the command", async {
        while !trace.exists() {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    })
    .await;
    drop(options);
}
