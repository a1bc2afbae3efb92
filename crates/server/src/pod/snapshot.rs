//! What a pod looked like at one moment: the unit that lists, tables and watch events are rendered from, so that all of
//! them agree.

use super::Pod;
use crate::target::{ContainerState, Terminated};
use jiff::Timestamp;
use std::{collections::BTreeMap, fmt};

/// A pod's phase, as Kubernetes computes it from its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// A container has not started yet.
    Pending,
    /// At least one container runs or will be started again.
    Running,
    /// All containers have ended with exit code 0 and will not be started again.
    Succeeded,
    /// All containers have ended, at least one of them with another exit code, and will not be started again.
    Failed,
}

impl Phase {
    /// Nothing of the pod will ever run again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }

    /// The word that the API and kubectl use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    fn of(containers: &[ContainerSnapshot]) -> Self {
        let (mut failed, mut never_ran) = (false, false);
        for container in containers {
            match &container.state {
                ContainerState::Running { .. } => return Self::Running,
                // It ran and will run again: the pod as a whole has begun.
                ContainerState::Waiting { .. } if container.last_run.is_some() => return Self::Running,
                ContainerState::Waiting { .. } => never_ran = true,
                ContainerState::Terminated(end) => failed |= end.exit_code != 0,
            }
        }
        match (never_ran, failed) {
            (true, _) => Self::Pending,
            (false, true) => Self::Failed,
            (false, false) => Self::Succeeded,
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// One container at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ContainerSnapshot {
    pub(crate) name: String,
    pub(crate) image: String,
    pub(crate) command: Vec<String>,
    pub(crate) tty: bool,
    pub(crate) stdin: bool,
    pub(crate) state: ContainerState,
    pub(crate) restarts: u32,
    pub(crate) last_run: Option<Terminated>,
}

/// One pod at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PodSnapshot {
    pub(crate) name: String,
    pub(crate) namespace: String,
    pub(crate) uid: String,
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) node: String,
    pub(crate) created: Timestamp,
    pub(crate) phase: Phase,
    pub(crate) containers: Vec<ContainerSnapshot>,
    pub(crate) resource_version: u64,
}

impl PodSnapshot {
    pub(crate) fn take(pod: &Pod, resource_version: u64) -> Self {
        let containers: Vec<_> = pod
            .containers
            .iter()
            .map(|container| ContainerSnapshot {
                name: container.name.clone(),
                image: container.image.clone(),
                command: container.command.clone(),
                tty: container.tty,
                stdin: container.stdin,
                state: container.target.state(),
                restarts: container.target.restarts(),
                last_run: container.target.last_run(),
            })
            .collect();
        Self {
            name: pod.name.clone(),
            namespace: pod.namespace.clone(),
            uid: pod.uid(),
            labels: pod.labels.clone(),
            node: pod.node.clone(),
            created: pod.created,
            phase: Phase::of(&containers),
            containers,
            resource_version,
        }
    }

    /// The same but for the version: nothing that a client could see has changed.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        self.phase == other.phase && self.containers == other.containers
    }

    pub(crate) fn ready(&self) -> usize {
        self.containers.iter().filter(|c| c.state.is_running()).count()
    }

    pub(crate) fn restarts(&self) -> u64 {
        self.containers.iter().map(|c| u64::from(c.restarts)).sum()
    }

    /// The STATUS column of `kubectl get pods`: the reason of the last container that has one, else the phase; a pod
    /// whose other containers still run is `Running`, not `Completed` (upstream's printer does the same).
    pub(crate) fn status_word(&self) -> String {
        let reason = self.containers.iter().find_map(|container| match &container.state {
            ContainerState::Running { .. } => None,
            ContainerState::Waiting { reason, .. } => Some(reason.clone()),
            ContainerState::Terminated(end) if !end.reason.is_empty() => Some(end.reason.clone()),
            ContainerState::Terminated(end) => Some(format!("ExitCode:{}", end.exit_code)),
        });
        match reason {
            Some(reason) if reason == "Completed" && self.ready() > 0 => Phase::Running.to_string(),
            Some(reason) if !reason.is_empty() => reason,
            _ => self.phase.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(state: ContainerState) -> ContainerSnapshot {
        ContainerSnapshot {
            name: "a".into(),
            image: String::new(),
            command: Vec::new(),
            tty: false,
            stdin: false,
            state,
            restarts: 0,
            last_run: None,
        }
    }

    fn waiting() -> ContainerSnapshot {
        container(ContainerState::Waiting { reason: "ContainerCreating".into(), message: String::new() })
    }

    fn running() -> ContainerSnapshot {
        container(ContainerState::Running { started_at: Timestamp::UNIX_EPOCH })
    }

    fn ended(code: u8) -> ContainerSnapshot {
        container(ContainerState::Terminated(Terminated::ended(code, None, Timestamp::UNIX_EPOCH)))
    }

    fn between_runs() -> ContainerSnapshot {
        let last_run = Some(Terminated::ended(1, None, Timestamp::UNIX_EPOCH));
        let reason = "CrashLoopBackOff".into();
        ContainerSnapshot {
            last_run,
            ..container(ContainerState::Waiting { reason, message: String::new() })
        }
    }

    #[test]
    fn phase_and_status_word_follow_upstream() {
        let cases = [
            (vec![waiting()], Phase::Pending, "ContainerCreating"),
            (vec![running()], Phase::Running, "Running"),
            (vec![running(), waiting()], Phase::Running, "ContainerCreating"),
            (vec![running(), ended(0)], Phase::Running, "Running"),
            (vec![running(), ended(3)], Phase::Running, "Error"),
            (vec![between_runs()], Phase::Running, "CrashLoopBackOff"),
            (vec![ended(0)], Phase::Succeeded, "Completed"),
            (vec![ended(0), ended(0)], Phase::Succeeded, "Completed"),
            (vec![ended(1), ended(0)], Phase::Failed, "Error"),
            (vec![ended(0), waiting()], Phase::Pending, "Completed"),
        ];
        for (containers, phase, word) in cases {
            let snapshot = PodSnapshot {
                name: "p".into(),
                namespace: "default".into(),
                uid: String::new(),
                labels: BTreeMap::new(),
                node: String::new(),
                created: Timestamp::UNIX_EPOCH,
                phase: Phase::of(&containers),
                containers,
                resource_version: 1,
            };
            assert_eq!(
                (snapshot.phase, snapshot.status_word().as_str()),
                (phase, word),
                "{:?}",
                snapshot.containers
            );
        }
    }
}
