//! What a container runtime implements.

use std::future::Future;
use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use wsstream_proto::status::Status;

use super::Error;
use crate::portforward::{ForwardError, PortForwarder, PortStream};
use crate::remotecommand::{Attacher, Executor, ExitCode, Failure, Request, Streams};

/// Runs, attaches and forwards. The duties are those of [`Executor`], [`Attacher`] and [`PortForwarder`], which
/// implementations can be handed on to.
pub trait Runtime: Send + Sync + 'static {
    /// Runs `request.command` in a container, as [`Executor::exec`] says.
    ///
    /// # Errors
    ///
    /// The command could not be run, or the container is gone: the URL is given out without asking for it.
    fn exec(
        &self,
        container_id: &str,
        request: Request,
        streams: Streams,
    ) -> impl Future<Output = Result<ExitCode, Failure>> + Send;

    /// Joins the main process of a container, as [`Attacher::attach`] says.
    ///
    /// # Errors
    ///
    /// There is nothing to attach to, or it failed.
    fn attach(
        &self,
        container_id: &str,
        request: Request,
        streams: Streams,
    ) -> impl Future<Output = Result<(), Failure>> + Send;

    /// Leads one connection to a port of a pod, as [`PortForwarder::forward`] says.
    ///
    /// # Errors
    ///
    /// The port cannot be reached or the connection broke.
    fn forward(
        &self,
        pod_sandbox_id: &str,
        port: u16,
        stream: PortStream,
    ) -> impl Future<Output = Result<(), ForwardError>> + Send;
}

/// A runtime and the container or sandbox that a session is about, until the server ends the session.
pub(super) struct Within<R> {
    pub(super) runtime: Arc<R>,
    pub(super) id: String,
    pub(super) ending: CancellationToken,
}

impl<R: Runtime> Within<R> {
    /// Drops a command that still runs when the server ends, and has its client told.
    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
        tokio::select! {
            biased;
            result = work => result,
            () = self.ending.cancelled() => {
                Err(Failure::status(Status::service_unavailable(Error::Unavailable.to_string())))
            }
        }
    }
}

impl<R: Runtime> Executor for Within<R> {
    async fn exec(&self, request: Request, streams: Streams) -> Result<ExitCode, Failure> {
        self.bounded(self.runtime.exec(&self.id, request, streams)).await
    }
}

impl<R: Runtime> Attacher for Within<R> {
    async fn attach(&self, request: Request, streams: Streams) -> Result<(), Failure> {
        self.bounded(self.runtime.attach(&self.id, request, streams)).await
    }
}

impl<R: Runtime> PortForwarder for Within<R> {
    async fn forward(&self, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        tokio::select! {
            biased;
            result = self.runtime.forward(&self.id, port, stream) => result,
            () = self.ending.cancelled() => Err(ForwardError::Other(Error::Unavailable.to_string())),
        }
    }
}
