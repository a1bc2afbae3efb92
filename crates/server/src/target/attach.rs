//! One client attached to a running process: its part of the output, its input, its terminal size.

use std::io;

use wsstream::remotecommand::Streams;

use super::{
    pump::{Sink, Source, aside},
    queue::Queue,
    run::Run,
};

/// What a client may do to the process besides watching it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Rights<'a> {
    /// For log lines.
    pub(crate) container: &'a str,
    /// The end of this client's input closes the process's stdin (`stdinOnce` of a container).
    pub(crate) stdin_once: bool,
}

/// Relays until the process has ended and this client has been handed all of its output, or until the client leaves.
/// The process is not affected by that, nor by the future being dropped.
///
/// The end of the client's input does not end the attachment: the answers to it are still to come.
pub(crate) async fn attach(run: &Run, rights: Rights<'_>, streams: Streams) {
    let queues = run.attach(streams.stdout.is_some(), streams.stderr.is_some());
    let outputs = async {
        let stdout = forward(queues.stdout.as_deref(), streams.stdout);
        let stderr = forward(queues.stderr.as_deref(), streams.stderr);
        match tokio::try_join!(stdout, stderr) {
            // A client that asked for no output at all has nothing to wait for but this.
            Ok(_) => run.ended.cancelled().await,
            Err(error) => tracing::debug!(%error, "an attached client takes no more output"),
        }
    };
    let feed = aside(async {
        if let Some(from) = streams.stdin {
            input(run, rights, from).await;
        }
    });
    let sizes = aside(async {
        if let Some(mut sizes) = streams.resize {
            while let Some(size) = sizes.next().await {
                run.resize(size);
            }
        }
    });
    tokio::select! {
        () = outputs => {}
        (never, _) = async { tokio::join!(feed, sizes) } => match never {},
        _ = streams.disconnect.wait() => {}
    }
}

async fn forward(from: Option<&Queue>, to: Option<impl Sink>) -> io::Result<()> {
    if let (Some(from), Some(mut to)) = (from, to) {
        while let Some(data) = from.pop().await {
            to.send(data).await?;
        }
    }
    Ok(())
}

async fn input(run: &Run, rights: Rights<'_>, mut from: impl Source) {
    let mut taken = run.takes_input();
    if !taken {
        // Clients look at the pod first and do not ask; one that does all the same is answered as by the kubelet.
        let container = rights.container;
        tracing::warn!(
            container,
            "a client sends input to a container that was declared without stdin; it is discarded"
        );
    }
    loop {
        match from.chunk().await {
            Ok(Some(data)) => taken = taken && run.send_input(data).await,
            Ok(None) => {
                if rights.stdin_once {
                    run.end_input().await;
                }
                return;
            }
            Err(error) => {
                tracing::debug!(%error, "the input of an attached client broke off");
                return;
            }
        }
    }
}
