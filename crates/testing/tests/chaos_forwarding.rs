//! The quick part of the sweeps over port-forward: the same seeds each time, a few seconds. `cargo xtask chaos` runs the long
//! ones.

use std::time::Duration;

use wsstream_testing::chaos::session::Setting;
use wsstream_testing::chaos::sweep::{CUTS, Kind, Places, Worker};
use wsstream_testing::chaos::{Fault, Plan, Verdict};

/// Each short session of each wire, cut in four ways at every 67th byte of both directions.
#[test]
fn cut_short_sessions_are_complete_or_reported() {
    let mut worker = Worker::default();
    let stride = std::env::var("WSSTREAM_STRIDE").map_or(67, |text| text.parse().unwrap());
    let setting = Setting::default();
    worker.every_byte(Kind::Forward, &Places { seed: 1, faults: &CUTS, setting, stride, offset: 3 });
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
}

#[test]
fn sessions_cut_at_frames_are_complete_or_reported() {
    let mut worker = Worker::default().at_most(1200);
    let faults = [Fault::Fin, Fault::Reset, Fault::Stall(Some(Duration::from_secs(5)))];
    worker.every_frame(Kind::Forward, 2, &faults, Setting::default());
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
}

#[test]
fn random_sessions_are_complete_or_reported() {
    let mut worker = Worker::default();
    let count = std::env::var("WSSTREAM_SESSIONS").map_or(500, |text| text.parse().unwrap());
    for seed in 0..count {
        worker.random_forwarding(seed);
    }
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
}

/// Under TLS a changed byte is never taken for a right one.
#[test]
fn changed_bytes_under_tls_are_noticed() {
    let mut worker = Worker::default().at_most(300);
    let setting = Setting { tls: true, ..Setting::default() };
    let faults = &[Fault::Flip(0x20)];
    worker.every_byte(Kind::Forward, &Places { seed: 3, faults, setting, stride: 211, offset: 5 });
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
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
