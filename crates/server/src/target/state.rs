//! The life of a container as Kubernetes words it, so that a pod list can show it without translation.

use jiff::Timestamp;

/// What the main process of a container is doing (`containerStatuses[].state` of a pod).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ContainerState {
    /// Not running yet, or waiting to be started again.
    Waiting {
        /// One word for machines, such as `ContainerCreating` or `CrashLoopBackOff`.
        reason: String,
        /// A sentence for people; may be empty.
        message: String,
    },
    /// Running.
    Running {
        /// When the current run began.
        started_at: Timestamp,
    },
    /// Ended, and not to be started again.
    Terminated(Terminated),
}

impl ContainerState {
    /// Whether commands can be run and clients can attach.
    #[must_use]
    pub fn is_running(&self) -> bool {
        matches!(self, Self::Running { .. })
    }

    /// One clause for error texts: `is running`, `is waiting (CrashLoopBackOff)`, `has ended (exit code 3)`.
    pub(crate) fn clause(&self) -> String {
        match self {
            Self::Waiting { reason, message } if message.is_empty() => format!("is waiting ({reason})"),
            Self::Waiting { reason, message } => format!("is waiting ({reason}: {message})"),
            Self::Running { .. } => "is running".to_owned(),
            Self::Terminated(end) => format!("has ended ({end})"),
        }
    }
}

/// How a run of a main process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Terminated {
    /// 0 to 255; a process killed by signal n has 128 + n.
    pub exit_code: u8,
    /// The signal that ended the process, if one did.
    pub signal: Option<i32>,
    /// One word for machines: `Completed` (exit code 0), `Error`, or `StartError` when it never ran.
    pub reason: String,
    /// A sentence for people; empty unless the process never ran.
    pub message: String,
    /// When the run began.
    pub started_at: Timestamp,
    /// When the process had exited and its output had been read.
    pub finished_at: Timestamp,
}

impl Terminated {
    /// A run that took place: the reason follows from the exit code, as the kubelet words it.
    pub(crate) fn ended(exit_code: u8, signal: Option<i32>, started_at: Timestamp) -> Self {
        let reason = if exit_code == 0 { "Completed" } else { "Error" };
        Self {
            exit_code,
            signal,
            reason: reason.to_owned(),
            message: String::new(),
            started_at,
            finished_at: Timestamp::now(),
        }
    }

    /// A run that could not begin. 128 is what containerd reports for a container that failed to start.
    pub(crate) fn never_started(message: String) -> Self {
        let now = Timestamp::now();
        Self {
            exit_code: 128,
            signal: None,
            reason: "StartError".to_owned(),
            message,
            started_at: now,
            finished_at: now,
        }
    }
}

impl std::fmt::Display for Terminated {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.message.is_empty() {
            write!(f, "exit code {}", self.exit_code)
        } else {
            write!(f, "{}: {}", self.reason, self.message)
        }
    }
}
