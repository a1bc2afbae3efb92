//! The configuration file as it is typed. Each error names the line that has to be changed.

use super::{Config, ConfigError, ContainerSpec, Kind, PodSpec, forward, spec};
use crate::{
    duration, size,
    target::{Background, Restart},
};
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    num::NonZeroUsize,
    ops::Range,
    path::{Path, PathBuf},
};
use toml::Spanned;
use wsstream::portforward::{Route, server::Errors};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFile {
    #[serde(default)]
    server: RawServer,
    #[serde(default)]
    pod: Vec<Spanned<RawPod>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct RawServer {
    listen: Option<Spanned<OneOrMany>>,
    tls_cert: Option<Spanned<PathBuf>>,
    tls_key: Option<Spanned<PathBuf>>,
    token_file: Option<PathBuf>,
    kubeconfig: Option<PathBuf>,
    #[serde(default)]
    insecure_http: bool,
    on_disconnect: Option<Spanned<String>>,
    background: Option<RawBackground>,
    finish_grace: Option<Spanned<String>>,
    kill_grace: Option<Spanned<String>>,
    output_grace: Option<Spanned<String>>,
    shutdown_grace: Option<Spanned<String>>,
    ping_interval: Option<Spanned<String>>,
    dead_peer_timeout: Option<Spanned<String>>,
    idle_timeout: Option<Spanned<String>>,
    max_connections: Option<NonZeroUsize>,
    shared_buffer: Option<Spanned<String>>,
    port_forward_errors: Option<RawErrors>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum RawErrors {
    Reset,
    Report,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
enum RawBackground {
    Keep,
    Kill,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an address such as \"127.0.0.1:7443\", or a list of them")]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPod {
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

/// Text and its name: turns places in it into lines.
struct Source<'a> {
    text: &'a str,
    path: &'a Path,
}

impl Source<'_> {
    fn error(&self, at: Range<usize>, message: impl Into<String>) -> ConfigError {
        let before = self.text.as_bytes().get(..at.start).unwrap_or_default();
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        ConfigError::File { path: self.path.to_owned(), line, message: message.into() }
    }

    /// Reads a setting that is there; what is wrong with it is told with its name and line.
    fn set<T>(
        &self,
        name: &str,
        typed: Option<Spanned<String>>,
        read: impl FnOnce(&str) -> Result<T, String>,
        to: &mut T,
    ) -> Result<(), ConfigError> {
        if let Some(typed) = typed {
            let span = typed.span();
            *to = read(typed.get_ref()).map_err(|fault| self.error(span, format!("{name}: {fault}")))?;
        }
        Ok(())
    }

    /// Relative to the file, so that it means the same wherever the server is started.
    fn resolve(&self, path: PathBuf) -> PathBuf {
        self.path.parent().map_or(path.clone(), |directory| directory.join(path))
    }
}

pub(super) fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
    let source = Source { text, path };
    let mut raw: RawFile =
        toml::from_str(text).map_err(|error| source.error(error.span().unwrap_or(0..0), error.message()))?;
    let mut config = Config { insecure_http: raw.server.insecure_http, ..Config::default() };
    if let Some(listen) = raw.server.listen.take() {
        let span = listen.span();
        let typed = match listen.into_inner() {
            OneOrMany::One(address) => vec![address],
            OneOrMany::Many(addresses) => addresses,
        };
        for text in typed {
            config.listen.push(text.parse::<SocketAddr>().map_err(|_| {
                source.error(
                    span.clone(),
                    format!("listen: {text:?} is not ADDRESS:PORT, such as 127.0.0.1:7443 or [::1]:7443"),
                )
            })?);
        }
    }
    policies(&mut raw.server, &mut config, &source)?;
    let pair = (&raw.server.tls_cert, &raw.server.tls_key);
    if let (Some(half), None) | (None, Some(half)) = pair {
        return Err(source.error(half.span(), ConfigError::HalfCertificate.to_string()));
    }
    if let (Some(cert), true) = (&raw.server.tls_cert, raw.server.insecure_http) {
        return Err(source.error(cert.span(), ConfigError::InsecureWithCertificate.to_string()));
    }
    config.tls_cert = raw.server.tls_cert.map(|path| source.resolve(path.into_inner()));
    config.tls_key = raw.server.tls_key.map(|path| source.resolve(path.into_inner()));
    config.token_file = raw.server.token_file.map(|path| source.resolve(path));
    config.kubeconfig = raw.server.kubeconfig.map(|path| source.resolve(path));
    for pod in raw.pod {
        let span = pod.span();
        config.pods.push(read_pod(pod.into_inner(), &source)?);
        let checked = config.pods.last().map_or(Ok(()), PodSpec::check);
        checked.map_err(|error| source.error(span.clone(), error.to_string()))?;
        spec::check_unique(&config.pods).map_err(|error| source.error(span, error.to_string()))?;
    }
    Ok(config)
}

/// Disconnects, graces and clocks.
fn policies(raw: &mut RawServer, config: &mut Config, source: &Source<'_>) -> Result<(), ConfigError> {
    let (limits, session) = (&mut config.limits, &mut config.session);
    let policy = &mut session.disconnect;
    source.set("on_disconnect", raw.on_disconnect.take(), str::parse, &mut policy.action)?;
    source.set("finish_grace", raw.finish_grace.take(), duration::parse, &mut policy.finish)?;
    source.set("kill_grace", raw.kill_grace.take(), duration::parse, &mut policy.kill)?;
    source.set("output_grace", raw.output_grace.take(), duration::parse, &mut session.drain.0)?;
    source.set("shutdown_grace", raw.shutdown_grace.take(), duration::parse, &mut limits.drain)?;
    let clock = duration::parse_or_off;
    source.set("ping_interval", raw.ping_interval.take(), clock, &mut limits.ping_interval)?;
    source.set("dead_peer_timeout", raw.dead_peer_timeout.take(), clock, &mut limits.dead_peer)?;
    source.set("idle_timeout", raw.idle_timeout.take(), clock, &mut limits.idle)?;
    source.set("shared_buffer", raw.shared_buffer.take(), size::parse, &mut limits.shared_buffer)?;
    limits.connections = raw.max_connections.map_or(limits.connections, NonZeroUsize::get);
    config.forward_errors = match raw.port_forward_errors {
        None | Some(RawErrors::Reset) => Errors::Reset,
        Some(RawErrors::Report) => Errors::Report,
    };
    session.background = match raw.background {
        None | Some(RawBackground::Keep) => Background::Keep,
        Some(RawBackground::Kill) => Background::Kill,
    };
    Ok(())
}

fn read_pod(raw: RawPod, source: &Source<'_>) -> Result<PodSpec, ConfigError> {
    let mut pod = PodSpec::new(raw.name);
    if let Some(namespace) = raw.namespace {
        pod.namespace = namespace;
    }
    pod.labels = raw.labels;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::ForwardPorts, target::OnDisconnect};
    use std::time::Duration;

    fn read(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("/etc/wsstream/config.toml")).map_err(|error| error.to_string())
    }

    #[test]
    fn a_whole_file() {
        let config = read(
            r#"
            [server]
            listen = ["127.0.0.1:7443", "[::1]:7443"]
            tls_cert = "tls/cert.pem"
            tls_key = "/keys/key.pem"
            token_file = "tokens"
            kubeconfig = "out/kubeconfig"

            [[pod]]
            name = "web"
            namespace = "prod"
            labels = { app = "web" }
            forward_ports = "80,8000-8001"
            forward = { 2375 = "unix:docker.sock", 5432 = "192.0.2.7:5432" }

            [[pod.container]]
            name = "main"
            kind = "process"
            command = ["./app", "--port", "80"]
            tty = true
            stdin = true
            restart = "on-failure"
            log_bytes = 4096
            cwd = "work"
            env = { MODE = "fast" }

            [[pod.container]]
            name = "shell"
            kind = "host"

            [[pod]]
            name = "host"
            [[pod.container]]
            kind = "host"
            "#,
        )
        .unwrap();
        assert_eq!(config.listen.len(), 2);
        assert_eq!(config.tls_cert.as_deref(), Some(Path::new("/etc/wsstream/tls/cert.pem")));
        assert_eq!(config.tls_key.as_deref(), Some(Path::new("/keys/key.pem")));
        assert_eq!(config.kubeconfig.as_deref(), Some(Path::new("/etc/wsstream/out/kubeconfig")));
        let mut web = PodSpec::new("web");
        web.namespace = "prod".into();
        web.labels.insert("app".into(), "web".into());
        let mut main = ContainerSpec::new("main", Kind::Process);
        main.command = ["./app", "--port", "80"].map(String::from).into();
        (main.tty, main.stdin, main.restart, main.log_bytes) = (true, true, Restart::OnFailure, Some(4096));
        main.cwd = Some("/etc/wsstream/work".into());
        main.env.insert("MODE".into(), "fast".into());
        web.forward.ports = ForwardPorts::Only([80, 8000, 8001].into());
        web.forward.routes.insert(2375, Route::Unix("/etc/wsstream/docker.sock".into()));
        web.forward.routes.insert(5432, Route::Tcp(([192, 0, 2, 7], 5432).into()));
        web.containers = vec![main, ContainerSpec::new("shell", Kind::Host)];
        assert_eq!(config.pods, [web, PodSpec::host("host")]);
        assert_eq!(read("").unwrap(), Config::default());
        assert_eq!(read("[server]\nlisten = \"0.0.0.0:0\"").unwrap().listen, ["0.0.0.0:0".parse().unwrap()]);
    }

    #[test]
    fn policies_are_set_and_the_rest_stays_as_it_is() {
        let config = read(
            r#"
            [server]
            on_disconnect = "keep:10m"
            background = "kill"
            finish_grace = "1s"
            kill_grace = "20s"
            output_grace = "500ms"
            shutdown_grace = "30s"
            ping_interval = "15s"
            dead_peer_timeout = "45s"
            idle_timeout = "off"
            max_connections = 7
            shared_buffer = "1MiB"
            port_forward_errors = "report"
            "#,
        )
        .unwrap();
        let seconds = Duration::from_secs;
        let mut expected = Config::default();
        expected.session.disconnect.action = OnDisconnect::Keep(Some(seconds(600)));
        (expected.session.disconnect.finish, expected.session.disconnect.kill) = (seconds(1), seconds(20));
        expected.session.background = Background::Kill;
        expected.session.drain.0 = Duration::from_millis(500);
        expected.limits.drain = seconds(30);
        (expected.limits.ping_interval, expected.limits.dead_peer) = (Some(seconds(15)), Some(seconds(45)));
        expected.limits.idle = None;
        (expected.limits.connections, expected.limits.shared_buffer) = (7, 1 << 20);
        expected.forward_errors = Errors::Report;
        assert_eq!(config, expected);
        for (line, part) in [
            ("on_disconnect = \"detach\"", "on_disconnect: \"detach\" is none of auto, hup"),
            ("kill_grace = \"10\"", "kill_grace: \"10\" is not a time"),
            ("idle_timeout = \"0s\"", "idle_timeout: \"0s\" would be over at once"),
            ("max_connections = 0", "nonzero"),
            ("shared_buffer = \"1M\"", "shared_buffer: \"1M\" is not a size"),
            ("background = \"drop\"", "unknown variant `drop`"),
        ] {
            let error = read(&format!("[server]\n{line}")).unwrap_err();
            assert!(error.starts_with("/etc/wsstream/config.toml:2: ") && error.contains(part), "{error}");
        }
    }

    #[test]
    fn errors_name_the_file_the_line_and_the_cause() {
        for (text, line, cause) in [
            ("[server]\nlisten = ", 2, "value"),
            ("[server]\nport = 1", 2, "unknown field `port`"),
            ("\n\n[sever]", 3, "unknown field `sever`"),
            ("[server]\nlisten = \"localhost\"", 2, "\"localhost\" is not ADDRESS:PORT"),
            ("[server]\nlisten = 7443", 2, "expected an address"),
            ("[server]\ninsecure_http = 1", 2, "boolean"),
            ("[server]\n\ntls_cert = \"a\"", 3, "go together"),
            ("[server]\ntls_cert = \"a\"\ntls_key = \"b\"\ninsecure_http = true", 2, "exclude each other"),
            ("[[pod]]\nnamespace = \"x\"", 1, "missing field `name`"),
            ("[[pod]]\nname = \"web\"", 1, "pod \"web\" has no container"),
            ("[[pod]]\nname = \"web\"\nforward_ports = \"80,x\"", 3, "forward_ports: \"x\" is not a port"),
            ("[[pod]]\nname = \"web\"\nforward = { 80 = \"x\" }", 3, "forward: \"x\" is no target"),
            ("[[pod]]\nname = \"web\"\nforward = { 0 = \"unix:/x\" }", 3, "forward: the left side"),
            (
                "[[pod]]\nname = \"Web\"\n[[pod.container]]\nkind = \"host\"",
                1,
                "pod name \"Web\" is not valid",
            ),
            ("[[pod]]\nname = \"web\"\n[[pod.container]]\nkind = \"docker\"", 4, "unknown variant `docker`"),
            ("[[pod]]\nname = \"web\"\n[[pod.container]]\nkind = \"process\"", 1, "needs a command"),
            ("[[pod]]\nname = \"web\"\n[[pod.container]]\nkind = \"host\"\ntty = true", 1, "tty is for kind"),
            (
                "[[pod]]\nname = \"web\"\n[[pod.container]]\nkind = \"host\"\n[[pod.container]]\nkind = \"host\"",
                1,
                "two containers named \"web\"",
            ),
            (
                "[[pod]]\nname = \"a\"\n[[pod.container]]\nkind = \"host\"\n\n[[pod]]\nname = \"a\"\n[[pod.container]]\nkind = \"host\"",
                6,
                "pod \"a\" exists already",
            ),
            (
                "[[pod]]\nname = \"a\"\n[[pod.container]]\nkind = \"host\"\nenv = { \"A=B\" = \"x\" }",
                1,
                "cannot be the name of an environment variable",
            ),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.starts_with(&format!("/etc/wsstream/config.toml:{line}: ")), "{text}\n{error}");
            assert!(error.contains(cause), "{text}\n{error}");
            assert!(!error.trim_end().contains('\n'), "one line: {error}");
        }
        let missing = Config::load(Path::new("/nonexistent/c.toml")).unwrap_err().to_string();
        assert_eq!(missing, "/nonexistent/c.toml: No such file or directory (os error 2)");
    }
}
