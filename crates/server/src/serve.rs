//! Under construction.
use std::{future::Future, net::SocketAddr, path::{Path, PathBuf}};
use crate::{Limits, Pods};

/// What the program needs to serve. Start from [`ServerOptions::new`] and assign fields.
#[derive(Debug)]
#[non_exhaustive]
pub struct ServerOptions {
    /// Addresses to listen on. Default: `127.0.0.1:7443`.
    pub listen: Vec<SocketAddr>,
    /// Where the certificate comes from. Default: generated.
    pub tls: TlsSource,
    /// Where the bearer tokens come from. Default: one random token.
    pub tokens: TokenSource,
    /// Where to write the kubeconfig; `None` writes none.
    pub kubeconfig: Option<PathBuf>,
    /// What is served.
    pub pods: Pods,
    /// Bounds.
    pub limits: Limits,
}
impl ServerOptions {
    /// Loopback, a generated certificate, a random token, no kubeconfig.
    pub fn new(pods: Pods) -> Self { unimplemented!() }
}
/// The certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    /// ECDSA P-256, made at start; the kubeconfig carries it.
    Generated,
    /// PEM files.
    Files {
        /// Certificate chain.
        cert: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// Plain HTTP: refused beyond loopback.
    Insecure,
}
/// The tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenSource {
    /// One random token, made at start.
    Generated,
    /// One token per line; blank lines and `#` comments are skipped. The first goes into the kubeconfig.
    File(PathBuf),
}
/// Why the server did not start. Display is one line for a person.
#[derive(Debug)]
pub struct ServeError(());
impl std::fmt::Display for ServeError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { unimplemented!() } }
impl std::error::Error for ServeError {}
/// The entry point.
#[derive(Debug)]
pub struct Server(());
impl Server {
    /// Binds, loads or makes the certificate and the token, and writes the kubeconfig once the sockets listen.
    pub async fn bind(options: ServerOptions) -> Result<Bound, ServeError> { unimplemented!() }
}
/// A server that listens and does not yet answer.
#[derive(Debug)]
pub struct Bound(());
impl Bound {
    /// The first address.
    pub fn local_addr(&self) -> SocketAddr { unimplemented!() }
    /// All addresses.
    pub fn local_addrs(&self) -> &[SocketAddr] { unimplemented!() }
    /// `https://127.0.0.1:7443`, as in the kubeconfig.
    pub fn url(&self) -> &str { unimplemented!() }
    /// The kubeconfig that was written.
    pub fn kubeconfig(&self) -> Option<&Path> { unimplemented!() }
    /// The token in the kubeconfig. Never log it.
    pub fn token(&self) -> &str { unimplemented!() }
    /// The PEM of the certificate a client must trust; None for plain HTTP.
    pub fn certificate_pem(&self) -> Option<&str> { unimplemented!() }
    /// The pods served: add and remove while running.
    pub fn pods(&self) -> &Pods { unimplemented!() }
    /// Serves until `shutdown` resolves, then stops accepting, lets sessions end within `limits.drain` and cuts the rest.
    pub async fn run(self, shutdown: impl Future<Output = ()> + Send) { unimplemented!() }
}
