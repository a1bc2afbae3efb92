//! The library with one budget for all sessions, and a handler that reads nothing and writes without end: what a server holds
//! at most.

use anyhow::Result;
use tokio::net::TcpListener;
use wsstream::bytes::Bytes;
use wsstream::limits::{MemoryBudget, SHARED_BUFFER};
use wsstream::remotecommand::server::Options;
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};

const SIZE: usize = 32 << 10;

pub(super) async fn serve(listener: TcpListener) -> Result<()> {
    let shared = MemoryBudget::new(SHARED_BUFFER);
    let mut options = Options::default();
    options.limits.shared = shared.clone();
    options.spdy.shared = shared;
    loop {
        let (socket, _) = listener.accept().await?;
        // The kernel's buffers are not what is measured, and 20,000 large ones are more than it gives.
        super::small_buffers(&socket)?;
        let options = options.clone();
        super::answer_all(socket, move |request| super::accept_exec(request, Some(options.clone()), run));
    }
}

async fn run(request: Request, streams: Streams) -> Result<ExitCode, Failure> {
    let _unread = streams.stdin;
    if request.command == ["hold"] {
        streams.disconnect.wait().await;
    } else if let Some(mut stdout) = streams.stdout {
        // Each with memory of its own, as the output of a command has.
        while stdout.send(Bytes::from(vec![1; SIZE])).await.is_ok() {}
    }
    Err(Failure::internal("the client has gone"))
}
