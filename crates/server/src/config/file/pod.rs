//! `[[pod]]` and `[[pod.container]]`.

use super::source::Source;
use crate::{
    config::{ConfigError, ContainerSpec, ForwardPorts, Kind, PodSpec, forward},
    target::Restart,
};
use serde::Deserialize;
use std::{collections::BTreeMap, path::PathBuf};
use toml::Spanned;
use wsstream::portforward::Route;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPod {
    name: String,
    namespace: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    container: Vec<Spanned<RawContainer>>,
    /// `"any"`, `"none"`, or a list.
    forward_ports: Option<Spanned<String>>,
    /// From ports to targets.
    #[serde(default)]
    forward: BTreeMap<String, Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContainer {
    /// Default: the name of the pod.
    name: Option<String>,
    kind: RawKind,
    #[serde(default)]
    command: Vec<String>,
    #[serde(default)]
    tty: bool,
    #[serde(default)]
    stdin: bool,
    #[serde(default)]
    restart: RawRestart,
    log_bytes: Option<usize>,
    #[serde(default)]
    env: BTreeMap<String, String>,
    cwd: Option<PathBuf>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum RawKind {
    Host,
    Process,
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
enum RawRestart {
    #[default]
    Never,
    OnFailure,
    Always,
}

/// Reads one, with the server's `ports` unless it has its own; whether it makes sense is [`PodSpec::check`]'s to say.
pub(super) fn read(
    raw: RawPod,
    ports: Option<&ForwardPorts>,
    source: &Source<'_>,
) -> Result<PodSpec, ConfigError> {
    let mut pod = PodSpec::new(raw.name);
    if let Some(namespace) = raw.namespace {
        pod.namespace = namespace;
    }
    pod.labels = raw.labels;
    if let Some(ports) = ports {
        pod.forward.ports.clone_from(ports);
    }
    source.set("forward_ports", raw.forward_ports, str::parse, &mut pod.forward.ports)?;
    for (port, target) in raw.forward {
        let span = target.span();
        let fault = |fault| source.error(span.clone(), format!("forward: {fault}"));
        let port = port.parse().ok().filter(|port| *port > 0);
        let port = port.ok_or_else(|| fault("the left side must be a port, 1 to 65535".to_owned()))?;
        let route = match forward::parse_route(target.get_ref()).map_err(fault)? {
            Route::Unix(path) => Route::Unix(source.resolve(path)),
            other => other,
        };
        pod.forward.routes.insert(port, route);
    }
    for raw in raw.container {
        let raw = raw.into_inner();
        let kind = match raw.kind {
            RawKind::Host => Kind::Host,
            RawKind::Process => Kind::Process,
        };
        let mut container = ContainerSpec::new(raw.name.unwrap_or_else(|| pod.name.clone()), kind);
        container.command = raw.command;
        container.tty = raw.tty;
        container.stdin = raw.stdin;
        container.restart = match raw.restart {
            RawRestart::Never => Restart::Never,
            RawRestart::OnFailure => Restart::OnFailure,
            RawRestart::Always => Restart::Always,
        };
        container.log_bytes = raw.log_bytes;
        container.env = raw.env;
        container.cwd = raw.cwd.map(|path| source.resolve(path));
        pod.containers.push(container);
    }
    Ok(pod)
}
