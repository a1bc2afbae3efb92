//! From a path to a method, which is what generated code would do.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use prost::Message;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::{Code, Request, Response, Status};
use tonic_prost::ProstCodec;
use tower::Service;

use super::Cri;
use super::messages::Empty;

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

/// Serves one method: a message in, a message out.
fn unary<I, O, F>(request: http::Request<Body>, method: impl Fn(I) -> F + Send + 'static) -> Answer
where
    I: Message + Default + 'static,
    O: Message + Default + 'static,
    F: Future<Output = Result<O, Status>> + Send + 'static,
{
    let method = tower::service_fn(move |request: Request<I>| {
        let answer = method(request.into_inner());
        async move { answer.await.map(Response::new) }
    });
    Box::pin(async move { Ok(Grpc::new(ProstCodec::default()).unary(method, request).await) })
}

fn unimplemented(path: &str) -> Answer {
    let status = Status::new(Code::Unimplemented, format!("this runtime does not know {path}"));
    Box::pin(std::future::ready(Ok(status.into_http())))
}

impl NamedService for Cri {
    const NAME: &'static str = "runtime.v1.RuntimeService";
}

impl Service<http::Request<Body>> for Cri {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let path = request.uri().path().to_owned();
        let cri = self.clone();
        /// The methods do not wait, but for one.
        macro_rules! ready {
            ($method:ident) => {
                unary(request, move |message| std::future::ready(cri.$method(message)))
            };
        }
        match path.rsplit('/').next().unwrap_or_default() {
            "Version" => ready!(version),
            "Status" => ready!(status),
            "ListContainers" => ready!(list_containers),
            "ContainerStatus" => ready!(container_status),
            "ListPodSandbox" => ready!(list_pod_sandbox),
            "PodSandboxStatus" => ready!(pod_sandbox_status),
            "Exec" => ready!(exec),
            "Attach" => ready!(attach),
            "PortForward" => ready!(port_forward),
            "ExecSync" => unary(request, move |message| {
                let cri = cri.clone();
                async move { cri.exec_sync(message).await }
            }),
            _ => unimplemented(&path),
        }
    }
}

/// `runtime.v1.ImageService`, as far as crictl asks whether there is one.
#[derive(Debug, Clone, Copy)]
pub struct Images;

impl NamedService for Images {
    const NAME: &'static str = "runtime.v1.ImageService";
}

impl Service<http::Request<Body>> for Images {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        match request.uri().path().rsplit('/').next() {
            Some("ImageFsInfo" | "ListImages") => unary(request, |_: Empty| std::future::ready(Ok(Empty {}))),
            _ => unimplemented(request.uri().path()),
        }
    }
}
