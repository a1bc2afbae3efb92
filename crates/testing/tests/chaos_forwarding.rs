//! The quick part of the sweeps over port-forward: the same seeds each time, a few seconds. `cargo xtask chaos` runs the long
//! ones.

use std::time::Duration;

use wsstream_testing::chaos::session::Setting;
use wsstream_testing::chaos::sweep::{CUTS, Worker};
use wsstream_testing::chaos::{Fault, Plan, Verdict};

fn clean(worker: &Worker) {
    let tally = &worker.tally;
    println!("{tally}");
    assert!(tally.is_clean(), "{tally}\n{}", tally.examples.join("\n"));
    assert!(
        tally.complete > 0 && tally.reported > 0,
        "a sweep that sees only one kind proves little: {tally}"
    );
}

/// Each short session of each wire, cut in four ways at every 67th byte of both directions.
#[test]
fn cut_short_sessions_are_complete_or_reported() {
    let mut worker = Worker::default();
    let stride = std::env::var("WSSTREAM_STRIDE").map_or(67, |text| text.parse().unwrap());
    worker.every_byte_of_forwarding(1, &CUTS, Setting::default(), stride, 3);
    clean(&worker);
}

#[test]
fn sessions_cut_at_frames_are_complete_or_reported() {
    let mut worker = Worker::default().at_most(1200);
    let faults = [Fault::Fin, Fault::Reset, Fault::Stall(Some(Duration::from_secs(5)))];
    worker.every_frame_of_forwarding(2, &faults, Setting::default());
    clean(&worker);
}

#[test]
fn random_sessions_are_complete_or_reported() {
    let mut worker = Worker::default();
    let count = std::env::var("WSSTREAM_SESSIONS").map_or(500, |text| text.parse().unwrap());
    for seed in 0..count {
        worker.random_forwarding(seed);
    }
    clean(&worker);
}

/// Under TLS a changed byte is never taken for a right one.
#[test]
fn changed_bytes_under_tls_are_noticed() {
    let mut worker = Worker::default().at_most(300);
    let setting = Setting { tls: true, ..Setting::default() };
    worker.every_byte_of_forwarding(3, &[Fault::Flip(0x20)], setting, 211, 5);
    clean(&worker);
}

/// On a wire to which nothing happens every connection is complete that can be.
#[test]
fn nothing_happens_and_nothing_is_lost() {
    use wsstream_testing::chaos::forward::script::{Conversation, Forwarding, WIRES};
    let mut worker = Worker::default();
    for wire in WIRES {
        for (name, script) in Forwarding::short(5, wire) {
            let run = worker.session(name, &script, &Plan::smooth(), Setting::default());
            let all = script.connections.iter().all(Conversation::can_be_complete);
            let complete = run.verdict == Verdict::Complete;
            assert!(complete || !all && run.verdict == Verdict::Reported, "{wire:?} {name}: {run:?}");
        }
    }
}

/// Streams that stand behind the uploads of other connections on a slow line are answered when they have come through.
#[test]
fn replies_to_streams_behind_a_slow_upload_are_waited_for() {
    let mut worker = Worker::default();
    let run = worker.random_forwarding(249_025_437_008_239);
    assert!(!matches!(run.verdict, Verdict::Lie(_)), "{run:?}");
}
