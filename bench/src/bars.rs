//! What is promised: every bar in one table, so that nobody has to look for them in the code that measures.

use serde::{Deserialize, Serialize};

use crate::sample::Figure;

/// The side on which a value must lie.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// This or less.
    AtMost(f64),
    /// This or more.
    AtLeast(f64),
}

/// One promise.
#[derive(Debug, Clone, Copy)]
pub struct Bar {
    /// By which a section finds it.
    pub id: &'static str,
    /// What is compared with what.
    pub what: &'static str,
    /// Behind the value: `x`, `KiB`.
    pub unit: &'static str,
    /// Where it must lie.
    pub limit: Limit,
}

const fn most(id: &'static str, what: &'static str, limit: f64, unit: &'static str) -> Bar {
    Bar { id, what, unit, limit: Limit::AtMost(limit) }
}

const fn least(id: &'static str, what: &'static str, limit: f64, unit: &'static str) -> Bar {
    Bar { id, what, unit, limit: Limit::AtLeast(limit) }
}

/// All of them, in the order of the sections. Ratios of server CPU unless they say otherwise.
pub const BARS: &[Bar] = &[
    most("stdout-32k-raw", "stdout, 32 KiB: library / raw relay", 1.10, "x"),
    most("stdout-32k-go", "stdout, 32 KiB: library / Go", 0.50, "x"),
    most("stdout-1k-raw", "stdout, 1 KiB writes: library / raw relay", 1.50, "x"),
    most("stdout-1k-go", "stdout, 1 KiB writes: library / Go", 0.20, "x"),
    most("stdout-32k-raw-serve", "stdout, 32 KiB: wsstream serve / raw relay", 1.10, "x"),
    most("stdout-32k-go-serve", "stdout, 32 KiB: wsstream serve / Go", 0.50, "x"),
    most("stdout-1k-raw-serve", "stdout, 1 KiB writes: wsstream serve / raw relay", 1.50, "x"),
    most("stdout-1k-go-serve", "stdout, 1 KiB writes: wsstream serve / Go", 0.20, "x"),
    most("stdin-32k-raw", "stdin, 32 KiB: library / raw relay", 1.30, "x"),
    most("stdin-32k-go", "stdin, 32 KiB: library / Go", 0.50, "x"),
    most("stdin-1k-raw", "stdin, 1 KiB messages: library / raw relay", 1.50, "x"),
    most("stdin-1k-go", "stdin, 1 KiB messages: library / Go", 0.20, "x"),
    most("stdin-32k-raw-serve", "stdin, 32 KiB: wsstream serve / raw relay", 1.30, "x"),
    most("stdin-32k-go-serve", "stdin, 32 KiB: wsstream serve / Go", 0.50, "x"),
    most("stdin-1k-raw-serve", "stdin, 1 KiB messages: wsstream serve / raw relay", 1.50, "x"),
    most("stdin-1k-go-serve", "stdin, 1 KiB messages: wsstream serve / Go", 0.20, "x"),
    most("echo-p50", "keystroke echo, p50: our client and server / raw TCP", 1.05, "x"),
    most("echo-p99", "keystroke echo, p99: our client and server / raw TCP", 1.25, "x"),
    most("exec-library", "exec true above a bare spawn: library / Go", 1.0 / 3.0, "x"),
    most("exec-no-keeper", "exec true above a bare spawn: wsstream serve --no-keeper / Go", 1.0 / 3.0, "x"),
    most("exec-serve", "exec true above a bare spawn: wsstream serve / Go", 1.0 / 3.0, "x"),
    most("memory-connection", "idle connection after use: allocated for it", 4.0, "KiB"),
    most("memory-session", "idle exec session of the server, child apart", 16.0, "KiB"),
    most("memory-flat", "the same, dearest step from 100 to 3,000 / the first 100", 1.10, "x"),
    most("memory-go", "idle exec session: server / Go", 0.10, "x"),
    least("connections-busy", "50 busy sessions beside 10,000 idle ones: throughput / alone", 0.95, "x"),
    // The limits count bytes; what the allocator adds to them is the twentieth.
    most("ceiling-ws", "10,000 WebSocket sessions that send and never read: memory / ceiling", 1.05, "x"),
    most("ceiling-spdy", "10,000 SPDY sessions that send and never read: memory / ceiling", 1.05, "x"),
    least("forward-tunnel-down", "port-forward, tunnel, from the port: throughput, library / Go", 2.0, "x"),
    least("forward-tunnel-up", "port-forward, tunnel, to the port: throughput, library / Go", 2.0, "x"),
    least("forward-spdy-down", "port-forward, SPDY, from the port: throughput, library / Go", 2.0, "x"),
    least("forward-spdy-up", "port-forward, SPDY, to the port: throughput, library / Go", 2.0, "x"),
    most("forward-tunnel-connect", "port-forward, tunnel, connect p50: library / Go", 1.0, "x"),
    most("forward-spdy-connect", "port-forward, SPDY, connect p50: library / Go", 1.0, "x"),
    most("binary-size", "stripped binary", 15.0, "MiB"),
    most("binary-start", "cold start to serving, TLS on", 50.0, "ms"),
    // One each, and room for the handful of calls that begin and end a session.
    most("syscalls-stdout-read", "reads per 32 KiB of stdout", 1.05, ""),
    most("syscalls-stdout-write", "writes per 32 KiB of stdout", 1.05, ""),
    most("syscalls-stdin-read", "reads per 32 KiB of stdin", 1.05, ""),
    most("syscalls-stdin-write", "writes per 32 KiB of stdin", 1.05, ""),
];

/// The bar of that name.
#[must_use]
pub fn bar(id: &str) -> Option<&'static Bar> {
    BARS.iter().find(|bar| bar.id == id)
}

/// A bar and what was measured.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// The bar's.
    pub id: String,
    /// What was measured.
    pub figure: Figure,
}

impl Verdict {
    /// Its bar; `None` when it was measured by another version of this program.
    #[must_use]
    pub fn bar(&self) -> Option<&'static Bar> {
        bar(&self.id)
    }

    /// How the value stands to the limit: above 1 it is missed, and the more the worse.
    #[must_use]
    pub fn strain(&self) -> f64 {
        match self.bar().map(|bar| bar.limit) {
            Some(Limit::AtMost(limit)) => self.figure.value / limit,
            Some(Limit::AtLeast(limit)) => limit / self.figure.value,
            None => 0.0,
        }
    }

    /// Whether the bar is kept. What could not be computed is not.
    #[must_use]
    pub fn kept(&self) -> bool {
        self.strain() <= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_missed_on_its_own_side() {
        let verdict = |id: &str, value| Verdict { id: id.into(), figure: Figure::once(value) };
        assert!(verdict("stdout-32k-raw", 1.1).kept() && !verdict("stdout-32k-raw", 1.11).kept());
        assert!(verdict("connections-busy", 0.95).kept() && !verdict("connections-busy", 0.94).kept());
        assert!(!verdict("stdout-32k-raw", f64::NAN).kept());
    }

    #[test]
    fn each_bar_has_a_name_of_its_own() {
        for (at, bar) in BARS.iter().enumerate() {
            assert_eq!(BARS.iter().position(|other| other.id == bar.id), Some(at), "{}", bar.id);
        }
    }
}
