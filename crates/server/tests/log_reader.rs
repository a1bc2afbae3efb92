//! Followed logs whose client does not read: they end all the same, and their connections with them.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod server_support;

use bytes::Bytes;
use futures_util::{FutureExt as _, future::BoxFuture, stream};
use server_support::{Running, soon};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    sync::watch,
};
use wsstream::remotecommand::{ExitCode, Failure, Request, Streams};
use wsstream_server::{
    Container, Limits, Pod, Pods, TlsSource,
    target::{
        ContainerState, Ending, HostTarget, LogError, LogOptions, LogStream, SessionOptions, Target,
        Terminated,
    },
};

/// A host whose log has no end.
struct Endless(HostTarget);

impl Target for Endless {
    fn exec(
        &self,
        request: Request,
        streams: Streams,
        end: Ending,
    ) -> BoxFuture<'_, Result<ExitCode, Failure>> {
        self.0.exec(request, streams, end)
    }

    fn attach(&self, request: Request, streams: Streams) -> BoxFuture<'_, Result<(), Failure>> {
        self.0.attach(request, streams)
    }

    fn logs(&self, _options: LogOptions) -> BoxFuture<'_, Result<LogStream, LogError>> {
        let chunk = Bytes::from(vec![b'x'; 32 * 1024]);
        async { Ok(LogStream::new(stream::repeat_with(move || Ok(chunk.clone())))) }.boxed()
    }

    fn state(&self) -> ContainerState {
        self.0.state()
    }

    fn restarts(&self) -> u32 {
        0
    }

    fn last_run(&self) -> Option<Terminated> {
        None
    }

    fn subscribe(&self) -> watch::Receiver<ContainerState> {
        self.0.subscribe()
    }

    fn stop(&self, grace: Duration) -> BoxFuture<'_, ()> {
        self.0.stop(grace)
    }
}

const SHORT: Duration = Duration::from_millis(100);

/// A server, and a client that has asked for a log and reads nothing of it.
async fn unread(change: impl FnOnce(&mut Limits)) -> (Running, TcpStream) {
    let target = Endless(HostTarget::new("web", "web", SessionOptions::default()));
    let pods = Pods::new();
    pods.add(Pod::new("web").container(Container::new("web", Arc::new(target)))).unwrap();
    let server = Running::with(pods, |options| {
        options.tls = TlsSource::Insecure;
        (options.limits.end_grace, options.limits.farewell) = (SHORT, SHORT);
        change(&mut options.limits);
    })
    .await;
    let mut client = TcpStream::connect(server.address).await.unwrap();
    let request = format!(
        "GET /api/v1/namespaces/default/pods/web/log?follow=true HTTP/1.1\r\nHost: {}\r\n\
         Authorization: Bearer {}\r\n\r\n",
        server.address, server.token
    );
    client.write_all(request.as_bytes()).await.unwrap();
    (server, client)
}

/// Waits until the log has come to a halt, and says which session it is.
async fn halted(server: &Running) -> u64 {
    soon("a log that comes to a halt", async {
        let (mut before, mut same) = (0, 0);
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let list = server.api.sessions().list();
            let now = list.first().map_or(0, |info| info.bytes.output);
            same = if now > 0 && now == before { same + 1 } else { 0 };
            before = now;
            if same == 10 {
                return list[0].number;
            }
        }
    })
    .await
}

/// The session is over, and the client sees its connection break.
async fn over(server: &Running, mut client: TcpStream) {
    soon("the end of the session", async {
        while server.api.sessions().running() > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!(server.api.sessions().list(), []);
    let mut rest = Vec::new();
    let _ = soon("the end of the connection", client.read_to_end(&mut rest)).await;
    assert!(!rest.ends_with(b"0\r\n\r\n"), "a log that was cut must not look complete");
}

#[tokio::test]
async fn an_operator_ends_a_log_that_its_client_does_not_read() {
    let (server, client) = unread(|_| {}).await;
    let number = halted(&server).await;
    assert!(server.api.sessions().end(number, "enough"));
    over(&server, client).await;
}

#[tokio::test]
async fn the_longest_duration_ends_a_log_that_its_client_does_not_read() {
    let (server, client) = unread(|limits| limits.session_duration = Some(Duration::from_secs(1))).await;
    over(&server, client).await;
}

#[tokio::test]
async fn draining_without_a_limit_ends_a_log_that_its_client_does_not_read() {
    let (server, client) = unread(|_| {}).await;
    halted(&server).await;
    server.api.sessions().close();
    soon("the end of draining", server.api.sessions().idle()).await;
    over(&server, client).await;
}
