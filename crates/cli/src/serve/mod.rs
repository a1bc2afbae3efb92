//! `wsstream serve`: make this machine reachable by kubectl.

mod access;
mod admin;
mod audit;
mod banner;
mod check;
mod forward;
mod inherited;
mod lifetime;
mod limits;
mod manager;
#[cfg(test)]
mod parity;
mod place;
mod pods;
mod policy;
mod typed;

use crate::exit::Exit;
use crate::failure::Failure;
use crate::signals::Interrupts;
use access::AccessArgs;
use admin::AdminArgs;
use audit::AuditArgs;
use clap::Args;
use forward::ForwardArgs;
use inherited::Inherited;
use limits::LimitArgs;
use place::Place;
use pods::{Connected, HostFlag, RunFlag};
use policy::PolicyArgs;
use std::net::SocketAddr;
use std::path::PathBuf;
use wsstream_server::serve::DEFAULT_LISTEN;
use wsstream_server::{Config, PodSpec};

/// What was typed.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  wsstream serve                        this machine as the pod `host`, on https://127.0.0.1:7443
  wsstream serve --run web=./app        a supervised command as the pod `web`: exec, attach, logs,
                                        port-forward
  wsstream serve --run 'web/app=./app --port 80' --pod web/shell
                                        one pod with two containers
  wsstream serve --listen 192.0.2.7:7443 --token-file /etc/wsstream/token
                                        reachable from elsewhere, with tokens that stay
  wsstream serve --forward-ports none --forward host:2375=unix:/run/docker.sock
                                        port-forward to one socket and nothing else

Whoever has a token runs commands as you, and reaches what listens on this machine's loopback. The
kubeconfig that is written holds one: keep it to yourself. SIGINT, SIGTERM and SIGHUP stop the
server: sessions have 10 s to finish (--shutdown-grace); then their commands are ended and their
clients told, which takes 9 s more at most. A second signal ends everything at once.")]
pub(crate) struct ServeArgs {
    /// The address to listen on; `:PORT` means 127.0.0.1, port 0 any free one; unix:PATH is a unix socket for you and
    /// root, who need no token there. May be repeated [default: 127.0.0.1:7443]
    #[arg(long, value_name = "ADDR:PORT", value_parser = parse_listen)]
    listen: Vec<Listen>,
    /// Where to write the kubeconfig for kubectl, readable by you alone
    /// [default: $XDG_RUNTIME_DIR/wsstream/ADDR-PORT.kubeconfig, else below ~/.local/state/wsstream/]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Read the configuration from a TOML file; flags win over it
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Look at the flags, the file and what they name, say what is wrong, and start nothing: exit code 0 or 2
    #[arg(long)]
    check_config: bool,
    /// The certificate chain to serve with (PEM) [default: one generated at each start]
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The private key of the certificate (PEM)
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// The tokens to accept, one a line [default: a random one, made at each start]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Serve plain HTTP, without TLS; on loopback only
    #[arg(long, conflicts_with_all = ["tls_cert", "tls_key"])]
    insecure_http: bool,
    /// A pod whose commands run on this machine. May be repeated; the same NAME with another CONTAINER adds to it
    #[arg(long, value_name = "NAME[/CONTAINER]", value_parser = pods::parse_host)]
    pod: Vec<HostFlag>,
    /// Start COMMAND, supervise it, and serve it as a pod. COMMAND is split into words as a shell does, and
    /// nothing in it is expanded. May be repeated
    #[arg(long, value_name = "NAME[/CONTAINER]=COMMAND", value_parser = pods::parse_run)]
    run: Vec<RunFlag>,
    /// The same, with a standard input that `attach -i` writes to
    #[arg(long, value_name = "NAME[/CONTAINER]=COMMAND", value_parser = pods::parse_run)]
    run_stdin: Vec<RunFlag>,
    /// The same, on a terminal, for `attach -it`
    #[arg(long, value_name = "NAME[/CONTAINER]=COMMAND", value_parser = pods::parse_run)]
    run_tty: Vec<RunFlag>,
    /// The namespace of the pods named by flags [default: default]
    #[arg(short, long, value_name = "NAME", default_value = "default", hide_default_value = true)]
    namespace: String,
    #[command(flatten)]
    access: AccessArgs,
    #[command(flatten)]
    forward: ForwardArgs,
    #[command(flatten)]
    policy: PolicyArgs,
    #[command(flatten)]
    admin: AdminArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    audit: AuditArgs,
    /// Not typed.
    #[arg(skip)]
    inherited: Inherited,
}

/// Whether this process was started by a server to keep its commands; see [`wsstream_server::target::Keeper`].
pub(crate) fn is_keeper() -> bool {
    std::env::args_os().nth(1).is_some_and(|first| first == policy::KEEPER)
}

impl ServeArgs {
    /// Takes what a service manager hands over. Call it before there are threads.
    pub(crate) fn inherit(&mut self) -> Result<(), Failure> {
        self.inherited = Inherited::take()?;
        Ok(())
    }
}

/// What the program needs.
#[derive(Debug)]
struct Plan {
    config: Config,
    /// None where there is no port to write down.
    place: Option<Place>,
    inherited: Inherited,
    /// What the names of files begin with.
    name: String,
}

/// Runs the verb until it is told to stop.
pub(crate) async fn run(args: ServeArgs) -> Result<Exit, Failure> {
    if args.check_config {
        return check::run(args);
    }
    // First of all: what is written below is taken back also when we are told to stop half-way.
    let interrupts = Interrupts::listen().map_err(|error| Failure::local(format!("signals: {error}")))?;
    lifetime::run(args.plan()?, interrupts).await
}

impl ServeArgs {
    fn plan(self) -> Result<Plan, Failure> {
        let mut config = match &self.config {
            Some(path) => Config::load(path).map_err(Failure::local)?,
            None => Config::default(),
        };
        if !self.listen.is_empty() {
            (config.listen, config.access.listen_unix) = Listen::split(self.listen);
        }
        let handed = self.inherited.tcp.first().and_then(|socket| socket.local_addr().ok());
        let first = config.listen.first().copied().or(handed).unwrap_or(DEFAULT_LISTEN);
        if config.listen.is_empty() && handed.is_none() && config.access.listen_unix.is_empty() {
            config.listen.push(first);
        }
        // kubectl knows no unix sockets.
        let ports = !config.listen.is_empty() || handed.is_some();
        let name = match config.access.listen_unix.first() {
            Some(path) if !ports => place::name_of_path(path, std::process::id()),
            _ => place::name_of(first, std::process::id()),
        };
        let place = match self.kubeconfig.or(config.kubeconfig) {
            chosen if ports => Some(Place::new(chosen, first)?),
            _ => None,
        };
        config.kubeconfig = place.as_ref().map(|place| place.path.clone());
        if self.tls_cert.is_some() {
            (config.tls_cert, config.tls_key) = (self.tls_cert, self.tls_key);
            // The flag is the later word.
            config.insecure_http = false;
        }
        config.token_file = self.token_file.or(config.token_file);
        self.policy.apply(&mut config);
        self.admin.apply(&mut config);
        self.limits.apply(&mut config);
        self.audit.apply(&mut config);
        self.access.apply(&mut config);
        config.insecure_http |= self.insecure_http;
        if config.insecure_http {
            (config.tls_cert, config.tls_key) = (None, None);
            if !config.access.insecure_listen {
                check_insecure(config.listen.iter().copied().chain(handed))?;
            }
        }
        let runs = [
            (self.run, Connected::Output),
            (self.run_stdin, Connected::Stdin),
            (self.run_tty, Connected::Terminal),
        ];
        let runs = runs
            .into_iter()
            .flat_map(|(flags, connected)| flags.into_iter().map(move |flag| (flag, connected)));
        let named = pods::from_flags(&self.namespace, self.pod, runs).map_err(Failure::usage)?;
        for mut pod in named {
            config.give_ports(&mut pod);
            let taken = |other: &PodSpec| other.name == pod.name && other.namespace == pod.namespace;
            if config.pods.iter().any(taken) {
                return Err(Failure::usage(format!("the configuration file has a pod {} already", pod.name))
                    .next("name the pod of the flag differently, or change the file"));
            }
            config.pods.push(pod);
        }
        if config.pods.is_empty() {
            let mut host = config.host_pod();
            host.namespace.clone_from(&self.namespace);
            config.pods.push(host);
        }
        self.forward.apply(&mut config)?;
        Ok(Plan { config, place, inherited: self.inherited, name })
    }
}

/// Plain HTTP shows the token to everybody on the way.
fn check_insecure(mut listen: impl Iterator<Item = SocketAddr>) -> Result<(), Failure> {
    match listen.find(|address| !address.ip().is_loopback()) {
        None => Ok(()),
        Some(address) => Err(Failure::usage(format!(
            "--insecure-http is for loopback, and {address} can be reached from elsewhere"
        ))
        .next("leave --insecure-http out (a certificate is generated), or listen on 127.0.0.1; --insecure-listen overrides")),
    }
}

/// What `--listen` names.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Listen {
    Port(SocketAddr),
    Unix(PathBuf),
}

impl Listen {
    fn split(typed: Vec<Self>) -> (Vec<SocketAddr>, Vec<PathBuf>) {
        let (mut ports, mut paths) = (Vec::new(), Vec::new());
        for listen in typed {
            match listen {
                Self::Port(address) => ports.push(address),
                Self::Unix(path) => paths.push(path),
            }
        }
        (ports, paths)
    }
}

fn parse_listen(typed: &str) -> Result<Listen, String> {
    match typed.strip_prefix("unix:") {
        Some("") => Err("write unix:PATH, for example unix:/run/wsstream/api.sock".to_owned()),
        Some(path) => Ok(Listen::Unix(path.into())),
        None => parse_address(typed).map(Listen::Port),
    }
}

/// `ADDR:PORT`, `[V6]:PORT`, `localhost:PORT` or `:PORT`. No name is looked up: what is listened on should not
/// depend on a resolver.
fn parse_address(typed: &str) -> Result<SocketAddr, String> {
    let port = typed.strip_prefix("localhost:").or_else(|| typed.strip_prefix(':'));
    if let Some(port) = port {
        let port = port.parse().map_err(|_| format!("`{port}` is not a port: 0 to 65535"))?;
        return Ok(SocketAddr::new(DEFAULT_LISTEN.ip(), port));
    }
    typed.parse().map_err(|_| "write ADDR:PORT, for example 127.0.0.1:7443, [::1]:7443 or :7443".to_owned())
}

#[cfg(test)]
mod tests {
    use super::parse_address;

    #[test]
    fn addresses_are_loopback_unless_named() {
        let table = [
            (":0", "127.0.0.1:0"),
            (":7443", "127.0.0.1:7443"),
            ("localhost:1", "127.0.0.1:1"),
            ("0.0.0.0:1", "0.0.0.0:1"),
            ("[::1]:1", "[::1]:1"),
        ];
        for (typed, address) in table {
            assert_eq!(parse_address(typed).unwrap().to_string(), address);
        }
        for typed in ["7443", "host:1", ":x", "127.0.0.1", ":65536", "::1:7443x"] {
            parse_address(typed).expect_err(typed);
        }
    }
}
