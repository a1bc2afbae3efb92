//! Files that are right, and files that are wrong.

use crate::{
    Config, ContainerSpec, Kind, PodSpec,
    config::{AdminPlace, ForwardPorts},
    target::{Background, OnDisconnect, Restart},
};
use std::{path::Path, time::Duration};
use wsstream::portforward::{Route, server::Errors};

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
        users = "users.toml"
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
    assert_eq!(config.access.users.as_deref(), Some(Path::new("/etc/wsstream/users.toml")));
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
        max_connections_per_address = 3
        shared_buffer = "1MiB"
        max_sessions = 5
        max_sessions_per_user = 3
        max_sessions_per_target = "off"
        max_streams = 6
        max_streams_per_user = 4
        session_rate = "20/s:40"
        session_rate_per_user = 2
        session_bandwidth = "1MiB"
        session_duration = "8h"
        max_message = "1MiB"
        receive_buffer = "64KiB"
        max_request_head = "64KiB"
        request_head_timeout = "3s"
        tls_handshake_timeout = "4s"
        port_forward_errors = "report"
        forward_ports = "80"
        no_keeper = true
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
    let limits = &mut expected.limits;
    limits.connections_per_address = Some(3);
    (limits.sessions, limits.sessions_per_user, limits.sessions_per_target) = (Some(5), Some(3), None);
    (limits.streams, limits.streams_per_user) = (Some(6), Some(4));
    limits.session_rate = Some("20/s:40".parse().unwrap());
    limits.session_rate_per_user = Some("2/s".parse().unwrap());
    (limits.session_bandwidth, limits.session_duration) = (Some(1 << 20), Some(seconds(8 * 3600)));
    (limits.max_message, limits.receive_buffer, limits.header_bytes) = (1 << 20, 64 << 10, 64 << 10);
    (limits.header_read, limits.tls_handshake) = (seconds(3), seconds(4));
    expected.forward_errors = Errors::Report;
    (expected.forward_ports, expected.no_keeper) = (Some(ForwardPorts::Only([80].into())), true);
    assert_eq!(config, expected);
    for (line, part) in [
        ("on_disconnect = \"detach\"", "on_disconnect: \"detach\" is none of auto, hup"),
        ("kill_grace = \"10\"", "kill_grace: \"10\" is not a time"),
        ("idle_timeout = \"0s\"", "idle_timeout: \"0s\" would be over at once"),
        ("max_connections = 0", "nonzero"),
        ("shared_buffer = \"1M\"", "shared_buffer: \"1M\" is not a size"),
        ("background = \"drop\"", "unknown variant `drop`"),
        ("max_connections_per_address = 0", "max_connections_per_address: \"0\" is not a number"),
        ("receive_buffer = \"0\"", "receive_buffer: \"0\" is too little: write 32KiB or more"),
        ("shared_buffer = \"0\"", "shared_buffer: \"0\" is too little: write 32KiB or more"),
        ("audit_max_size = \"1KiB\"", "audit_max_size: \"1KiB\" is too little: write 64KiB or more"),
        ("max_sessions_per_user = 0", "max_sessions_per_user: \"0\" is not a number"),
        ("session_rate = \"5/h\"", "session_rate: \"5/h\" is not a rate"),
        ("session_bandwidth = \"1KiB\"", "session_bandwidth: \"1KiB\" is too little"),
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
        ("[[pod]]\nname = \"Web\"\n[[pod.container]]\nkind = \"host\"", 1, "pod name \"Web\" is not valid"),
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

#[test]
fn the_servers_ports_are_those_of_pods_that_name_none() {
    let pod = |name: &str, more: &str| {
        format!("[[pod]]\nname = \"{name}\"\n{more}\n[[pod.container]]\nkind = \"host\"\n")
    };
    let text =
        format!("[server]\nforward_ports = \"80\"\n{}{}", pod("a", ""), pod("b", "forward_ports = \"any\""));
    let config = read(&text).unwrap();
    assert_eq!(config.pods[0].forward.ports, ForwardPorts::Only([80].into()));
    assert_eq!(config.pods[1].forward.ports, ForwardPorts::Any);
}

#[test]
fn the_keys_are_those_that_are_read() {
    let keys = Config::server_keys();
    assert!(keys.contains(&"listen") && keys.contains(&"shared_buffer"), "{keys:?}");
    let unknown = read("[server]\nx = 1").unwrap_err();
    for key in keys {
        assert!(unknown.contains(&format!("`{key}`")), "{unknown}");
    }
}

#[test]
fn the_admin_socket_is_a_file_or_off() {
    let place = |value: &str| read(&format!("[server]\nadmin_socket = {value:?}")).unwrap().admin_socket;
    assert_eq!(place("off"), AdminPlace::Off);
    assert_eq!(place("run/s"), AdminPlace::At("/etc/wsstream/run/s".into()));
    assert_eq!(read("").unwrap().admin_socket, AdminPlace::Default);
}
