//! What goes through the pipes of client programs.

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    process::ChildStdin,
    sync::Notify,
    time::sleep,
};
use wsstream_testing::chaos::{
    Checker, Script,
    script::{Input, Taking},
};

use super::client::GO;

/// Reads to the end as the script says; `heard` is told of everything that comes.
pub(super) async fn drain(
    mut from: impl AsyncRead + Unpin,
    mut checker: Checker,
    taking: Taking,
    heard: Option<&Notify>,
) -> Checker {
    let mut buffer = vec![0; 32 << 10];
    let mut rested = false;
    while let Ok(n @ 1..) = from.read(&mut buffer).await {
        checker.feed(buffer.get(..n).unwrap_or_default());
        if let Some(heard) = heard {
            heard.notify_one();
        }
        match taking {
            Taking::Slow(pause) => sleep(pause).await,
            Taking::Paused(pause) if !rested => {
                rested = true;
                sleep(pause).await;
            }
            Taking::Eager | Taking::Paused(_) => {}
        }
    }
    checker
}

/// Everything that comes.
pub(super) async fn collect(mut from: impl AsyncRead + Unpin) -> Vec<u8> {
    let mut all = Vec::new();
    let _ = from.read_to_end(&mut all).await;
    all
}

/// Writes what the script says.
pub(super) async fn feed(script: Script, mut stdin: ChildStdin, goes: bool) {
    if goes && stdin.write_all(GO).await.is_err() || !script.has_stdin() {
        return;
    }
    let content = script.content(0);
    let mut sent = 0;
    let mut stalled = script.stalled;
    while sent < script.stdin {
        if sent >= script.stdin / 2
            && let Some(rest) = stalled.take()
        {
            sleep(rest).await;
        }
        let length = (script.stdin - sent).min(3000);
        let part = content.bytes(sent, usize::try_from(length).unwrap_or(0));
        if stdin.write_all(&part).await.is_err() {
            return;
        }
        sent += length;
    }
    if script.input == Input::Flood {
        // A flood has no end of its own: it goes on until somebody closes the pipe.
        let more = vec![b'.'; 4096];
        while stdin.write_all(&more).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }
}
