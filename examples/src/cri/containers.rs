//! The one container. Its main process is any command; an exec runs beside it, on this machine.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::process::Command;
use wsstream::cri::Runtime;
use wsstream::portforward::{ForwardError, PortForwarder as _, PortStream, Routes};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};
use wsstream_server::target::{Ending, ProcessSpec, ProcessTarget, Target as _};

/// The id of the pod's sandbox.
pub(super) const POD: &str = "pod1";

/// The id of its container.
pub(super) const CONTAINER: &str = "app1";

/// Runs what is asked for in the one container, and reaches every port of this machine's loopback.
#[derive(Clone)]
pub struct Containers {
    process: std::sync::Arc<ProcessTarget>,
}

impl Containers {
    /// Starts the main process.
    pub fn start(command: Vec<String>) -> Self {
        let mut spec = ProcessSpec::new(POD, CONTAINER, command);
        spec.stdin = true;
        Self { process: ProcessTarget::start(spec).into() }
    }

    /// Runs a command to its end: its outputs, of which 16 MiB each are kept, as the CRI has it, and its exit code.
    ///
    /// # Errors
    ///
    /// It cannot be run, or takes too long, at which it is killed.
    pub async fn exec_sync(
        &self,
        command: &[String],
        limit: Duration,
    ) -> io::Result<(Vec<u8>, Vec<u8>, i32)> {
        let [program, arguments @ ..] = command else { return Err(io::ErrorKind::InvalidInput.into()) };
        let mut child = Command::new(program)
            .args(arguments)
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
        let work = async { tokio::try_join!(keep(stdout), keep(stderr), child.wait()) };
        let (stdout, stderr, status) = match limit {
            Duration::ZERO => work.await?,
            limit => tokio::time::timeout(limit, work).await??,
        };
        Ok((stdout, stderr, status.code().unwrap_or(137)))
    }
}

async fn keep(output: Option<impl AsyncRead + Unpin>) -> io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    let Some(mut output) = output else { return Ok(kept) };
    (&mut output).take(16 << 20).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut output, &mut tokio::io::sink()).await?;
    Ok(kept)
}

impl Runtime for Containers {
    async fn exec(&self, _: &str, request: Request, streams: Streams) -> Result<ExitCode, Failure> {
        self.process.exec(request, streams, Ending::never()).await
    }

    async fn attach(&self, _: &str, request: Request, streams: Streams) -> Result<(), Failure> {
        self.process.attach(request, streams).await
    }

    async fn forward(&self, _: &str, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        Routes::loopback().forward(port, stream).await
    }
}
