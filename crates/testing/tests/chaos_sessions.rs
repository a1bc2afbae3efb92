//! The quick part of the chaos sweeps: the same seeds each time, a few seconds. `cargo xtask chaos` runs the long ones.

use std::time::Duration;

use wsstream_proto::subprotocol::Subprotocol;
use wsstream_testing::chaos::oracle::Claim;
use wsstream_testing::chaos::script::Input;
use wsstream_testing::chaos::session::Setting;
use wsstream_testing::chaos::sweep::{CUTS, Kind, Places, Wire, Worker};
use wsstream_testing::chaos::{Fault, Plan, Script, Verdict};

/// Each short session of each version, cut in four ways at every 41st byte of both directions.
#[test]
fn cut_short_sessions_are_complete_or_reported() {
    let mut worker = Worker::default();
    let stride = std::env::var("WSSTREAM_STRIDE").map_or(41, |text| text.parse().unwrap());
    for wire in [Wire::WebSocket, Wire::Spdy] {
        let setting = Setting::default();
        worker
            .every_byte(Kind::Command(wire), &Places { seed: 1, faults: &CUTS, setting, stride, offset: 3 });
    }
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
}

#[test]
fn sessions_cut_at_frames_are_complete_or_reported() {
    for wire in [Wire::WebSocket, Wire::Spdy] {
        let mut worker = Worker::default().at_most(600);
        let faults = [Fault::Fin, Fault::Reset, Fault::Stall(Some(Duration::from_secs(5)))];
        worker.every_frame(Kind::Command(wire), 2, &faults, Setting::default());
        worker.tally.assert_clean();
        worker.tally.assert_both_kinds();
    }
}

#[test]
fn random_sessions_are_complete_or_reported() {
    let mut worker = Worker::default();
    let count = std::env::var("WSSTREAM_SESSIONS").map_or(700, |text| text.parse().unwrap());
    for seed in 0..count {
        worker.random(Wire::WebSocket, seed);
        worker.random(Wire::Spdy, seed);
    }
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
}

/// Under TLS a changed byte is never taken for a right one.
#[test]
fn changed_bytes_under_tls_are_noticed() {
    let mut worker = Worker::default().at_most(400);
    let setting = Setting { tls: true, ..Setting::default() };
    let faults = &[Fault::Flip(0x20)];
    let places = Places { seed: 3, faults, setting, stride: 97, offset: 5 };
    worker.every_byte(Kind::Command(Wire::WebSocket), &places);
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
}

/// Without TLS some changes cannot be noticed; they must not panic, hang or leave anything behind all the same.
#[test]
fn changed_frame_headers_break_nothing_else() {
    let mut worker = Worker::default().at_most(1500);
    worker.framing(Kind::Command(Wire::WebSocket), 4);
    worker.tally.assert_clean();
}

/// Before v4 a clean end is all that a client gets. The server's Close had come, but the client's own input, which
/// nobody read any more, could not drain over its slow way up, and after 20 s the session was called lost.
#[test]
fn input_that_does_not_drain_does_not_turn_a_clean_end_into_a_loss() {
    let script =
        Script { stdin: 200_000, input: Input::Flood, ..Script::output(1, Subprotocol::CHANNEL, 2657) };
    let plan: Plan = "seed=1 up:split=500 up:delay=170".parse().unwrap();
    let setting = Setting { capacity: 512, ..Setting::default() };
    let mut worker = Worker::default();
    let run = worker.session("flood", &script, &plan, setting);
    assert_eq!((run.verdict, run.claim), (Verdict::Complete, Claim::Ended));
}

/// Sessions that were once lost although nothing had happened to them: the client rests over TLS with the tail unread
/// while its pongs come only as often as the close timeout passes (20410183, 20468268, 20494662, 20621302), the
/// probe for unsent bytes that a handler's options named was not asked (20831267), and the pong waits behind minutes
/// of output on a slow line (21000394).
#[test]
fn slow_and_resting_clients_are_waited_for() {
    let mut worker = Worker::default();
    for seed in [20_410_183, 20_468_268, 20_494_662, 20_621_302, 20_831_267, 21_000_394] {
        worker.random(Wire::WebSocket, seed);
    }
    worker.tally.assert_clean();
    worker.tally.assert_both_kinds();
}

/// A peer's kernel acknowledges pings that its program cannot answer, here for a TLS record of a changed length that
/// never becomes whole. That must not keep the connection.
#[test]
fn acknowledged_pings_without_an_answer_do_not_keep_a_session() {
    let mut worker = Worker::default();
    for seed in [30_614_079, 30_615_159, 30_623_535, 30_678_711] {
        worker.random(Wire::WebSocket, seed);
    }
    worker.tally.assert_clean();
    assert_eq!(worker.tally.reported, 4, "{}", worker.tally);
}

/// A reply to a stream may stand in one TLS record with the first of the output, and that takes long on a slow line.
#[test]
fn replies_behind_a_slow_line_are_waited_for() {
    let mut worker = Worker::default();
    for seed in [20_747_327, 20_765_983, 20_805_983, 51_030_455, 51_091_407, 51_095_711] {
        worker.random(Wire::Spdy, seed);
    }
    worker.tally.assert_clean();
}

/// TLS, and a byte changed in both directions before the request had come whole: the client left, what it said of that was
/// lost, and the harness's HTTP server, which had no clock, waited for the rest of the head in one run of three.
#[test]
fn a_request_that_never_comes_whole_ends_the_server() {
    let mut worker = Worker::default();
    for _ in 0..12 {
        worker.random(Wire::WebSocket, 143_171_738_239_911);
    }
    worker.tally.assert_clean();
    assert_eq!(worker.tally.reported, 12, "{}", worker.tally);
}
