//! The server around the [`Api`]: listeners, TLS, HTTP and an orderly end.

mod accept;
mod http;
mod metrics;
mod unix;

use crate::{
    Limits, Pods,
    admin::{AdminSocket, AdminSocketError},
    api::{Access, Api, Drained},
    audit::{Audit, AuditError, AuditOptions},
    auth::{BearerTokens, Chain, Token, TokenFile, TokenFileError, Users, UsersError},
    authz::{Policy, PolicyError},
    browser::Browsers,
    config::{AccessOptions, one_namespace},
    kubeconfig::{Kubeconfig, KubeconfigError},
    strangers::Strangers,
    tls::{self, Certificate, Live, TlsError},
};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::Semaphore,
    task::JoinSet,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Where `wsstream serve` listens when nobody says.
pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 7443);

/// What the program needs to serve. Start from [`ServerOptions::new`] and assign fields.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Addresses to listen on, at least one; port 0 takes a free one. Default: [`DEFAULT_LISTEN`].
    pub listen: Vec<SocketAddr>,
    /// Where the certificate comes from. Default: generated.
    pub tls: TlsSource,
    /// Where the bearer tokens come from. Default: one random token.
    pub tokens: TokenSource,
    /// Where to write the kubeconfig; `None` (the default) writes none.
    pub kubeconfig: Option<PathBuf>,
    /// The namespace that kubectl starts in. `None`, the default: that of the pods there are when the server binds, if it is
    /// one, else `default`.
    pub namespace: Option<String>,
    /// What is served.
    pub pods: Pods,
    /// Bounds.
    pub limits: Limits,
    /// Who may connect, and as whom, beside the tokens.
    pub access: AccessOptions,
    /// The record of sessions. Default: none.
    pub audit: AuditOptions,
    /// Where to serve `/metrics` without authentication, as plain HTTP; a loopback address. Default: nowhere. Port 0 takes
    /// a free one, [`Bound::metrics_addr`].
    pub metrics_listen: Option<SocketAddr>,
}

impl ServerOptions {
    /// Loopback, a generated certificate, a random token, no kubeconfig, default limits.
    pub fn new(pods: Pods) -> Self {
        Self {
            listen: vec![DEFAULT_LISTEN],
            tls: TlsSource::Generated,
            tokens: TokenSource::Generated,
            kubeconfig: None,
            namespace: None,
            pods,
            limits: Limits::default(),
            access: AccessOptions::default(),
            audit: AuditOptions::default(),
            metrics_listen: None,
        }
    }
}

/// Where the certificate comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// ECDSA P-256, made at start; the kubeconfig carries what to trust.
    Generated,
    /// PEM files.
    Files {
        /// Certificate chain, leaf first.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// Plain HTTP. Refused beyond loopback: tokens would travel in the clear.
    Insecure,
}

/// Where the bearer tokens come from.
#[derive(Debug, Clone)]
pub enum TokenSource {
    /// One random token, made at start.
    Generated,
    /// One token per line; blank lines and `#` comments are skipped. Read again when it changes; the first there is at start
    /// goes into the kubeconfig.
    File(PathBuf),
    /// These, at least one. The first goes into the kubeconfig.
    Given(Vec<Token>),
    /// None: users come from [`AccessOptions`]. The kubeconfig holds no credential then.
    None,
}

/// Why the server did not start. `Display` is one line for a person and says what to do where we know.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// [`ServerOptions::listen`] is empty.
    #[error("no address to listen on")]
    NoAddress,
    /// Plain HTTP on an address that others can reach.
    #[error(
        "refusing to serve plain HTTP on {0}: tokens would travel in the clear; listen on a loopback address or use TLS \
         (--insecure-listen overrides)"
    )]
    InsecureBeyondLoopback(SocketAddr),
    /// Metrics on an address that others can reach.
    #[error(
        "refusing to serve metrics on {0} without authentication: listen on a loopback address, or read /metrics with a \
         token where the server itself listens"
    )]
    MetricsBeyondLoopback(SocketAddr),
    /// [`TokenSource::Given`] is empty, or there is neither a token nor anything else by which anybody could be let in.
    #[error("no bearer token given, and no users: nobody could be let in")]
    NoToken,
    /// An address cannot be listened on.
    #[error("cannot listen on {address}: {error}{}", bind_hint(error))]
    Listen {
        /// Which one.
        address: SocketAddr,
        /// Why.
        #[source]
        error: io::Error,
    },
    /// A socket that was opened by somebody else is not what it should be.
    #[error("cannot serve a socket that was handed over: {0}")]
    Opened(#[source] io::Error),
    /// The certificate cannot be used.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The token file cannot be used.
    #[error(transparent)]
    Tokens(#[from] TokenFileError),
    /// The users file cannot be used.
    #[error(transparent)]
    Users(#[from] UsersError),
    /// The policy cannot be used.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The record of sessions cannot be kept.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A unix socket cannot be listened on.
    #[error(transparent)]
    Unix(#[from] AdminSocketError),
    /// The kubeconfig cannot be written.
    #[error(transparent)]
    Kubeconfig(#[from] KubeconfigError),
}

fn bind_hint(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "; another program listens there: choose another port",
        io::ErrorKind::AddrNotAvailable => "; this machine has no such address",
        io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege: choose another port",
        _ => "",
    }
}

/// The entry point: [`Server::bind`], then [`Bound::run`].
#[derive(Debug)]
pub struct Server(());

impl Server {
    /// Listens, loads or makes the certificate and the token, and, once clients can connect, writes the kubeconfig.
    /// Connections wait in the kernel until [`Bound::run`].
    ///
    /// Dropping the future leaves nothing behind but, at most, the kubeconfig.
    pub async fn bind(options: ServerOptions) -> Result<Bound, ServeError> {
        Self::bind_on(options, Vec::new()).await
    }

    /// The same with sockets that somebody else has opened, a service manager for example; they must listen and be
    /// non-blocking. They come before those of [`ServerOptions::listen`], which may then be empty, and the same rules hold
    /// for their addresses.
    pub async fn bind_on(
        options: ServerOptions,
        opened: Vec<std::net::TcpListener>,
    ) -> Result<Bound, ServeError> {
        let ServerOptions {
            listen,
            tls,
            tokens,
            kubeconfig,
            namespace,
            pods,
            limits,
            access,
            audit,
            metrics_listen,
        } = options;
        if let Some(open) = metrics_listen.filter(|address| !address.ip().to_canonical().is_loopback()) {
            return Err(ServeError::MetricsBeyondLoopback(open));
        }
        let audit = Audit::open(&audit)?;
        let (mut listeners, mut addresses) = (Vec::new(), Vec::new());
        for socket in opened {
            addresses.push(socket.local_addr().map_err(ServeError::Opened)?);
            listeners.push(TcpListener::from_std(socket).map_err(ServeError::Opened)?);
        }
        // Before anything is opened, and whoever opened it.
        let all: Vec<SocketAddr> = addresses.iter().chain(&listen).copied().collect();
        if let (TlsSource::Insecure, Some(open)) =
            (&tls, all.iter().find(|address| !address.ip().to_canonical().is_loopback()))
        {
            if !access.insecure_listen {
                return Err(ServeError::InsecureBeyondLoopback(*open));
            }
            tracing::warn!(
                address = %open,
                "INSECURE: plain HTTP beyond loopback, as --insecure-listen asks: whoever is on the way reads tokens and sessions \
                 and can take them over"
            );
        }
        let mut token_file = None;
        let (token, tokens) = match tokens {
            TokenSource::Generated => of(vec![Token::random()]),
            TokenSource::File(path) => {
                let (file, first) = TokenFile::read(&path)?;
                token_file = Some(file);
                (first, BearerTokens::default())
            }
            TokenSource::Given(tokens) if tokens.is_empty() => return Err(ServeError::NoToken),
            TokenSource::Given(tokens) => of(tokens),
            TokenSource::None => (None, BearerTokens::default()),
        };
        let users = access.users.as_deref().map(Users::read_file).transpose()?;
        let policy = access.policy.as_deref().map(Policy::read_file).transpose()?;
        let certified = access.tls.client_ca.is_some() && !matches!(tls, TlsSource::Insecure);
        let unix = !access.listen_unix.is_empty();
        if token.is_none() && users.is_none() && !certified && !unix {
            return Err(ServeError::NoToken);
        }
        let live = match &tls {
            // Unix sockets have no TLS.
            _ if all.is_empty() => None,
            TlsSource::Generated => {
                let addresses: Vec<_> = all.iter().map(SocketAddr::ip).collect();
                Some(Live::generate(&addresses, access.tls.clone())?)
            }
            TlsSource::Files { cert, key } => Some(Live::load(cert, key, access.tls.clone())?),
            TlsSource::Insecure => None,
        };
        let certificate = live.as_ref().map(Live::current);
        for address in listen {
            let fail = |error| ServeError::Listen { address, error };
            let listener = listen_on(address).map_err(fail)?;
            addresses.push(listener.local_addr().map_err(fail)?);
            listeners.push(listener);
        }
        let metrics = match metrics_listen {
            None => None,
            Some(address) => {
                let fail = |error| ServeError::Listen { address, error };
                Some(TcpListener::bind(address).await.map_err(fail)?)
            }
        };
        let mut sockets = Vec::new();
        for path in &access.listen_unix {
            sockets.push(unix::bind(path, !access.allow_uids.is_empty())?);
        }
        let host = addresses.first().copied().map(reachable);
        let scheme = if certificate.is_some() { "https" } else { "http" };
        let url = match (host, access.listen_unix.first()) {
            (Some(host), _) => format!("{scheme}://{host}"),
            (None, Some(path)) => format!("unix:{}", path.display()),
            (None, None) => return Err(ServeError::NoAddress),
        };
        // kubectl knows no unix sockets.
        let kubeconfig = kubeconfig.filter(|_| host.is_some());
        if let (Some(path), Some(host)) = (&kubeconfig, host) {
            let name = certificate.as_deref().and_then(|certificate| other_name(certificate, host));
            let contents = Kubeconfig {
                server: &url,
                tls_server_name: name.as_deref(),
                certificate_authority_pem: certificate.as_ref().map(|c| c.trust_pem.as_str()),
                token: token.as_ref().map(Token::expose),
                namespace: &namespace.unwrap_or_else(|| namespace_to_show(&pods)),
            };
            contents.write(path)?;
        }
        let files = [
            token_file.as_ref().map(TokenFile::stale),
            users.as_ref().map(Users::stale),
            policy.as_ref().map(Policy::stale),
            live.as_ref().map(Live::stale),
        ];
        let mut chain = Chain::new().then(tokens);
        if let Some(file) = token_file {
            chain = chain.then(file);
        }
        if let Some(users) = users {
            chain = chain.then(users);
        }
        let browsers = browsers(&access, &addresses, live.as_ref());
        let allow_uids = access.allow_uids;
        let changing = access.users.is_some() || access.policy.is_some();
        let mut access = Access::new(chain).browsers(browsers);
        if let Some(policy) = policy {
            access = access.authorizer(policy);
        }
        let api = Api::with_limits(pods, access, &limits);
        api.sessions().metrics().set_files(files.into_iter().flatten().collect());
        let api = match audit {
            Some(audit) => api.audit(audit),
            None => api,
        };
        Ok(Bound {
            listeners,
            sockets,
            allow_uids,
            addresses,
            url,
            kubeconfig,
            token,
            certificate,
            live,
            api,
            limits,
            metrics,
            changing,
        })
    }
}

/// The first token, and all of them.
fn of(tokens: Vec<Token>) -> (Option<Token>, BearerTokens) {
    (tokens.first().cloned(), BearerTokens::new(tokens))
}

/// The names of the server. Where it listens on all addresses it cannot know them; an address is no way to rebind.
fn browsers(access: &AccessOptions, addresses: &[SocketAddr], certificate: Option<&Live>) -> Browsers {
    let mut browsers = Browsers::new();
    if !addresses.iter().any(|address| address.ip().is_unspecified()) {
        browsers = browsers.addresses(addresses.iter().map(SocketAddr::ip));
    }
    if let Some(certificate) = certificate.cloned() {
        browsers = browsers.https().names(move |name| certificate.current().covers(name));
    }
    browsers = access.allowed_hosts.iter().fold(browsers, Browsers::host);
    access.allowed_origins.iter().cloned().fold(browsers, Browsers::origin)
}

/// As [`TcpListener::bind`] does, with more that may wait to be accepted: those beyond are told nothing and try again in
/// seconds.
fn listen_on(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(unix::BACKLOG.into())
}

/// Where a client on this machine finds the server.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// The name a client must expect when the certificate does not cover the address it connects to.
fn other_name(certificate: &Certificate, host: SocketAddr) -> Option<String> {
    if certificate.covers(&host.ip().to_string()) {
        return None;
    }
    let names = [tls::host_name(), Some("localhost".to_owned())];
    let found = names.into_iter().flatten().find(|name| certificate.covers(name));
    if found.is_none() {
        tracing::warn!(
            address = %host.ip(),
            "the certificate covers neither this address nor the host name: clients need the kubeconfig's server or \
             tls-server-name set to a name that it covers"
        );
    }
    found
}

/// kubectl starts in this namespace: `default`, unless all pods are in one other.
fn namespace_to_show(pods: &Pods) -> String {
    let namespaces = pods.names().into_iter().map(|(namespace, _)| namespace);
    one_namespace(namespaces).unwrap_or_else(|| "default".to_owned())
}

/// A server that listens and does not answer yet.
pub struct Bound {
    listeners: Vec<TcpListener>,
    sockets: Vec<AdminSocket>,
    allow_uids: Vec<u32>,
    addresses: Vec<SocketAddr>,
    url: String,
    kubeconfig: Option<PathBuf>,
    token: Option<Token>,
    /// The one at start.
    certificate: Option<Arc<Certificate>>,
    live: Option<Live>,
    api: Api,
    limits: Limits,
    metrics: Option<TcpListener>,
    /// There are files by which what was allowed may be so no longer.
    changing: bool,
}

impl Bound {
    /// The first address.
    pub fn local_addr(&self) -> SocketAddr {
        self.addresses.first().copied().unwrap_or(DEFAULT_LISTEN)
    }

    /// Where the metrics are served, if they are.
    pub fn metrics_addr(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// All addresses, in the order of [`ServerOptions::listen`].
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// `https://127.0.0.1:7443`, as in the kubeconfig; `unix:PATH` where only unix sockets are listened on.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The kubeconfig that was written.
    pub fn kubeconfig(&self) -> Option<&Path> {
        self.kubeconfig.as_deref()
    }

    /// The first token, as in the kubeconfig; `None` where only users have theirs. Never log it.
    pub fn token(&self) -> Option<&str> {
        self.token.as_ref().map(Token::expose)
    }

    /// What a client must trust, in PEM; `None` for plain HTTP.
    pub fn certificate_pem(&self) -> Option<&str> {
        self.certificate.as_ref().map(|certificate| certificate.trust_pem.as_str())
    }

    /// The pods served: they can be added and removed while the server runs.
    pub fn pods(&self) -> &Pods {
        self.api.pods()
    }

    /// The API served.
    pub fn api(&self) -> &Api {
        &self.api
    }

    /// Serves until `shutdown` resolves. Then it stops accepting, ends watches and followed logs, asks the supervised
    /// commands to end, gives them and the running sessions [`Limits::drain`] to do so, and ends the rest as
    /// [`Sessions::drain`](crate::api::Sessions::drain) says: with an honest failure, if the client takes it.
    ///
    /// All tasks have ended when this returns. Dropping the future cuts everything at once.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Drained {
        let Self { listeners, sockets, allow_uids, live, api, limits, metrics, changing, .. } = self;
        let drain = limits.drain;
        let cut = CancellationToken::new();
        // Not that of the sessions: a server that drains refuses them, and still says so.
        let stopping = CancellationToken::new();
        let shared = Arc::new(accept::Shared {
            router: api.router(),
            tls: live,
            api: api.clone(),
            places: Arc::new(Semaphore::new(limits.connections.min(Semaphore::MAX_PERMITS))),
            strangers: Strangers::new(limits.connections_per_address()),
            refusals: Arc::new(Semaphore::new(unix::REFUSALS)),
            connections: TaskTracker::new(),
            closing: stopping.clone(),
            cut: cut.clone(),
            limits,
            allow_uids,
        });
        api.sessions().metrics().set_places(shared.places.clone(), shared.places.available_permits());
        let _cut_when_dropped = CutOnDrop { cut: cut.clone(), api: api.clone() };
        // A JoinSet: dropped, it aborts the loops.
        let mut loops = JoinSet::new();
        for listener in listeners {
            loops.spawn(accept::run(accept::Listener::Tcp(listener), shared.clone()));
        }
        for socket in &sockets {
            // Its name goes with `sockets`, when nobody answers any more.
            match socket.listener() {
                Ok(listener) => {
                    _ = loops.spawn(accept::run(accept::Listener::Unix(listener), shared.clone()));
                }
                Err(error) => tracing::error!(%error, "cannot serve on a unix socket"),
            }
        }
        if changing {
            let api = api.clone();
            loops.spawn(async move { api.keep_access().await });
        }
        let mut scrapes = JoinSet::new();
        if let Some(listener) = metrics {
            scrapes.spawn(metrics::run(listener, api.clone()));
        }
        shutdown.await;

        api.sessions().close();
        stopping.cancel();
        loops.shutdown().await;
        shared.connections.close();
        let sessions = async {
            let started = tokio::time::Instant::now();
            // Connections first: a request on its way may still become a session.
            if tokio::time::timeout(drain, shared.connections.wait()).await.is_err() {
                cut.cancel();
                shared.connections.wait().await;
            }
            api.sessions().drain(drain.saturating_sub(started.elapsed())).await
        };
        // At the same time: an attached client is there until the process has ended.
        let (drained, ()) = tokio::join!(sessions, api.pods().stop(drain));
        if let Some(audit) = api.sessions().audit() {
            audit.close().await;
        }
        drained
    }
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bound")
            .field("addresses", &self.addresses)
            .field("api", &self.api)
            .finish_non_exhaustive()
    }
}

/// Tasks on a tracker do not end with it: this ends them when `run` is dropped half-way.
struct CutOnDrop {
    cut: CancellationToken,
    api: Api,
}

impl Drop for CutOnDrop {
    fn drop(&mut self) {
        self.cut.cancel();
        self.api.sessions().abort();
    }
}
