//! The set of pods that a server offers. Every change has a version, as in Kubernetes, so that a client can list once
//! and then watch without missing anything.

use super::{Change, ChangeKind, Pod, PodError, PodSnapshot, TooOld, feed::Feed};
use crate::limits::WATCH_HISTORY;
use futures_util::future::join_all;
use jiff::Timestamp;
use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};
use tokio::{runtime::Handle, sync::watch};
use tokio_util::task::AbortOnDropHandle;

/// How many changes a watcher takes at a time; the rest stays in the history.
const BATCH: usize = 64;

/// The registry: cheap to clone, all clones are the same one. Pods can come and go while the server runs.
///
/// Each container is watched by one task that ends when its pod is removed or the last clone is dropped.
#[derive(Clone)]
pub struct Pods {
    shared: Arc<Shared>,
}

struct Shared {
    /// Held for short synchronous sections only.
    state: Mutex<State>,
    /// The newest version, for watchers to wait on.
    newest: watch::Sender<u64>,
}

struct State {
    version: u64,
    pods: BTreeMap<Key, Entry>,
    feed: Feed,
}

/// Namespace, then name: the order of lists.
type Key = (String, String);

struct Entry {
    pod: Arc<Pod>,
    snapshot: Arc<PodSnapshot>,
    /// Dropped with the entry, which ends the tasks.
    _watchers: Vec<AbortOnDropHandle<()>>,
}

impl Default for Pods {
    fn default() -> Self {
        Self::new()
    }
}

impl Pods {
    /// An empty registry.
    pub fn new() -> Self {
        // Versions begin at the clock: those of an earlier run of the server are older than any of this one, so a
        // client that comes back after a restart is told to list again.
        let version = u64::try_from(Timestamp::now().as_millisecond()).unwrap_or(1);
        let state = State { version, pods: BTreeMap::new(), feed: Feed::new(version, WATCH_HISTORY) };
        let (newest, _) = watch::channel(version);
        Self { shared: Arc::new(Shared { state: Mutex::new(state), newest }) }
    }

    /// Adds a pod and begins to watch its containers.
    ///
    /// # Errors
    /// When a name is not valid or taken, or outside of a tokio runtime; then nothing has changed.
    pub fn add(&self, pod: Pod) -> Result<(), PodError> {
        pod.check()?;
        let runtime = Handle::try_current().map_err(|_| PodError::NoRuntime)?;
        let key = (pod.namespace.clone(), pod.name.clone());
        let mut state = self.shared.lock();
        if state.pods.contains_key(&key) {
            let (namespace, name) = key;
            return Err(PodError::DuplicatePod { namespace, name });
        }
        let pod = Arc::new(pod);
        // Subscribed before the snapshot is taken: a change in between is seen by the task.
        let watchers = pod
            .containers
            .iter()
            .map(|container| {
                let changes = container.target.subscribe();
                let task = follow(Arc::downgrade(&self.shared), Arc::downgrade(&pod), changes);
                AbortOnDropHandle::new(runtime.spawn(task))
            })
            .collect();
        let version = state.next();
        let snapshot = Arc::new(PodSnapshot::take(&pod, version));
        state.feed.push(Change { kind: ChangeKind::Added, now: snapshot.clone(), before: None });
        state.pods.insert(key, Entry { pod, snapshot, _watchers: watchers });
        drop(state);
        self.shared.announce(version);
        Ok(())
    }

    /// Removes a pod; `false` when there was none. Sessions in its containers go on until they end by themselves.
    pub fn remove(&self, namespace: &str, name: &str) -> bool {
        let mut state = self.shared.lock();
        let Some(entry) = state.pods.remove(&(namespace.to_owned(), name.to_owned())) else { return false };
        let version = state.next();
        let last = Arc::new(PodSnapshot { resource_version: version, ..(*entry.snapshot).clone() });
        state.feed.push(Change { kind: ChangeKind::Deleted, now: last, before: None });
        drop(state);
        // The targets may do work when they are dropped: outside of the lock.
        drop(entry);
        self.shared.announce(version);
        true
    }

    /// Ends the main processes of all containers for good, side by side: each is asked to end, and killed after `grace`.
    /// The pods stay listed. Cancel-safe: the ends go on without the waiting.
    pub async fn stop(&self, grace: Duration) {
        let pods: Vec<_> = self.shared.lock().pods.values().map(|entry| entry.pod.clone()).collect();
        let containers = pods.iter().flat_map(|pod| &pod.containers);
        join_all(containers.map(|container| container.target.stop(grace))).await;
    }

    /// How many pods there are.
    pub fn len(&self) -> usize {
        self.shared.lock().pods.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Namespace and name of each pod, in order.
    pub fn names(&self) -> Vec<(String, String)> {
        self.shared.lock().pods.keys().cloned().collect()
    }

    /// All pods, in order, and the version that a watch can begin from.
    pub(crate) fn list(&self) -> (Vec<Arc<PodSnapshot>>, u64) {
        let state = self.shared.lock();
        (state.pods.values().map(|entry| entry.snapshot.clone()).collect(), state.version)
    }

    /// One pod: what it is and how it looks.
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<(Arc<Pod>, Arc<PodSnapshot>)> {
        let state = self.shared.lock();
        let entry = state.pods.get(&(namespace.to_owned(), name.to_owned()))?;
        Some((entry.pod.clone(), entry.snapshot.clone()))
    }

    /// The namespaces: `default` and those that have pods, each with
    /// the time of its oldest pod.
    pub(crate) fn namespaces(&self) -> BTreeMap<String, Option<Timestamp>> {
        let mut all = BTreeMap::from([("default".to_owned(), None)]);
        for entry in self.shared.lock().pods.values() {
            let oldest = all.entry(entry.pod.namespace.clone()).or_insert(None);
            *oldest = Some(oldest.map_or(entry.pod.created, |t: Timestamp| t.min(entry.pod.created)));
        }
        all
    }

    /// The next changes after `position`; waits for one. Cancel-safe.
    pub(crate) async fn changes_after(&self, position: u64) -> Result<Vec<Change>, TooOld> {
        let mut newest = self.shared.newest.subscribe();
        loop {
            newest.mark_unchanged();
            let changes = self.shared.lock().feed.after(position, BATCH)?;
            if !changes.is_empty() {
                return Ok(changes);
            }
            if newest.changed().await.is_err() {
                // The sender lives as long as `self`.
                return Ok(Vec::new());
            }
        }
    }
}

impl fmt::Debug for Pods {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pods").field("names", &self.names()).finish()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No section below leaves the state half changed, so a panic in one does not spoil it for the others.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn announce(&self, version: u64) {
        self.newest.send_if_modified(|newest| {
            let newer = version > *newest;
            *newest = version.max(*newest);
            newer
        });
    }

    /// Looks at the pod again and records what has changed.
    fn refresh(&self, pod: &Pod) {
        let mut state = self.lock();
        let key = (pod.namespace.clone(), pod.name.clone());
        let version = state.version + 1;
        let Some(entry) = state.pods.get_mut(&key) else { return };
        // The name may have been taken over by another pod since.
        if !std::ptr::eq(Arc::as_ptr(&entry.pod), pod) {
            return;
        }
        let now = PodSnapshot::take(pod, version);
        if now.same_as(&entry.snapshot) {
            return;
        }
        let now = Arc::new(now);
        let before = Some(std::mem::replace(&mut entry.snapshot, now.clone()));
        state.version = version;
        state.feed.push(Change { kind: ChangeKind::Modified, now, before });
        drop(state);
        self.announce(version);
    }
}

impl State {
    fn next(&mut self) -> u64 {
        self.version += 1;
        self.version
    }
}

/// Follows one container until its state is final.
async fn follow(
    registry: Weak<Shared>,
    pod: Weak<Pod>,
    mut changes: watch::Receiver<crate::target::ContainerState>,
) {
    loop {
        let open = changes.changed().await.is_ok();
        // Weak, so that neither the registry nor the pod is kept alive by its own watcher.
        let (Some(registry), Some(pod)) = (registry.upgrade(), pod.upgrade()) else { return };
        registry.refresh(&pod);
        if !open {
            return;
        }
    }
}
