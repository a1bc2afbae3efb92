//! Under construction.
use std::{collections::BTreeMap, net::SocketAddr, path::{Path, PathBuf}};
use crate::{Pods, Pod, ServerOptions};
/// The configuration after validation: fill it from a file, then let flags override the fields.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// `[server] listen`; empty: the default, `127.0.0.1:7443`.
    pub listen: Vec<SocketAddr>,
    /// `tls_cert`, with `tls_key`.
    pub tls_cert: Option<PathBuf>,
    /// `tls_key`, with `tls_cert`.
    pub tls_key: Option<PathBuf>,
    /// `token_file`.
    pub token_file: Option<PathBuf>,
    /// `kubeconfig`.
    pub kubeconfig: Option<PathBuf>,
    /// `insecure_http`.
    pub insecure_http: bool,
    /// `[[pod]]`; empty: one pod `host`.
    pub pods: Vec<PodSpec>,
}
impl Config {
    /// Reads and validates a TOML file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> { unimplemented!() }
    /// The same from text; `path` is for messages.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> { unimplemented!() }
    /// Checks the whole, starts the targets and yields what [`crate::Server::bind`] takes. Needs a tokio runtime.
    pub async fn into_options(self) -> Result<ServerOptions, ConfigError> { unimplemented!() }
}
/// Names the file, the line where there is one, and what is wrong.
#[derive(Debug)]
pub struct ConfigError(());
impl std::fmt::Display for ConfigError { fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { unimplemented!() } }
impl std::error::Error for ConfigError {}
/// `[[pod]]`
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PodSpec {
    /// DNS-1123 label.
    pub name: String,
    /// Default `default`.
    pub namespace: String,
    /// Shown by `kubectl get pods --show-labels`, matched by `-l`.
    pub labels: BTreeMap<String, String>,
    /// At least one.
    pub containers: Vec<ContainerSpec>,
}
impl PodSpec {
    /// Pod `name` in namespace `default` without containers.
    pub fn new(name: impl Into<String>) -> Self { unimplemented!() }
    /// The pod `host`: one container `host` that runs commands on this machine.
    pub fn host(name: impl Into<String>) -> Self { unimplemented!() }
    /// One container, named after the pod, that supervises `command`.
    pub fn process(name: impl Into<String>, command: Vec<String>) -> Self { unimplemented!() }
}
/// `[[pod.container]]`
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// DNS-1123 label.
    pub name: String,
    /// host or process.
    pub kind: Kind,
    /// Required for `process`, refused for `host`.
    pub command: Vec<String>,
    /// The main process has a terminal (attach -it).
    pub tty: bool,
    /// The main process has a stdin that attach -i can write to.
    pub stdin: bool,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: Option<PathBuf>,
    /// Restart policy of a process: `never` (default), `on-failure`, `always`.
    pub restart: Restart,
    /// Bytes of log history kept.
    pub log_bytes: Option<usize>,
}
impl ContainerSpec {
    /// With defaults.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self { unimplemented!() }
}
/// When a supervised command is started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Restart { /// never
 #[default] Never, /// exit code other than 0
 OnFailure, /// every time
 Always }
/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind { /// Runs commands on this machine.
 Host, /// A supervised command.
 Process }
