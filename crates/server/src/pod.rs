//! Under construction.
use std::sync::Arc;
/// A named group of containers.
#[derive(Debug)]
pub struct Pod(());
/// One container of a pod.
#[derive(Debug)]
pub struct Container(());
/// The registry: cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Pods(());
impl Pods {
    /// Adds; refuses a duplicate.
    pub fn add(&self, pod: Pod) -> Result<(), PodError> { unimplemented!() }
    /// Removes.
    pub fn remove(&self, namespace: &str, name: &str) -> bool { unimplemented!() }
}
/// A name that is not valid, or taken.
#[derive(Debug)]
pub struct PodError(());
