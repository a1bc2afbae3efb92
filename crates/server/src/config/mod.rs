//! What to serve, as the program needs it. How it was typed (a file, flags) is another matter: `file` reads TOML into
//! [`Config`], the command line assigns to its fields, and both end in [`Config::into_options`].

mod access;
mod admin;
mod check;
mod file;
mod forward;
mod spec;

pub use access::{AccessOptions, client_auth};
pub use admin::AdminPlace;
pub use check::Fault;
pub use forward::{ForwardPorts, ForwardSpec, parse_route};
pub use spec::{ContainerSpec, Kind, PodSpec, SpecError};

use crate::{
    Limits, PodError, Pods, ServerOptions, TlsSource, TokenSource, audit::AuditOptions,
    target::SessionOptions,
};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use thiserror::Error;
use wsstream::portforward::server::Errors;

/// The configuration of `wsstream serve`. All fields may be assigned; flags override what a file said.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Where to listen; empty: [`DEFAULT_LISTEN`](crate::serve::DEFAULT_LISTEN).
    pub listen: Vec<SocketAddr>,
    /// Certificate chain in PEM; goes with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// Private key in PEM; goes with `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// Bearer tokens, one per line.
    pub token_file: Option<PathBuf>,
    /// Where to write the kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// Plain HTTP, on loopback only.
    pub insecure_http: bool,
    /// What to serve; empty: one pod `host`.
    pub pods: Vec<PodSpec>,
    /// Bounds and clocks of the server.
    pub limits: Limits,
    /// How commands are run and ended, in all containers. A container adds its environment and its directory.
    pub session: SessionOptions,
    /// What clients of port-forward are told of a connection that failed.
    pub forward_errors: Errors,
    /// What port-forward reaches in pods that do not say it themselves. The file's pods have it already.
    pub forward_ports: Option<ForwardPorts>,
    /// Where operators ask.
    pub admin_socket: AdminPlace,
    /// Commands are started without a keeper. For who assigns [`SessionOptions::command`]'s keeper, which only a program
    /// that can be one may.
    pub no_keeper: bool,
    /// Who may connect, and as whom.
    pub access: AccessOptions,
    /// The record of sessions.
    pub audit: AuditOptions,
    /// Where to serve metrics without authentication; loopback.
    pub metrics_listen: Option<SocketAddr>,
}

impl Config {
    /// Reads and checks a TOML file. Relative paths in it are relative to its directory.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError::Read { path: path.to_owned(), error })?;
        Self::parse(&text, path)
    }

    /// The same from text; `path` is for messages and for relative paths in it.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        file::parse(text, path)
    }

    /// The keys that the file's table `[server]` may have.
    pub fn server_keys() -> &'static [&'static str] {
        file::server_keys()
    }

    /// The pod that is served when none is declared.
    pub fn host_pod(&self) -> PodSpec {
        let mut host = PodSpec::host("host");
        self.give_ports(&mut host);
        host
    }

    /// Gives a pod that is declared elsewhere what [`forward_ports`](Self::forward_ports) says.
    pub fn give_ports(&self, pod: &mut PodSpec) {
        if let Some(ports) = &self.forward_ports {
            pod.forward.ports.clone_from(ports);
        }
    }

    /// Checks the whole, starts the supervised commands and yields what [`Server::bind`](crate::Server::bind) takes.
    /// Call it inside a tokio runtime.
    pub fn into_options(self) -> Result<ServerOptions, ConfigError> {
        let (options, unstarted) = self.into_parts()?;
        unstarted.start(&options.pods)?;
        Ok(options)
    }

    /// The same in two: options without a pod, and the pods, for who starts nothing before it is known that the server
    /// can listen.
    pub fn into_parts(self) -> Result<(ServerOptions, Unstarted), ConfigError> {
        self.into_parts_beside(false)
    }

    /// The same for a server that has ports of somebody else's opening ([`Server::bind_on`](crate::Server::bind_on)), or none:
    /// with `ports`, one that names unix sockets alone is reached by those ports as well, and has a token for them.
    ///
    /// # Errors
    /// As [`into_parts`](Self::into_parts).
    pub fn into_parts_beside(mut self, ports: bool) -> Result<(ServerOptions, Unstarted), ConfigError> {
        if self.pods.is_empty() {
            self.pods.push(self.host_pod());
        }
        // All of it is checked before the first command is started.
        if let Some((_, error)) = self.contradictions().into_iter().next() {
            return Err(error);
        }
        let specs = std::mem::take(&mut self.pods);
        // Nothing else is left: what contradicts itself has been refused.
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(cert), Some(key)) => TlsSource::Files { cert, key },
            _ if self.insecure_http => TlsSource::Insecure,
            _ => TlsSource::Generated,
        };
        let mut options = ServerOptions::new(Pods::new());
        options.namespace =
            one_namespace(specs.iter().map(|spec| spec.namespace.as_str())).map(str::to_owned);
        let unstarted = Unstarted { specs, session: self.session, forward_errors: self.forward_errors };
        let only_unix = self.listen.is_empty() && !ports && !self.access.listen_unix.is_empty();
        if !self.listen.is_empty() || !self.access.listen_unix.is_empty() {
            options.listen = self.listen;
        }
        options.tls = tls;
        // A random token beside users who have credentials of theirs would be one that nobody asked for.
        let others = self.access.users.is_some() || self.access.tls.client_ca.is_some() || only_unix;
        let none_given = if others { TokenSource::None } else { TokenSource::Generated };
        options.tokens = self.token_file.map_or(none_given, TokenSource::File);
        options.access = self.access;
        options.audit = self.audit;
        options.metrics_listen = self.metrics_listen;
        options.kubeconfig = self.kubeconfig;
        options.limits = self.limits;
        Ok((options, unstarted))
    }
}

/// The one namespace that all are in.
pub(crate) fn one_namespace<T: PartialEq>(mut namespaces: impl Iterator<Item = T>) -> Option<T> {
    let first = namespaces.next()?;
    namespaces.all(|other| other == first).then_some(first)
}

/// The pods of a configuration that was checked; none of their commands runs yet.
#[derive(Debug)]
#[must_use = "nothing is served before they are started"]
pub struct Unstarted {
    specs: Vec<PodSpec>,
    session: SessionOptions,
    forward_errors: Errors,
}

impl Unstarted {
    /// Starts the supervised commands, and serves the pods. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// A pod is refused, because another has its name, for example. Those before it are there.
    pub fn start(self, pods: &Pods) -> Result<(), PodError> {
        for spec in &self.specs {
            pods.add(spec.build(&self.session).forward_errors(self.forward_errors))?;
        }
        Ok(())
    }
}

/// What is wrong with a configuration. The text names the file and the line where there is one.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {error}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A line of the file is not TOML, or not something we know, or does not make sense.
    #[error("{path}:{line}: {message}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong.
        message: String,
    },
    /// A pod does not make sense.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A pod was refused.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// One of two.
    #[error("a TLS certificate and its key go together: give both, tls_cert and tls_key, or neither")]
    HalfCertificate,
    /// Certificates are required of clients, and nobody could sign one.
    #[error("there is no client_ca whose certificates client_auth could require")]
    NoClientAuthority,
    /// Two limits contradict each other.
    #[error("{0}")]
    Limits(String),
    /// Contradiction.
    #[error("insecure_http and a TLS certificate exclude each other")]
    InsecureWithCertificate,
    /// Contradiction.
    #[error(
        "client_ca: there are no client certificates in plain HTTP; leave out client_ca, or insecure_http"
    )]
    InsecureWithClientAuthority,
}
