//! The part of the Kubernetes API that stock clients need for exec, attach, logs and port-forward, as an axum [`Router`].
//!
//! Every error on every path is a `Status` in JSON, whatever the method. Everything but `/healthz`, `/livez` and
//! `/readyz` is authenticated, unknown paths included, so that an outsider learns nothing from a 404.

mod accept;
mod access;
mod admission;
pub(crate) mod answer;
mod browser;
mod discovery;
pub(crate) mod exec;
mod followed;
pub(crate) mod gate;
mod health;
pub(crate) mod log;
mod object;
mod outcome;
pub(crate) mod pods;
pub(crate) mod portforward;
pub(crate) mod query;
mod recheck;
mod refused;
mod registry;
mod selector;
mod session;
mod sessions;
mod streams;
mod table;
mod watch;

pub use access::Access;
pub(crate) use admission::Limit;
pub(crate) use outcome::{How, Outcome};
pub(crate) use registry::{Entry, Totals};
pub use registry::{SessionInfo, SessionKind};
pub use sessions::{Drained, Sessions};

use crate::{
    Limits, Pods, Readiness, audit::Audit, auth, kubelet, net::Stall, pod::Ports, strangers::Stranger,
};
use answer::Refusal;
use auth::Authenticator as _;
use axum::{
    Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{any, get, post},
};
use gate::Gate;
use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};
use wsstream::{
    MemoryBudget, portforward::server as forward, proto::status::Status, remotecommand::server::Options,
};

/// The API of a set of pods. Cheap to clone; all clones are the same one.
#[derive(Clone)]
pub struct Api {
    shared: Arc<Shared>,
}

struct Shared {
    pods: Pods,
    access: Access,
    sessions: Sessions,
    readiness: Readiness,
    /// One for all sessions, because of the memory budgets in it.
    options: Options,
    /// The same for port-forward.
    forward: forward::Options,
}

/// The address a request came from: put it into the request's extensions for the log lines of its session.
/// `axum::extract::ConnectInfo<SocketAddr>` is looked at as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer(pub SocketAddr);

/// Who is at the other end of a unix socket, in the extensions of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UnixPeer {
    pub(crate) uid: u32,
    /// Where it has one that we can see.
    pub(crate) pid: Option<i32>,
}

impl fmt::Display for UnixPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unix:uid={}", self.uid)?;
        self.pid.map_or(Ok(()), |pid| write!(f, ",pid={pid}"))
    }
}

/// In the extensions of a connection's requests: set once one of them was authenticated. Before, who is there is a stranger, who
/// is given little time.
#[derive(Debug, Clone, Default)]
pub(crate) struct Known(Arc<OfConnection>);

#[derive(Debug, Default)]
struct OfConnection {
    known: AtomicBool,
    /// Its place among those of its address, for as long as a stranger is there.
    stranger: Mutex<Option<Stranger>>,
    stall: Stall,
}

impl Known {
    pub(crate) fn stranger(stranger: Option<Stranger>) -> Self {
        Self(Arc::new(OfConnection { stranger: Mutex::new(stranger), ..OfConnection::default() }))
    }

    pub(crate) fn set(&self) {
        if !self.0.known.swap(true, Ordering::Relaxed) {
            drop(self.0.stranger.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
    }

    pub(crate) fn get(&self) -> bool {
        self.0.known.load(Ordering::Relaxed)
    }

    /// Whether its peer takes what is written.
    pub(crate) fn stall(&self) -> &Stall {
        &self.0.stall
    }
}

/// In the extensions of a response that switches protocols: this side begins, at once, so that both can be one write.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SpeaksFirst;

impl Api {
    /// Offers `pods` to whom `access` lets in (an [`Authenticator`](auth::Authenticator) will do), with default [`Limits`].
    pub fn new(pods: Pods, access: impl Into<Access>) -> Self {
        Self::with_limits(pods, access, &Limits::default())
    }

    /// The same with the sessions, their clocks and the shutdown as in `limits`; what it says about connections, and
    /// [`Limits::session_bandwidth`], is for who accepts them, as [`Server`](crate::Server) does.
    pub fn with_limits(pods: Pods, access: impl Into<Access>, limits: &Limits) -> Self {
        let mut options = Options::default();
        options.timeouts.ping_interval = limits.ping_interval;
        options.timeouts.dead_peer = limits.dead_peer;
        options.timeouts.idle = limits.idle;
        options.limits.max_message = limits.max_message;
        options.limits.receive_buffer = limits.receive_buffer;
        options.spdy.receive_buffer = limits.receive_buffer;
        let shared = MemoryBudget::new(limits.shared_buffer);
        options.limits.shared = shared.clone();
        options.spdy.shared = shared.clone();
        let mut forward = forward::Options::default();
        forward.limits = options.limits.clone();
        forward.spdy.shared = shared;
        forward.timeouts = options.timeouts.clone();
        let sessions = Sessions::new(limits);
        let shared = Shared {
            pods,
            access: access.into(),
            sessions,
            readiness: Readiness::default(),
            options,
            forward,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Records sessions and refusals from now on. Call it before anything is served; a second call changes nothing.
    #[must_use]
    pub fn audit(self, audit: Audit) -> Self {
        self.shared.sessions.set_audit(audit);
        self
    }

    /// What is counted, for Prometheus, as OpenMetrics text ([`CONTENT_TYPE`](crate::metrics::CONTENT_TYPE)). `/metrics` of
    /// the router answers with it to who may `get` that path.
    #[must_use]
    pub fn metrics(&self) -> String {
        // Fails as writing to a String does: never.
        self.sessions().metrics().text(self).unwrap_or_default()
    }

    /// The pods on offer.
    pub fn pods(&self) -> &Pods {
        &self.shared.pods
    }

    /// The tasks of the running sessions: to wait for them at shutdown.
    pub fn sessions(&self) -> &Sessions {
        &self.shared.sessions
    }

    /// What decides, beside a shutdown, whether `/readyz` says that new work may be sent here.
    pub fn readiness(&self) -> &Readiness {
        &self.shared.readiness
    }

    /// What is left of [`Limits::shared_buffer`], for a gauge. At 0 sessions go on, each at the speed of its slowest reader.
    pub fn shared_buffer(&self) -> &MemoryBudget {
        &self.shared.options.limits.shared
    }

    /// Mints one-time links for people who are known already. Their tokens are good for everything that the identity may do
    /// when they are used.
    pub fn links(&self) -> &auth::Links {
        &self.shared.access.links
    }

    /// What the list of users says of one of this name; see [`Authenticator::listed`](auth::Authenticator::listed).
    pub(crate) fn listed(&self, user: &str) -> Option<Result<auth::Identity, auth::Denied>> {
        self.shared.access.authenticator.listed(user)
    }

    fn session_options(&self) -> Options {
        self.shared.options.clone()
    }

    fn forward_options(&self, ports: &Ports) -> forward::Options {
        let mut options = self.shared.forward.clone();
        options.errors = ports.errors;
        options
    }

    /// The routes. They begin with `/api`, `/apis` and `/version`, and those of the kubelet's own API with `/exec`,
    /// `/attach`, `/portForward` and `/containerLogs`; the fallback answers 404 with a Status.
    ///
    /// Serve them over HTTP/1.1 with upgrades, as `axum::serve` and [`Server`](crate::Server) do.
    pub fn router(&self) -> Router {
        let health = Router::new()
            .route("/healthz", get(health::live))
            .route("/livez", get(health::live))
            .route("/readyz", get(health::ready))
            .route("/auth/exchange", post(browser::exchange))
            .with_state(self.clone());
        let guarded = Router::new()
            .route("/version", get(discovery::version))
            .route("/metrics", get(metrics_of))
            .route("/api", get(discovery::api))
            .route("/apis", get(discovery::apis))
            .route("/api/v1", get(discovery::v1))
            .route("/api/v1/namespaces", get(pods::list_namespaces))
            .route("/api/v1/namespaces/{namespace}", get(pods::get_namespace))
            .route("/api/v1/pods", get(pods::list_all))
            .route("/api/v1/namespaces/{namespace}/pods", get(pods::list_namespaced))
            .route("/api/v1/namespaces/{namespace}/pods/{pod}", get(pods::get))
            .route("/api/v1/namespaces/{namespace}/pods/{pod}/log", get(log::get))
            .route("/api/v1/namespaces/{namespace}/pods/{pod}/exec", get(exec::exec).post(exec::exec))
            .route("/api/v1/namespaces/{namespace}/pods/{pod}/attach", get(exec::attach).post(exec::attach))
            .route(
                "/api/v1/namespaces/{namespace}/pods/{pod}/portforward",
                get(portforward::portforward).post(portforward::portforward),
            )
            .merge(kubelet::routes())
            .fallback(any(|| async { Refusal::no_such_resource() }))
            .method_not_allowed_fallback(method_not_allowed)
            .with_state(Gate::new(self.clone()));
        // Around the whole router and not its routes: those add `Allow` to what the layer answers, which tells an
        // outsider the paths that exist.
        let guarded = Router::new()
            .fallback_service(guarded)
            .layer(middleware::from_fn_with_state(self.clone(), refused::name))
            .layer(middleware::from_fn_with_state(self.clone(), authenticate));
        health
            .method_not_allowed_fallback(method_not_allowed)
            .merge(guarded)
            .layer(middleware::from_fn_with_state(self.clone(), browser::guard))
            .layer(middleware::from_fn_with_state(self.clone(), refused::record))
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Shared { pods, sessions, .. } = &*self.shared;
        f.debug_struct("Api").field("pods", pods).field("sessions", sessions).finish_non_exhaustive()
    }
}

async fn method_not_allowed() -> Refusal {
    Status::method_not_allowed("the server does not allow this method on the requested resource").into()
}

/// Numbers and no names, for whom the policy lets read them: how busy a server is, and which limits are near, is of use to an
/// attacker.
async fn metrics_of(caller: gate::Caller) -> Result<Response, Refusal> {
    Ok(answer::with_type(http::StatusCode::OK, crate::metrics::CONTENT_TYPE, caller.metrics().await?))
}

/// Runs before any routing decision that depends on what exists.
async fn authenticate(State(api): State<Api>, request: Request, next: Next) -> Response {
    let (mut head, body) = request.into_parts();
    let outcome = match auth::normalise(&mut head) {
        Ok(()) => match api.shared.access.authenticator.authenticate(&head).await {
            // Nobody else's: perhaps one that a page was given.
            Err(auth::Denied::Unknown) => match api.links().authenticate(&head).await {
                Ok(identity) => api.shared.access.present(identity),
                denied => denied,
            },
            decided => decided,
        },
        Err(denied) => Err(denied),
    };
    match outcome {
        Ok(identity) => {
            auth::forget(&mut head);
            if let Some(known) = head.extensions.get::<Known>() {
                known.set();
            }
            head.extensions.insert(identity);
            next.run(Request::from_parts(head, body)).await
        }
        Err(denied) => {
            let request = Request::from_parts(head, body);
            tracing::info!(peer = %peer_of(&request), path = request.uri().path(), reason = ?denied, "request refused");
            Refusal::from(Status::unauthorized(denied.to_string())).into_response()
        }
    }
}

/// For log lines; `-` when the router was not told.
fn peer_of(request: &Request) -> String {
    let extensions = request.extensions();
    let connect_info = extensions.get::<axum::extract::ConnectInfo<SocketAddr>>().map(|info| info.0);
    let peer = extensions.get::<Peer>().map(|peer| peer.0).or(connect_info);
    match (peer, extensions.get::<UnixPeer>()) {
        (Some(peer), _) => peer.to_string(),
        (None, Some(peer)) => peer.to_string(),
        (None, None) => "-".to_owned(),
    }
}
