//! The quick part of the sweeps over port-forward: the same seeds each time, a few seconds. `cargo xtask chaos` runs the long
//! ones.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::time::Duration;

use wsstream::portforward::client::Wire;
use wsstream_proto::subprotocol::Encoding;
use wsstream_testing::chaos::forward::script::{Conversation, Forwarding, Mishap, Order, Reach, WIRES};
use wsstream_testing::chaos::script::Taking;
use wsstream_testing::chaos::session::{Run, Setting};
use wsstream_testing::chaos::sweep::{CUTS, Kind, Places, Worker};
use wsstream_testing::chaos::{Fault, Plan, Verdict};

const BINARY: Wire = Wire::Channels(Encoding::Binary);

fn played(wire: Wire, connections: Vec<Conversation>, plan: &str, setting: Setting) -> Run<String> {
    let script = Forwarding::of(8, wire, connections);
    Worker::default().session("a session", &script, &plan.parse().unwrap(), setting)
}

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

/// Either takes or holds 64 KiB at once, while the kernel's buffer is full all the time.
#[test]
fn replies_behind_what_a_tunnel_or_tls_holds_are_waited_for() {
    for (wire, tls) in [(Wire::Tunnel, false), (Wire::Spdy, true)] {
        let mut connections: Vec<_> =
            (0..6).map(|seed| Conversation::short(seed, 30_000, 0, Order::Together)).collect();
        connections[5].later = Duration::from_secs(10);
        let setting = Setting { tls, capacity: 4096 };
        let run = played(wire, connections, "up:rate=500", setting);
        assert_eq!(run.verdict, Verdict::Complete, "{wire:?} {run:?}");
    }
}

/// What still comes of a connection that was broken off is thrown away, and the reply stands behind it.
#[test]
fn replies_behind_what_is_thrown_away_are_waited_for() {
    let broken_off = Conversation::short(1, 3000, 200_000, Order::Together).served_by_relay();
    let mut late = Conversation::short(2, 10, 10, Order::Together);
    late.later = Duration::from_secs(2);
    let connections = vec![broken_off.but(Mishap::ClientResets(2400)), late];
    let run = played(Wire::Spdy, connections, "down:rate=1000", Setting { tls: false, capacity: 128 << 10 });
    assert_eq!(run.verdict, Verdict::Reported, "{run:?}");
    assert!(run.claim.contains("client 10 of 10 bytes Some(Clean)"), "{run:?}");
}

/// Over channels a failure is told by a text, and one that was given up after 30 s made a clean end of half of the bytes; for a
/// client that counts, none at all.
#[test]
fn a_failure_behind_a_stalled_wire_is_told() {
    for order in [Order::TargetCounts, Order::ClientCounts] {
        let whole = |seed| Conversation::short(seed, 100, 300_000, order).served_by_relay();
        let mut connections: Vec<_> = (0..6).map(whole).collect();
        // It is reset ten seconds later, when nothing is taken any more.
        connections[0].mishap = Mishap::TargetResets(100);
        connections[0].far = Reach::Relay("down@50:stall=10000".parse().unwrap(), 4096);
        let setting = Setting { tls: false, capacity: 4096 };
        let run = played(BINARY, connections, "down@20000:stall=60000", setting);
        assert_eq!(run.verdict, Verdict::Reported, "{order:?} {run:?}");
        assert!(run.claim.contains("error forwarding port 1000"), "{order:?} {run:?}");
    }
}

/// Hours after the last byte came over the wire.
#[test]
fn readers_of_a_few_bytes_at_a_time_are_waited_for() {
    let mut one = Conversation::short(1, 0, 200_000, Order::ClientFirst);
    one.near = Reach::Relay("up:split=2".parse().unwrap(), 4096);
    one.near_takes = Taking::Slow(Duration::from_millis(110));
    let run = played(Wire::Spdy, vec![one], "", Setting::default());
    assert_eq!(run.verdict, Verdict::Complete, "{run:?}");
}

/// The policy of relays ([`RelayOptions::half_closed`](wsstream::portforward::RelayOptions)): nobody can see that the client is
/// still reading.
#[test]
fn a_client_that_answers_after_more_than_ten_minutes_may_be_given_up() {
    let mut one = Conversation::short(1, 100, 60_000, Order::TargetFirst).served_by_relay();
    one.near = Reach::Relay("up:split=10".parse().unwrap(), 4096);
    one.near_takes = Taking::Slow(Duration::from_millis(300));
    let run = played(Wire::Tunnel, vec![one.clone()], "", Setting::default());
    assert_eq!(run.verdict, Verdict::Reported, "{run:?}");
    one.near_takes = Taking::Slow(Duration::from_millis(30));
    let run = played(Wire::Tunnel, vec![one], "", Setting::default());
    assert_eq!(run.verdict, Verdict::Complete, "{run:?}");
}

/// The server leaves between such an end and whoever would have noted it.
#[test]
fn an_end_of_its_own_is_no_clean_one_when_the_server_leaves() {
    let run = Worker::default().random_forwarding(20_329_608);
    assert!(!matches!(run.verdict, Verdict::Lie(_)), "{run:?}");
}
