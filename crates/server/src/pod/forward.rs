//! Where the ports of a pod lead. It belongs to the pod and not to a container: containers of a pod share its network.

use futures_util::{FutureExt as _, future::BoxFuture};
use std::{fmt, sync::Arc};
use wsstream::portforward::{ForwardError, PortForwarder, PortStream, Routes, server::Errors};

/// A [`PortForwarder`] of any kind.
trait AnyForwarder: Send + Sync {
    fn forward(&self, port: u16, stream: PortStream) -> BoxFuture<'_, Result<(), ForwardError>>;
}

impl<F: PortForwarder> AnyForwarder for F {
    fn forward(&self, port: u16, stream: PortStream) -> BoxFuture<'_, Result<(), ForwardError>> {
        PortForwarder::forward(self, port, stream).boxed()
    }
}

/// The ports of a pod.
#[derive(Clone)]
pub(crate) struct Ports {
    forwarder: Arc<dyn AnyForwarder>,
    /// What SPDY clients are told of a connection that failed.
    pub(crate) errors: Errors,
}

impl Ports {
    pub(super) fn new(forwarder: impl PortForwarder + 'static, errors: Errors) -> Self {
        Self { forwarder: Arc::new(forwarder), errors }
    }

    pub(crate) async fn forward(&self, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        self.forwarder.forward(port, stream).await
    }
}

/// None of them leads anywhere.
impl Default for Ports {
    fn default() -> Self {
        Self::new(Routes::none(), Errors::default())
    }
}

impl fmt::Debug for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ports").field("errors", &self.errors).finish_non_exhaustive()
    }
}
