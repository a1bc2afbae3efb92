//! What stock clients read before and around a session: discovery, pods, tables, selectors.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use http::Method;
use serde_json::{Value, json};
use server_support::{Running, ended, host_pod, process};
use wsstream_server::{Pod, Pods};

const POD: &str = "/api/v1/namespaces/default/pods/web";

/// default/host, default/web (main runs, side has ended with 0), other/done (ended with 3).
async fn three_pods() -> Running {
    let pods = Pods::new();
    pods.add(host_pod("host").label("app", "shell")).unwrap();
    let (_, main) = process("web", "main", "cat");
    let (side, side_container) = process("web", "side", "exit 0");
    ended(&side).await;
    pods.add(Pod::new("web").label("app", "web").container(main.tty(true)).container(side_container))
        .unwrap();
    let (done, done_container) = process("done", "done", "exit 3");
    ended(&done).await;
    pods.add(Pod::new("done").namespace("other").container(done_container)).unwrap();
    Running::new(pods).await
}

#[tokio::test]
async fn discovery_is_what_kubectl_asks_for() {
    let server = three_pods().await;
    assert_eq!(
        server.get("/api").await.json(),
        json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
    );
    assert_eq!(
        server.get("/apis").await.json(),
        json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": []})
    );
    let resources = server.get("/api/v1?timeout=32s").await.json();
    assert_eq!((&resources["kind"], &resources["groupVersion"]), (&json!("APIResourceList"), &json!("v1")));
    let names: Vec<_> = resources["resources"].as_array().unwrap().iter().map(|r| &r["name"]).collect();
    assert_eq!(names, ["namespaces", "pods", "pods/attach", "pods/exec", "pods/log", "pods/portforward"]);
    // What is listed is what is served: kubectl offers these verbs to its user.
    assert_eq!(resources["resources"][1]["verbs"], json!(["get", "list", "watch"]));

    let version = server.get("/version?timeout=5s").await.json();
    assert_eq!((&version["major"], &version["minor"]), (&json!("1"), &json!("33")));
    assert_eq!(version["gitVersion"], "v1.33.0+wsstream");

    // The aggregated form is offered first by kubectl; the plain one is an answer to it.
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let aggregated = server.answer(server.request(Method::GET, "/api").header("accept", accept)).await;
    assert_eq!(aggregated.headers["content-type"], "application/json");
    assert_eq!(aggregated.json()["kind"], "APIVersions");
}

#[tokio::test]
async fn a_pod_says_what_its_containers_do() {
    let server = three_pods().await;
    let pod = server.get(POD).await.json();
    assert_eq!((&pod["kind"], &pod["apiVersion"]), (&json!("Pod"), &json!("v1")));
    assert_eq!(pod["metadata"]["labels"], json!({"app": "web"}));
    assert_eq!(pod["metadata"]["uid"].as_str().unwrap().len(), 36);
    assert_eq!(pod["status"]["phase"], "Running");
    let main = &pod["spec"]["containers"][0];
    assert_eq!((&main["name"], &main["tty"], &main["stdin"]), (&json!("main"), &json!(true), &json!(true)));
    assert_eq!(main["command"], json!(["sh", "-c", "cat"]));
    assert_eq!(pod["spec"]["containers"][1].get("tty"), None, "false is absent, as Go writes it");
    let statuses = pod["status"]["containerStatuses"].as_array().unwrap();
    assert!(statuses[0]["state"]["running"]["startedAt"].as_str().unwrap().ends_with('Z'));
    assert_eq!(statuses[1]["state"]["terminated"]["exitCode"], 0);
    assert_eq!(statuses[1]["state"]["terminated"]["reason"], "Completed");
    assert_eq!((&statuses[0]["ready"], &statuses[1]["ready"]), (&json!(true), &json!(false)));

    let again = server.get(POD).await.json();
    assert_eq!(again["metadata"]["resourceVersion"], pod["metadata"]["resourceVersion"]);
    let done = server.get("/api/v1/namespaces/other/pods/done").await.json();
    assert_eq!(done["status"]["phase"], "Failed");
    assert_ne!(done["metadata"]["uid"], pod["metadata"]["uid"]);
}

fn names(list: &Value) -> Vec<&str> {
    assert_eq!(list["kind"], "PodList", "{list}");
    list["items"].as_array().unwrap().iter().map(|pod| pod["metadata"]["name"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn lists_can_be_selected_from() {
    let server = three_pods().await;
    for (path, expected) in [
        ("/api/v1/pods?limit=500", &["host", "web", "done"][..]),
        ("/api/v1/namespaces/default/pods", &["host", "web"]),
        ("/api/v1/namespaces/nowhere/pods", &[]),
        ("/api/v1/pods?labelSelector=app%3Dweb", &["web"]),
        ("/api/v1/pods?labelSelector=app%21%3Dweb", &["host", "done"]),
        ("/api/v1/pods?fieldSelector=metadata.name%3Dhost", &["host"]),
        ("/api/v1/pods?fieldSelector=status.phase%3DFailed", &["done"]),
        ("/api/v1/pods?labelSelector=app&fieldSelector=metadata.name!%3Dhost", &["web"]),
    ] {
        assert_eq!(names(&server.get(path).await.json()), expected, "{path}");
    }
}

#[tokio::test]
async fn a_limited_list_can_be_continued_to_its_end() {
    let server = three_pods().await;
    let (mut seen, mut path) = (Vec::new(), "/api/v1/pods?limit=1".to_owned());
    let mut remaining = Vec::new();
    loop {
        let list = server.get(&path).await.json();
        seen.extend(names(&list).iter().map(|name| (*name).to_owned()));
        remaining.push(list["metadata"]["remainingItemCount"].clone());
        match list["metadata"]["continue"].as_str() {
            Some(token) => path = format!("/api/v1/pods?limit=1&continue={token}"),
            None => break,
        }
    }
    assert_eq!(seen, ["host", "web", "done"]);
    assert_eq!(remaining, [json!(2), json!(1), Value::Null]);
    let bad = server.get("/api/v1/pods?continue=%21").await;
    assert_eq!(bad.failure(400, "BadRequest"), "continue key is not valid");
}

#[tokio::test]
async fn tables_have_the_columns_of_kubectl() {
    let server = three_pods().await;
    let answer = server.table("/api/v1/pods").await;
    let table = answer.json();
    let columns: Vec<_> = table["columnDefinitions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["priority"].as_u64().unwrap()))
        .collect();
    assert_eq!(columns[..5], [("Name", 0), ("Ready", 0), ("Status", 0), ("Restarts", 0), ("Age", 0)]);
    assert!(columns[5..].iter().all(|(_, priority)| *priority == 1), "{columns:?}");
    let cells = answer.cells();
    let shown: Vec<_> = cells.iter().map(|cells| cells[..4].join(" ")).collect();
    assert_eq!(shown, ["host 1/1 Running 0", "web 1/2 Running 0", "done 0/1 Error 0"]);
    assert!(cells.iter().all(|cells| cells.len() == columns.len()));
    let object = &table["rows"][1]["object"];
    assert_eq!(object["kind"], "PartialObjectMetadata");
    assert_eq!(object["metadata"]["labels"]["app"], "web");

    let whole = server.table("/api/v1/pods?includeObject=Object").await.json();
    assert_eq!(whole["rows"][0]["object"]["kind"], "Pod");
    assert_eq!(server.table("/api/v1/pods?includeObject=None").await.json()["rows"][0].get("object"), None);
    assert_eq!(server.table(POD).await.cells().len(), 1);
}

#[tokio::test]
async fn namespaces_are_default_and_those_with_pods() {
    let server = three_pods().await;
    let list = server.get("/api/v1/namespaces").await.json();
    assert_eq!(list["kind"], "NamespaceList");
    assert_eq!(list["items"][0]["metadata"]["name"], "default");
    assert_eq!(list["items"][1]["metadata"]["name"], "other");
    let cells = server.table("/api/v1/namespaces").await.cells();
    assert_eq!(
        cells.iter().map(|c| c[..2].join(" ")).collect::<Vec<_>>(),
        ["default Active", "other Active"]
    );
    assert_eq!(server.get("/api/v1/namespaces/other").await.json()["status"]["phase"], "Active");
    let missing = server.get("/api/v1/namespaces/nowhere").await;
    assert_eq!(missing.failure(404, "NotFound"), "namespaces \"nowhere\" not found");

    server.pods.remove("other", "done");
    assert_eq!(server.get("/api/v1/namespaces").await.json()["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn pods_are_refused_with_the_cause() {
    let pods = Pods::new();
    pods.add(host_pod("a")).unwrap();
    for (pod, cause) in [
        (host_pod("a"), "pod \"a\" exists already in namespace \"default\""),
        (Pod::new("b"), "pod \"b\" has no container"),
        (host_pod("b").namespace("B"), "namespace \"B\" is not valid"),
        (host_pod("b").label("x y", ""), "label \"x y\""),
    ] {
        let error = pods.add(pod).unwrap_err().to_string();
        assert!(error.contains(cause), "{error}");
    }
    assert_eq!(pods.names(), [("default".to_owned(), "a".to_owned())]);
    assert!(pods.remove("default", "a") && !pods.remove("default", "a"));
}

#[test]
fn pods_outside_of_a_runtime_are_an_error_not_a_panic() {
    let error = Pods::new().add(Pod::new("a").container(dummy())).unwrap_err().to_string();
    assert!(error.contains("tokio runtime"), "{error}");
}

fn dummy() -> wsstream_server::Container {
    let target = wsstream_server::target::HostTarget::new("a", "a", Default::default());
    wsstream_server::Container::new("a", std::sync::Arc::new(target))
}
