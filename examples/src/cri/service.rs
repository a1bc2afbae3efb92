//! What is said over gRPC. The three methods at the end of [`Cri`] are what embedding the streaming server takes.

use std::time::Duration;

use tonic::{Code, Status};
use wsstream::cri::{self, Server};

use super::containers::{CONTAINER, Containers, POD};
use super::messages::{
    AttachRequest, Container, ContainerFilter, ContainerMetadata, ContainerStatus, ContainerStatusRequest,
    ContainerStatusResponse, ExecRequest, ExecSyncRequest, ExecSyncResponse, Image, ListContainersRequest,
    ListContainersResponse, ListPodSandboxRequest, ListPodSandboxResponse, PodSandbox, PodSandboxFilter,
    PodSandboxMetadata, PodSandboxStatus, PodSandboxStatusRequest, PodSandboxStatusResponse,
    PortForwardRequest, RuntimeCondition, RuntimeStatus, StatusRequest, StatusResponse, UrlResponse,
    VersionRequest, VersionResponse,
};

/// `CONTAINER_RUNNING`.
const RUNNING: i32 = 1;

/// `SANDBOX_READY`.
const READY: i32 = 0;

/// `runtime.v1.RuntimeService`. Clones are the same one.
#[derive(Clone)]
pub struct Cri {
    streaming: Server<Containers>,
}

fn image() -> Option<Image> {
    Some(Image { image: "host".into() })
}

fn metadata() -> Option<ContainerMetadata> {
    Some(ContainerMetadata { name: "app".into() })
}

fn pod_metadata() -> Option<PodSandboxMetadata> {
    Some(PodSandboxMetadata { name: "pod".into(), uid: "1".into(), namespace: "default".into() })
}

fn known(id: &str, only: &str, kind: &str) -> Result<(), Status> {
    // An empty one is for the streaming server to complain of.
    if id.is_empty() || id == only {
        return Ok(());
    }
    Err(Status::not_found(format!("no {kind} {id:?} here, only {only:?}")))
}

fn refused(error: &cri::Error) -> Status {
    Status::new(Code::from_i32(error.grpc_code()), error.to_string())
}

impl Cri {
    /// With the streaming server to which clients are sent.
    pub fn new(streaming: Server<Containers>) -> Self {
        Self { streaming }
    }

    pub(super) fn version(&self, _: VersionRequest) -> Result<VersionResponse, Status> {
        Ok(VersionResponse {
            version: "0.1.0".into(),
            runtime_name: "wsstream-example".into(),
            runtime_version: env!("CARGO_PKG_VERSION").into(),
            runtime_api_version: "v1".into(),
        })
    }

    pub(super) fn status(&self, _: StatusRequest) -> Result<StatusResponse, Status> {
        let condition = |kind: &str| RuntimeCondition { r#type: kind.into(), status: true };
        let conditions = vec![condition("RuntimeReady"), condition("NetworkReady")];
        Ok(StatusResponse { status: Some(RuntimeStatus { conditions }) })
    }

    pub(super) fn list_containers(
        &self,
        request: ListContainersRequest,
    ) -> Result<ListContainersResponse, Status> {
        let ContainerFilter { id, state, pod_sandbox_id } = request.filter.unwrap_or_default();
        let chosen = CONTAINER.starts_with(&id)
            && POD.starts_with(&pod_sandbox_id)
            && state.is_none_or(|state| state.state == RUNNING);
        let container = Container {
            id: CONTAINER.into(),
            pod_sandbox_id: POD.into(),
            metadata: metadata(),
            image: image(),
            image_ref: "host".into(),
            state: RUNNING,
            created_at: 1,
        };
        Ok(ListContainersResponse { containers: if chosen { vec![container] } else { vec![] } })
    }

    pub(super) fn container_status(
        &self,
        request: ContainerStatusRequest,
    ) -> Result<ContainerStatusResponse, Status> {
        let ContainerStatusRequest { container_id } = request;
        known(&container_id, CONTAINER, "container")?;
        let status = ContainerStatus {
            id: CONTAINER.into(),
            metadata: metadata(),
            state: RUNNING,
            created_at: 1,
            started_at: 1,
            image: image(),
            image_ref: "host".into(),
        };
        Ok(ContainerStatusResponse { status: Some(status) })
    }

    pub(super) fn list_pod_sandbox(
        &self,
        request: ListPodSandboxRequest,
    ) -> Result<ListPodSandboxResponse, Status> {
        let PodSandboxFilter { id, state } = request.filter.unwrap_or_default();
        let chosen = POD.starts_with(&id) && state.is_none_or(|state| state.state == READY);
        let pod = PodSandbox { id: POD.into(), metadata: pod_metadata(), state: READY, created_at: 1 };
        Ok(ListPodSandboxResponse { items: if chosen { vec![pod] } else { vec![] } })
    }

    pub(super) fn pod_sandbox_status(
        &self,
        request: PodSandboxStatusRequest,
    ) -> Result<PodSandboxStatusResponse, Status> {
        let PodSandboxStatusRequest { pod_sandbox_id } = request;
        known(&pod_sandbox_id, POD, "pod")?;
        let status =
            PodSandboxStatus { id: POD.into(), metadata: pod_metadata(), state: READY, created_at: 1 };
        Ok(PodSandboxStatusResponse { status: Some(status) })
    }

    pub(super) async fn exec_sync(&self, request: ExecSyncRequest) -> Result<ExecSyncResponse, Status> {
        known(&request.container_id, CONTAINER, "container")?;
        let limit = Duration::from_secs(request.timeout.try_into().unwrap_or_default());
        let done = self.streaming.runtime().exec_sync(&request.cmd, limit).await;
        let (stdout, stderr, exit_code) = done.map_err(|error| Status::unknown(error.to_string()))?;
        Ok(ExecSyncResponse { stdout, stderr, exit_code })
    }

    pub(super) fn exec(&self, request: ExecRequest) -> Result<UrlResponse, Status> {
        known(&request.container_id, CONTAINER, "container")?;
        let ExecRequest { container_id, cmd, tty, stdin, stdout, stderr } = request;
        let request = cri::ExecRequest { container_id, cmd, tty, stdin, stdout, stderr };
        Ok(UrlResponse { url: self.streaming.get_exec(request).map_err(|error| refused(&error))? })
    }

    pub(super) fn attach(&self, request: AttachRequest) -> Result<UrlResponse, Status> {
        known(&request.container_id, CONTAINER, "container")?;
        let AttachRequest { container_id, stdin, tty, stdout, stderr } = request;
        let request = cri::AttachRequest { container_id, stdin, tty, stdout, stderr };
        Ok(UrlResponse { url: self.streaming.get_attach(request).map_err(|error| refused(&error))? })
    }

    pub(super) fn port_forward(&self, request: PortForwardRequest) -> Result<UrlResponse, Status> {
        known(&request.pod_sandbox_id, POD, "pod")?;
        let PortForwardRequest { pod_sandbox_id, port } = request;
        let request = cri::PortForwardRequest { pod_sandbox_id, port };
        Ok(UrlResponse { url: self.streaming.get_port_forward(request).map_err(|error| refused(&error))? })
    }
}
