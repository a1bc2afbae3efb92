//! Whether the server should get new work. A process that lives (`/livez`) may have a reason to be left alone: it is
//! draining, or something that it must not work without has failed. Each reason is a named check that its owner sets.

use std::{
    fmt,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

/// The checks behind `/readyz`. Clones are handles to the same set.
///
/// ```
/// # use wsstream_server::Readiness;
/// let readiness = Readiness::default();
/// let disk = readiness.check("disk");
/// disk.set(false);
/// assert_eq!(readiness.failing(), ["disk"]);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    checks: Arc<Mutex<Vec<Check>>>,
}

impl Readiness {
    /// The check of this name, passing if it is new. Names are shown to everybody who can reach the server: a word for
    /// what is checked, not why it fails.
    pub fn check(&self, name: &'static str) -> Check {
        let mut checks = self.checks.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(check) = checks.iter().find(|check| check.name == name) {
            return check.clone();
        }
        let check = Check { name, passes: Arc::new(AtomicBool::new(true)) };
        checks.push(check.clone());
        check
    }

    /// All checks, in the order in which they were made.
    pub fn checks(&self) -> Vec<Check> {
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The names of those that fail; empty: the server is ready.
    pub fn failing(&self) -> Vec<&'static str> {
        self.checks().into_iter().filter(|check| !check.passes()).map(|check| check.name).collect()
    }
}

/// One reason to be ready or not. Clones are handles to the same one.
#[derive(Clone)]
pub struct Check {
    name: &'static str,
    passes: Arc<AtomicBool>,
}

impl Check {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it passes.
    pub fn passes(&self) -> bool {
        self.passes.load(Ordering::Relaxed)
    }

    /// Says whether it passes from now on. One store: cheap enough to be called for every line that is written.
    pub fn set(&self, passes: bool) {
        self.passes.store(passes, Ordering::Relaxed);
    }
}

impl fmt::Debug for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Check").field("name", &self.name).field("passes", &self.passes()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_check_is_made_once_and_set_through_any_handle() {
        let readiness = Readiness::default();
        let (first, second) = (readiness.check("audit"), readiness.clone().check("audit"));
        assert_eq!(readiness.checks().len(), 1);
        first.set(false);
        assert!(!second.passes());
        assert_eq!(readiness.failing(), ["audit"]);
        second.set(true);
        assert!(readiness.failing().is_empty());
    }
}
