//! What is measured, one file for each thing, in the order of their worth.

mod binary;
mod both;
mod ceiling;
mod connections;
mod echo;
mod exec;
mod forward;
mod memory;
mod stdin;
mod stdout;
mod syscalls;
mod tls;

use anyhow::Result;

use crate::place::Place;
use crate::report::Findings;

/// What a section needs to know.
#[derive(Debug, Clone)]
pub struct Context {
    /// The programs.
    pub place: Place,
    /// Rounds that count.
    pub runs: usize,
    /// Less to do in each round.
    pub quick: bool,
}

impl Context {
    /// `full`, or a part of it in a quick run.
    #[must_use]
    pub fn amount(&self, full: u64, quick: u64) -> u64 {
        if self.quick { quick } else { full }
    }
}

/// A section.
#[derive(Debug, Clone, Copy)]
pub struct Section {
    /// What is typed for it.
    pub name: &'static str,
    /// What it measures.
    pub about: &'static str,
    /// Measures it.
    pub run: fn(&Context) -> Result<Findings>,
}

/// All of them.
pub const SECTIONS: &[Section] = &[
    Section { name: "stdout", about: "A command's output to a client: server CPU per GiB", run: stdout::run },
    Section { name: "stdin", about: "A client's input to a command: server CPU per GiB", run: stdin::run },
    Section { name: "both", about: "Input and output at once: server CPU per GiB", run: both::run },
    Section { name: "echo", about: "A keystroke and its echo: how long", run: echo::run },
    Section { name: "exec", about: "`exec true`: sessions per second, latency, server CPU", run: exec::run },
    Section {
        name: "memory",
        about: "Idle connections and idle sessions: memory of the server",
        run: memory::run,
    },
    Section {
        name: "connections",
        about: "Busy sessions beside idle connections: throughput",
        run: connections::run,
    },
    Section {
        name: "ceiling",
        about: "10,000 connections that send at once and read nothing: memory of the server",
        run: ceiling::run,
    },
    Section { name: "forward", about: "Forwarded ports: throughput and time to connect", run: forward::run },
    Section { name: "binary", about: "The program: its size, and how soon it serves", run: binary::run },
    Section { name: "syscalls", about: "System calls for 32 KiB, counted by strace", run: syscalls::run },
    Section { name: "tls", about: "Output with and without TLS: server CPU per GiB", run: tls::run },
];
