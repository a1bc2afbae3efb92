//! The history of changes that watches read. A watcher holds a position, not a queue: a slow one costs nothing, and one
//! that is further behind than the history reaches is told so instead of missing a change.

use super::PodSnapshot;
use std::{collections::VecDeque, sync::Arc};

/// What happened to a pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Modified,
    Deleted,
}

/// One change. The version is that of `now`, also for a deletion.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    pub(crate) kind: ChangeKind,
    pub(crate) now: Arc<PodSnapshot>,
    /// The pod before a modification: a change of phase may bring it into a selection or take it out.
    pub(crate) before: Option<Arc<PodSnapshot>>,
}

impl Change {
    pub(crate) fn version(&self) -> u64 {
        self.now.resource_version
    }
}

/// A position from before the history begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooOld {
    pub(crate) position: u64,
    pub(crate) oldest: u64,
}

/// Changes in order of their versions, at most `capacity` of them.
#[derive(Debug)]
pub(crate) struct Feed {
    changes: VecDeque<Change>,
    capacity: usize,
    /// Everything after this version is in `changes`.
    complete_since: u64,
}

impl Feed {
    pub(crate) fn new(version: u64, capacity: usize) -> Self {
        Self { changes: VecDeque::new(), capacity, complete_since: version }
    }

    pub(crate) fn push(&mut self, change: Change) {
        if self.changes.len() == self.capacity
            && let Some(dropped) = self.changes.pop_front()
        {
            self.complete_since = dropped.version();
        }
        self.changes.push_back(change);
    }

    /// Up to `limit` changes after `position`.
    pub(crate) fn after(&self, position: u64, limit: usize) -> Result<Vec<Change>, TooOld> {
        if position < self.complete_since {
            return Err(TooOld { position, oldest: self.complete_since });
        }
        let first = self.changes.partition_point(|change| change.version() <= position);
        Ok(self.changes.iter().skip(first).take(limit).cloned().collect())
    }
}
