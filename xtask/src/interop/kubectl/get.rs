//! `kubectl get pods`: what the operator chose to show.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::{Kubectl, gate};
use crate::interop::client::{SHORT, pipes, read_until, spawn};

pub(super) async fn table(kubectl: &Kubectl) -> Result<()> {
    let ended = kubectl.run(&["get", "pods"]).await?.code(0)?;
    let text = ended.text();
    let line =
        |pod: &str| text.lines().find(|line| line.split_whitespace().next() == Some(pod)).unwrap_or_default();
    for (pod, words) in
        [("host", &["1/1", "Running"][..]), ("two", &["2/2", "Running"]), ("failed", &["0/1"])]
    {
        if let Some(word) = words.iter().find(|word| !line(pod).contains(**word)) {
            return Err(ended.fault(&format!("{word:?} expected on the line of pod {pod}")));
        }
    }
    Ok(())
}

pub(super) async fn json(kubectl: &Kubectl) -> Result<()> {
    let ended = kubectl.run(&["get", "pods", "-o", "json"]).await?.code(0)?;
    let list: Value = serde_json::from_slice(&ended.stdout).context("not JSON")?;
    let pods = list["items"].as_array().context("no items")?;
    let find = |name: &str| pods.iter().find(|pod| pod["metadata"]["name"] == name);
    let Some(shell) = find("shell") else { return Err(ended.fault("pod shell expected")) };
    let container = &shell["spec"]["containers"][0];
    if container["tty"] != true || container["stdin"] != true {
        bail!("tty and stdin of pod shell expected in its spec, got {container}");
    }
    let Some(failed) = find("failed") else { return Err(ended.fault("pod failed expected")) };
    let code = &failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"];
    if failed["status"]["phase"] != "Failed" || *code != 3 {
        bail!("phase Failed with exit code 3 expected, got {}", failed["status"]);
    }
    Ok(())
}

pub(super) async fn one(kubectl: &Kubectl) -> Result<()> {
    kubectl
        .run(&["get", "pod", "two", "-o", "jsonpath={.spec.containers[*].name}"])
        .await?
        .code(0)?
        .stdout("first second")?;
    Ok(())
}

pub(super) async fn watch(kubectl: &Kubectl) -> Result<()> {
    let pod = gate("watch", &kubectl.version);
    // A list, not a name: for one object kubectl watches from "now" and leaves out the first event, so a change
    // between its two requests is lost to it.
    let selector = format!("metadata.name={pod}");
    let mut child = spawn(&mut kubectl.command(&[
        "get",
        "pods",
        "--field-selector",
        &selector,
        "-w",
        "-o",
        "jsonpath={.status.phase}{\"\\n\"}",
    ]))?;
    let (_stdin, mut stdout, _stderr) = pipes(&mut child)?;
    read_until(&mut stdout, "Running\n", SHORT).await?;
    kubectl.server().open_gate(&pod).await?;
    let seen = read_until(&mut stdout, "Succeeded\n", SHORT).await;
    child.kill().await?;
    seen.map(drop)
}
