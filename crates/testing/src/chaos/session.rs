//! Runs one script through the library's own server and client over a wire with a plan.
//!
//! Client, server, readers and the feeder of stdin are tasks of their own, so that a lost wake-up shows as a hang. The
//! clock is meant to be paused: then a session with minutes of stalls takes microseconds.

use std::cell::Cell;
use std::sync::{Arc, Mutex, Once, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle};
use tokio::time::timeout;

use super::link::{Record, Recorder, link};
use super::oracle::{Claim, Seen, Verdict, judge};
use super::plan::Plan;
use super::script::{Departure, PANIC, Script};

mod client;
mod server;

pub use client::{Consumed, converse};
pub(super) use server::{Served, command};

/// How long a client waits for the upgrade before it gives up, as any application does.
pub(super) const HANDSHAKE: Duration = Duration::from_secs(120);

/// Within this, every client has come to an end: more than the longest sum of deadlines of the library and the wire.
pub(super) const CLIENT_ENDS: Duration = Duration::from_secs(2 * 60 * 60);

/// And the server, whose idle timeout is 4 hours.
pub(super) const SERVER_ENDS: Duration = Duration::from_secs(6 * 60 * 60);

/// How a session is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// TLS between client and server.
    pub tls: bool,
    /// Bytes that the wire holds each way.
    pub capacity: usize,
}

impl Default for Setting {
    fn default() -> Self {
        Self { tls: false, capacity: 64 << 10 }
    }
}

/// What one run gave.
#[derive(Debug)]
pub struct Run<C = Claim> {
    /// The judgement.
    pub verdict: Verdict,
    /// What the client was told.
    pub claim: C,
    /// What went over the wire.
    pub record: Record,
    /// Payload bytes that the client checked.
    pub bytes: u64,
}

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Keeps scripted panics quiet and counts the others, on the thread that they happen on.
pub(super) fn watch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload().downcast_ref::<&str>() != Some(&PANIC) {
                PANICS.with(|panics| panics.set(panics.get() + 1));
                before(info);
            }
        }));
    });
}

/// Panics on this thread that no script asked for.
pub(super) fn panics() -> u32 {
    PANICS.with(Cell::get)
}

/// Runs `script` over a wire with `plan`. Wants a runtime of one thread, and nothing else running on it.
pub async fn run(script: &Script, plan: &Plan, setting: Setting) -> Run {
    watch_panics();
    let panicked = panics();
    let (client_io, server_io) = link(plan, setting.capacity);
    let recorder = client_io.recorder();
    let served = Arc::new(Mutex::new(Served::new(script)));
    let server = tokio::spawn(server::serve(
        script.clone(),
        server_io,
        Arc::clone(&served),
        setting,
        recorder.unsent(),
    ));
    let client =
        tokio::spawn(client::consume(script.clone(), client_io, setting, recorder.unsent_by_client()));

    let mut wrongs = Vec::new();
    let (claim, stdout, stderr) = match finish(client, CLIENT_ENDS).await {
        Ok((claim, stdout, stderr, more)) => {
            wrongs.extend(more);
            (claim, stdout, stderr)
        }
        Err(None) => (Claim::Hung, script.checker(1), script.checker(2)),
        Err(Some(error)) => {
            wrongs.push(format!("the client panicked: {error}"));
            (Claim::Lost(String::new()), script.checker(1), script.checker(2))
        }
    };
    let delivered = match finish(server, SERVER_ENDS).await {
        Ok(delivered) => delivered,
        Err(None) => {
            wrongs.push("the server never ended".to_owned());
            false
        }
        Err(Some(error)) => {
            wrongs.push(format!("the server panicked: {error}"));
            false
        }
    };
    let record = recorder.record();
    wrongs.extend(settle(&recorder, panicked).await);
    wrongs.extend(served.lock().unwrap_or_else(PoisonError::into_inner).wrongs());
    if matches!(script.departure, Departure::Server(_)) && matches!(claim, Claim::Exited(_) | Claim::Ended) {
        wrongs.push(format!("the server left in the middle, yet {claim:?}"));
    }
    let harmless = is_harmless(plan) && script.departure == Departure::None;
    let told = matches!(claim, Claim::Exited(_) | Claim::Ended | Claim::Failed(_));
    if told && !delivered && record.fired == 0 && script.departure == Departure::None {
        wrongs.push("the client was told, yet the server says that it was not".to_owned());
    }
    let left = script.departure != Departure::None;
    let hung = claim == Claim::Hung;
    let seen = Seen {
        claim,
        fired: record.fired.max(u32::from(left)),
        harmless,
        // SPDY has no answer that a peer owes: a TLS record that never becomes whole holds a session until the idle
        // timeout, which is longer than the client is waited for here.
        blind: plan.flips() && (!setting.tls || (script.spdy && hung)),
        stdout,
        stderr,
        wrongs,
    };
    let bytes = seen.stdout.seen() + seen.stderr.seen();
    Run { verdict: judge(script, &seen), claim: seen.claim, record, bytes }
}

/// What a session has left behind, and panics since there were `panicked`.
pub(super) async fn settle(recorder: &Recorder, panicked: u32) -> Vec<String> {
    // Aborted tasks are dropped by the runtime when it next runs.
    for _ in 0..3 {
        tokio::task::yield_now().await;
    }
    let mut wrongs = Vec::new();
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    if tasks > 0 || recorder.ends() > 0 {
        wrongs.push(format!("left behind: {tasks} tasks, {} ends of the wire", recorder.ends()));
    }
    let unmeant = panics() - panicked;
    if unmeant > 0 {
        wrongs.push(format!("{unmeant} panics"));
    }
    wrongs
}

/// A stall that is shorter than every deadline breaks nothing.
pub(super) fn is_harmless(plan: &Plan) -> bool {
    use super::plan::Fault;
    let short = |fault: &Fault| matches!(fault, Fault::Stall(Some(time)) if *time < Duration::from_secs(8));
    plan.faults.iter().all(|(_, _, fault)| short(fault))
}

/// `Err(None)`: it did not end and was aborted.
pub(super) async fn finish<T>(mut task: JoinHandle<T>, within: Duration) -> Result<T, Option<JoinError>> {
    match timeout(within, &mut task).await {
        Ok(result) => result.map_err(Some),
        Err(_) => {
            task.abort();
            Err(None)
        }
    }
}
