//! Pods as an operator declares them: plain values that can be checked and compared before anything is started.

use super::ForwardSpec;
use crate::{
    Container, Pod, PodError,
    pod::name,
    target::{HostTarget, ProcessSpec, ProcessTarget, Restart, SessionOptions, Target},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
};
use thiserror::Error;

/// One pod.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PodSpec {
    /// RFC 1123 name, unique in its namespace.
    pub name: String,
    /// Default `default`.
    pub namespace: String,
    /// Shown by `kubectl get pods --show-labels`, matched by `-l`.
    pub labels: BTreeMap<String, String>,
    /// At least one. The first is the one that kubectl takes when none is named.
    pub containers: Vec<ContainerSpec>,
    /// What port-forward reaches.
    pub forward: ForwardSpec,
}

impl PodSpec {
    /// A pod in namespace `default`, without labels and containers.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: "default".to_owned(),
            labels: BTreeMap::new(),
            containers: Vec::new(),
            forward: ForwardSpec::default(),
        }
    }

    /// A pod with one container, named like it, that runs commands on this machine.
    pub fn host(name: impl Into<String>) -> Self {
        let mut pod = Self::new(name);
        pod.containers.push(ContainerSpec::new(pod.name.clone(), Kind::Host));
        pod
    }

    /// A pod with one container, named like it, that supervises `command`: program and arguments.
    pub fn process(name: impl Into<String>, command: Vec<String>) -> Self {
        let mut pod = Self::new(name);
        let mut container = ContainerSpec::new(pod.name.clone(), Kind::Process);
        container.command = command;
        pod.containers.push(container);
        pod
    }

    /// Whether it can be built.
    ///
    /// # Errors
    /// What is wrong first.
    pub fn check(&self) -> Result<(), SpecError> {
        name::check_subdomain("pod name", &self.name)?;
        name::check_label("namespace", &self.namespace)?;
        self.labels.iter().try_for_each(|(key, value)| name::check_pair(key, value))?;
        if self.containers.is_empty() {
            return Err(PodError::NoContainer { pod: self.name.clone() }.into());
        }
        let mut names = BTreeSet::new();
        for container in &self.containers {
            container.check()?;
            if !names.insert(&container.name) {
                let (pod, container) = (self.name.clone(), container.name.clone());
                return Err(PodError::DuplicateContainer { pod, container }.into());
            }
        }
        Ok(())
    }

    /// Makes the pod and starts its commands. Must be called on a checked spec, inside a tokio runtime.
    pub(super) fn build(&self, session: &SessionOptions) -> Pod {
        let mut pod = Pod::new(&self.name).namespace(&self.namespace).forward(self.forward.build());
        for (key, value) in &self.labels {
            pod = pod.label(key, value);
        }
        self.containers.iter().fold(pod, |pod, container| pod.container(container.build(&self.name, session)))
    }
}

/// No two pods of the same name in the same namespace.
pub(super) fn check_unique(pods: &[PodSpec]) -> Result<(), PodError> {
    let mut names = BTreeSet::new();
    match pods.iter().find(|pod| !names.insert((&pod.namespace, &pod.name))) {
        Some(pod) => Err(PodError::DuplicatePod { namespace: pod.namespace.clone(), name: pod.name.clone() }),
        None => Ok(()),
    }
}

/// What a container is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// Each exec is a new command on this machine; there is no main process.
    Host,
    /// One supervised command, with attach and logs.
    Process,
}

/// One container. Fields that make sense for a supervised command only are refused on others.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ContainerSpec {
    /// RFC 1123 label, unique in its pod.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Program and arguments; `process` only, and required there. No shell is involved.
    pub command: Vec<String>,
    /// The main process has a terminal, so that `kubectl attach -it` can join it; `process` only.
    pub tty: bool,
    /// The main process has a stdin that `kubectl attach -i` can write to; `process` only.
    pub stdin: bool,
    /// When the command is started again; `process` only. Default: never.
    pub restart: Restart,
    /// Bytes of log history that are kept; `process` only. Default: [`crate::target::DEFAULT_HISTORY`].
    pub log_bytes: Option<usize>,
    /// Added to the environment of the main process and of every exec.
    pub env: BTreeMap<String, String>,
    /// Working directory of the main process and of every exec; default: the server's.
    pub cwd: Option<PathBuf>,
}

impl ContainerSpec {
    /// A container with defaults for all the rest.
    pub fn new(name: impl Into<String>, kind: Kind) -> Self {
        Self {
            name: name.into(),
            kind,
            command: Vec::new(),
            tty: false,
            stdin: false,
            restart: Restart::Never,
            log_bytes: None,
            env: BTreeMap::new(),
            cwd: None,
        }
    }

    fn check(&self) -> Result<(), SpecError> {
        name::check_label("container name", &self.name)?;
        let fail = |fault| Err(SpecError::Container { container: self.name.clone(), fault });
        if let Some(key) = self.env.keys().find(|key| key.is_empty() || key.contains(['=', '\0'])) {
            return fail(ContainerFault::Variable(key.clone()));
        }
        let nul = |text: &String| text.contains('\0');
        if self.env.values().any(nul) || self.command.iter().any(nul) {
            return fail(ContainerFault::Nul);
        }
        match self.kind {
            Kind::Process => match self.command.first() {
                None => fail(ContainerFault::NoCommand),
                Some(program) if program.is_empty() => fail(ContainerFault::NoCommand),
                Some(_) => Ok(()),
            },
            Kind::Host => {
                let misplaced = [
                    ("command", !self.command.is_empty()),
                    ("tty", self.tty),
                    ("stdin", self.stdin),
                    ("restart", self.restart != Restart::Never),
                    ("log_bytes", self.log_bytes.is_some()),
                ];
                match misplaced.into_iter().find(|(_, set)| *set) {
                    Some((field, _)) => fail(ContainerFault::OnlyForProcess(field)),
                    None => Ok(()),
                }
            }
        }
    }

    fn build(&self, pod: &str, session: &SessionOptions) -> Container {
        let mut session = session.clone();
        session.command.env.extend(self.env.iter().map(|(key, value)| (key.clone(), value.clone())));
        if self.cwd.is_some() {
            session.command.cwd.clone_from(&self.cwd);
        }
        let target: Arc<dyn Target> = match self.kind {
            Kind::Host => Arc::new(HostTarget::new(pod, &self.name, session)),
            Kind::Process => {
                let mut spec = ProcessSpec::new(pod, &self.name, self.command.clone());
                spec.session = session;
                spec.tty = self.tty;
                spec.stdin = self.stdin;
                spec.restart = self.restart;
                if let Some(bytes) = self.log_bytes {
                    spec.history = bytes;
                }
                Arc::new(ProcessTarget::start(spec))
            }
        };
        let image = match (self.kind, self.command.first()) {
            (Kind::Process, Some(program)) => program.as_str(),
            _ => "host",
        };
        Container::new(&self.name, target)
            .image(image)
            .command(self.command.clone())
            .tty(self.tty)
            .stdin(self.stdin)
    }
}

/// What is wrong with a declared pod. The text names the pod or the container.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SpecError {
    /// A name, a label, or a duplicate.
    #[error(transparent)]
    Pod(#[from] PodError),
    /// A container's fields do not go together.
    #[error("container {container:?}: {fault}")]
    Container {
        /// Which one.
        container: String,
        /// Why.
        fault: ContainerFault,
    },
}

/// What is wrong with a declared container.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ContainerFault {
    /// A process without a program.
    #[error("kind \"process\" needs a command: program and arguments")]
    NoCommand,
    /// A field that a host has no use for.
    #[error("{0} is for kind \"process\" only")]
    OnlyForProcess(&'static str),
    /// The name of an environment variable.
    #[error("{0:?} cannot be the name of an environment variable")]
    Variable(String),
    /// A NUL byte, which no argument or variable can hold.
    #[error("a NUL byte in the command or the environment")]
    Nul,
}
