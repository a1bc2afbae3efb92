//! Pods: the names under which an operator offers targets, in the shape that kubectl expects to find them.

mod feed;
mod forward;
pub(crate) mod name;
mod registry;
mod snapshot;

pub(crate) use feed::{Change, ChangeKind, TooOld};
pub(crate) use forward::Ports;
pub use registry::Pods;
pub use snapshot::Phase;
pub(crate) use snapshot::{ContainerSnapshot, PodSnapshot};

use crate::target::Target;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt, sync::Arc};
use thiserror::Error;
use wsstream::portforward::{PortForwarder, server::Errors};

/// Why a pod was refused. The text names the offending value.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PodError {
    /// A name that Kubernetes would not take either.
    #[error(
        "{what} {name:?} is not valid: use lower-case letters, digits and `-`, at most 63, beginning and ending with a letter or digit"
    )]
    Name {
        /// What is named.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A label that Kubernetes would not take either.
    #[error(
        "label {key:?} = {value:?} is not valid: use letters, digits, `-`, `_` and `.`, at most 63, beginning and ending with a letter or digit"
    )]
    Label {
        /// Its key.
        key: String,
        /// Its value.
        value: String,
    },
    /// There is a pod of this name.
    #[error("pod {name:?} exists already in namespace {namespace:?}")]
    DuplicatePod {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Two containers of one pod have the same name.
    #[error("pod {pod:?} has two containers named {container:?}")]
    DuplicateContainer {
        /// The pod.
        pod: String,
        /// The name.
        container: String,
    },
    /// A pod without containers.
    #[error("pod {pod:?} has no container")]
    NoContainer {
        /// The pod.
        pod: String,
    },
    /// [`Pods::add`] was called outside of a tokio runtime.
    #[error("pods are watched by a task: add them inside a tokio runtime")]
    NoRuntime,
}

/// A named group of containers. It is what an operator declares; its phase and the state of its containers are what the
/// targets report.
#[derive(Debug, Clone)]
pub struct Pod {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) node: String,
    pub(crate) created: Timestamp,
    pub(crate) containers: Vec<Container>,
    pub(crate) ports: Ports,
}

impl Pod {
    /// A pod in namespace `default`, on a node named like this machine, created now, without containers.
    /// Names are checked by [`Pods::add`].
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            namespace: "default".to_owned(),
            labels: BTreeMap::new(),
            node: crate::tls::host_name().unwrap_or_else(|| "localhost".to_owned()),
            created: Timestamp::now(),
            containers: Vec::new(),
            ports: Ports::default(),
        }
    }

    /// Puts the pod into another namespace. A namespace exists as long as it has pods.
    #[must_use]
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Adds or replaces a label.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.labels.insert(key.into(), value.into());
        self
    }

    /// Adds a container. The first one is the one that kubectl takes when none is named.
    #[must_use]
    pub fn container(mut self, container: Container) -> Self {
        self.containers.push(container);
        self
    }

    /// Where connections to the pod's ports lead, such as [`Routes::loopback`](wsstream::portforward::Routes::loopback).
    /// Without this they are refused.
    #[must_use]
    pub fn forward(mut self, forwarder: impl PortForwarder + 'static) -> Self {
        self.ports = Ports::new(forwarder, self.ports.errors);
        self
    }

    /// What SPDY clients are told of a connection that failed.
    #[must_use]
    pub fn forward_errors(mut self, errors: Errors) -> Self {
        self.ports.errors = errors;
        self
    }

    /// The same for the same namespace and name, also after a restart: clients that cache by uid are not confused.
    pub(crate) fn uid(&self) -> String {
        let digest = Sha256::new()
            .chain_update(b"wsstream pod\0")
            .chain_update(self.namespace.as_bytes())
            .chain_update([0])
            .chain_update(self.name.as_bytes())
            .finalize();
        let mut hex = String::with_capacity(36);
        for (index, byte) in digest.iter().take(16).enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                hex.push('-');
            }
            // RFC 9562: version 8 (our own making) and its variant.
            let byte = match index {
                6 => byte & 0x0f | 0x80,
                8 => byte & 0x3f | 0x80,
                _ => *byte,
            };
            hex.push_str(&format!("{byte:02x}"));
        }
        hex
    }

    fn check(&self) -> Result<(), PodError> {
        name::check_subdomain("pod name", &self.name)?;
        name::check_label("namespace", &self.namespace)?;
        self.labels.iter().try_for_each(|(key, value)| name::check_pair(key, value))?;
        if self.containers.is_empty() {
            return Err(PodError::NoContainer { pod: self.name.clone() });
        }
        for (index, container) in self.containers.iter().enumerate() {
            name::check_label("container name", &container.name)?;
            if self.containers.iter().take(index).any(|other| other.name == container.name) {
                let (pod, container) = (self.name.clone(), container.name.clone());
                return Err(PodError::DuplicateContainer { pod, container });
            }
        }
        Ok(())
    }
}

/// One container of a pod: a target and what the pod says about it.
#[derive(Clone)]
pub struct Container {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) target: Arc<dyn Target>,
}

impl Container {
    /// A container without terminal and stdin, with the image `host`.
    pub fn new(name: impl Into<String>, target: Arc<dyn Target>) -> Self {
        Self {
            name: name.into(),
            image: "host".to_owned(),
            command: Vec::new(),
            tty: false,
            stdin: false,
            target,
        }
    }

    /// What `kubectl describe` and `-o wide` show as its image; free text.
    #[must_use]
    pub fn image(mut self, image: impl Into<String>) -> Self {
        self.image = image.into();
        self
    }

    /// What the pod's spec shows as the command.
    #[must_use]
    pub fn command(mut self, command: Vec<String>) -> Self {
        self.command = command;
        self
    }

    /// The main process has a terminal: `kubectl attach -t` insists on seeing this in the spec.
    #[must_use]
    pub fn tty(mut self, tty: bool) -> Self {
        self.tty = tty;
        self
    }

    /// The main process has a stdin that can be attached to: `kubectl attach -i` insists on seeing this in the spec.
    #[must_use]
    pub fn stdin(mut self, stdin: bool) -> Self {
        self.stdin = stdin;
        self
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("tty", &self.tty)
            .field("stdin", &self.stdin)
            .field("state", &self.target.state())
            .finish_non_exhaustive()
    }
}
