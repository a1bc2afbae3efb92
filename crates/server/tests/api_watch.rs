//! Watches see every change once, or say that they cannot.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::Method;
use serde_json::{Value, json};
use server_support::{Events, Running, ended, host_pod, process, soon};
use std::time::Duration;
use wsstream_server::{Pod, Pods};

const PODS: &str = "/api/v1/namespaces/default/pods";

fn pair(kind: &str, name: &str) -> (String, String) {
    (kind.to_owned(), name.to_owned())
}

/// A pod whose command ends when told to.
async fn one_process() -> (Running, std::sync::Arc<wsstream_server::target::ProcessTarget>) {
    let pods = Pods::new();
    let (target, container) = process("web", "main", "exec cat");
    soon("the start", target_running(&target)).await;
    pods.add(Pod::new("web").container(container)).unwrap();
    (Running::new(pods).await, target)
}

async fn target_running(target: &wsstream_server::target::ProcessTarget) {
    use wsstream_server::target::{ContainerState, Target};
    target.subscribe().wait_for(ContainerState::is_running).await.unwrap();
}

#[tokio::test]
async fn a_watch_begins_with_what_there_is_and_sees_what_changes() {
    let (server, target) = one_process().await;
    let mut watch = server.watch(&format!("{PODS}?watch=true")).await;
    assert_eq!(watch.kind_and_name().await, pair("ADDED", "web"));
    server.pods.add(host_pod("host")).unwrap();
    assert_eq!(watch.kind_and_name().await, pair("ADDED", "host"));
    target.stop(Duration::from_secs(5)).await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "MODIFIED");
    assert_eq!(event["object"]["status"]["phase"], "Failed");
    assert_eq!(event["object"]["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"], 143);
    server.pods.remove("default", "web");
    let event = watch.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]["metadata"]["name"]), (&json!("DELETED"), &json!("web")));
    // Not in this namespace: the next event is the one after it.
    server.pods.add(host_pod("elsewhere").namespace("other")).unwrap();
    server.pods.remove("default", "host");
    assert_eq!(watch.kind_and_name().await, pair("DELETED", "host"));
}

#[tokio::test]
async fn a_watch_goes_on_from_the_version_of_a_list() {
    let (server, _target) = one_process().await;
    let list = server.get(PODS).await.json();
    let version = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    server.pods.add(host_pod("a")).unwrap();
    server.pods.add(host_pod("b")).unwrap();
    let mut watch = server.watch(&format!("{PODS}?watch=true&resourceVersion={version}")).await;
    let first = watch.next().await.unwrap();
    assert_eq!(first["object"]["metadata"]["name"], "a");
    assert_eq!(watch.kind_and_name().await, pair("ADDED", "b"));
    // Each event carries the version to go on from.
    let version = first["object"]["metadata"]["resourceVersion"].as_str().unwrap();
    let mut again = server.watch(&format!("{PODS}?watch=true&resourceVersion={version}")).await;
    assert_eq!(again.kind_and_name().await, pair("ADDED", "b"));
}

#[tokio::test]
async fn a_change_of_phase_moves_a_pod_into_a_selection_and_out_of_it() {
    let (server, target) = one_process().await;
    let path = |phase| format!("{PODS}?watch=1&fieldSelector=status.phase%3D{phase}");
    let mut running = server.watch(&path("Running")).await;
    let mut failed = server.watch(&path("Failed")).await;
    assert_eq!(running.kind_and_name().await, pair("ADDED", "web"));
    target.stop(Duration::from_secs(5)).await;
    assert_eq!(running.kind_and_name().await, pair("DELETED", "web"));
    assert_eq!(failed.kind_and_name().await, pair("ADDED", "web"));
}

#[tokio::test]
async fn a_watch_as_table_sends_its_columns_once() {
    let (server, target) = one_process().await;
    let accept = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    let request = server.request(Method::GET, &format!("{PODS}?watch=true")).header("accept", accept);
    let mut watch = Events::of(server.send(request).await);
    let first = watch.next().await.unwrap();
    assert_eq!((&first["type"], &first["object"]["kind"]), (&json!("ADDED"), &json!("Table")));
    assert_eq!(first["object"]["columnDefinitions"].as_array().unwrap().len(), 9);
    target.stop(Duration::from_secs(5)).await;
    let second = watch.next().await.unwrap();
    assert_eq!(second["object"]["columnDefinitions"], json!([]));
    assert_eq!(second["object"]["rows"][0]["cells"][2], "Error");
}

#[tokio::test]
async fn a_watch_ends_at_its_time() {
    let (server, _target) = one_process().await;
    let mut watch =
        server.watch(&format!("{PODS}?watch=true&timeoutSeconds=1&allowWatchBookmarks=true")).await;
    assert_eq!(watch.kind_and_name().await, pair("ADDED", "web"));
    assert_eq!(watch.next().await, None);
}

#[tokio::test]
async fn a_streamed_list_ends_with_its_bookmark() {
    let (server, _target) = one_process().await;
    let query =
        "watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = server.watch(&format!("{PODS}?{query}")).await;
    assert_eq!(watch.kind_and_name().await, pair("ADDED", "web"));
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"], "true");
    let version: u64 = mark["object"]["metadata"]["resourceVersion"].as_str().unwrap().parse().unwrap();
    assert!(version > 0);
}

fn is_expired(event: &Value) -> bool {
    event["type"] == "ERROR" && event["object"]["code"] == 410 && event["object"]["reason"] == "Expired"
}

#[tokio::test]
async fn a_version_that_is_too_old_or_of_another_server_is_expired() {
    let (server, _target) = one_process().await;
    for version in ["1", "99999999999999"] {
        let mut watch = server.watch(&format!("{PODS}?watch=true&resourceVersion={version}")).await;
        let event = watch.next().await.unwrap();
        assert!(is_expired(&event), "{event}");
        assert_eq!(event["object"]["kind"], "Status");
        assert_eq!(watch.next().await, None);
    }
}

/// No silent loss: a client that stopped reading while more changed than is kept is told to list again.
#[tokio::test]
async fn a_watcher_that_lags_behind_the_history_is_told_so() {
    let (server, _target) = one_process().await;
    let mut watch = server.watch(&format!("{PODS}?watch=true")).await;
    assert_eq!(watch.kind_and_name().await, pair("ADDED", "web"));
    // The server's side cannot run in between: this runtime has one thread and nothing here yields.
    for _ in 0..600 {
        server.pods.add(host_pod("flap")).unwrap();
        server.pods.remove("default", "flap");
    }
    let event = watch.next().await.unwrap();
    assert!(is_expired(&event), "{event}");
    assert_eq!(watch.next().await, None);

    // Fewer changes than that are all there, in order.
    let mut watch = server.watch(&format!("{PODS}?watch=true")).await;
    assert_eq!(watch.kind_and_name().await, pair("ADDED", "web"));
    for _ in 0..300 {
        server.pods.add(host_pod("flap")).unwrap();
        server.pods.remove("default", "flap");
    }
    for _ in 0..300 {
        assert_eq!(watch.kind_and_name().await, pair("ADDED", "flap"));
        assert_eq!(watch.kind_and_name().await, pair("DELETED", "flap"));
    }
}

#[tokio::test]
async fn a_watch_ends_when_the_server_does() {
    let (mut server, target) = one_process().await;
    let mut watch = server.watch(&format!("{PODS}?watch=true&labelSelector=none")).await;
    server.stop();
    assert_eq!(watch.next().await, None);
    assert_eq!(server.ended().await.cut, 0);
    // The supervised command has been asked to end, and has.
    ended(&target).await;
}
