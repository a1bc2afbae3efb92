//! The hot paths, each alone and the same every time. `cargo xtask counts` runs each under callgrind, with two numbers of
//! rounds: the difference is what the rounds cost, without the start of the program and without what a case prepares.
//!
//! `counts --list` prints a line for each case: name, rounds, what one round is. `counts NAME ROUNDS` runs one.

mod channels;
mod frames;
mod relay;
mod spdy;

use std::env::args;

use anyhow::{Context as _, Result};

/// One hot path.
struct Case {
    name: &'static str,
    /// How many rounds are enough for what happens once in many to be spread evenly.
    rounds: u32,
    /// What one round is.
    what: &'static str,
    /// Prepares the same whatever the rounds, and then does as many.
    run: fn(u32) -> Result<()>,
}

const KIB: usize = 1 << 10;

const CASES: &[Case] = &[
    Case {
        name: "ws-decode-32k",
        rounds: 400,
        what: "a masked frame of 32 KiB is decoded and unmasked",
        run: |rounds| frames::decode(32 * KIB, rounds),
    },
    Case {
        name: "ws-decode-1k",
        rounds: 4000,
        what: "the same of 1 KiB",
        run: |rounds| frames::decode(KIB, rounds),
    },
    Case {
        name: "ws-decode-16",
        rounds: 4000,
        what: "the same of 16 B",
        run: |rounds| frames::decode(16, rounds),
    },
    Case {
        name: "ws-encode-32k",
        rounds: 4000,
        what: "a frame of 32 KiB is queued and taken by the wire",
        run: |rounds| frames::encode(32 * KIB, rounds),
    },
    Case {
        name: "ws-encode-1k",
        rounds: 4000,
        what: "the same of 1 KiB",
        run: |rounds| frames::encode(KIB, rounds),
    },
    Case {
        name: "ws-encode-16",
        rounds: 4000,
        what: "the same of 16 B",
        run: |rounds| frames::encode(16, rounds),
    },
    Case {
        name: "connection-message",
        rounds: 4000,
        what: "a message of 1 KiB comes to a channel of v5",
        run: channels::message,
    },
    Case {
        name: "connection-run",
        rounds: 10_000,
        what: "one of many messages of 16 B that come to a channel in one read",
        run: channels::run,
    },
    Case {
        name: "connection-ping",
        rounds: 4000,
        what: "a ping comes, and its pong is taken by the wire",
        run: channels::ping,
    },
    Case { name: "spdy-data-in", rounds: 400, what: "32 KiB come on a stream", run: spdy::data_in },
    Case {
        name: "spdy-data-out",
        rounds: 4000,
        what: "32 KiB are queued on a stream and taken by the wire",
        run: spdy::data_out,
    },
    Case {
        name: "spdy-headers",
        rounds: 500,
        what: "the compressed headers of one forwarded stream are inflated and read",
        run: spdy::headers,
    },
    Case {
        name: "relay-in-32k",
        rounds: 1000,
        what: "a message of 32 KiB goes from the wire to the reader of a channel",
        run: |rounds| relay::incoming(32 * KIB, rounds),
    },
    Case {
        name: "relay-in-1k",
        rounds: 1000,
        what: "the same of 1 KiB",
        run: |rounds| relay::incoming(KIB, rounds),
    },
    Case {
        name: "relay-out-32k",
        rounds: 1000,
        what: "a message of 32 KiB goes from the writer of a channel to the wire",
        run: |rounds| relay::outgoing(32 * KIB, rounds),
    },
    Case {
        name: "relay-out-1k",
        rounds: 1000,
        what: "the same of 1 KiB",
        run: |rounds| relay::outgoing(KIB, rounds),
    },
    Case {
        name: "relay-echo",
        rounds: 1000,
        what: "16 B come to a channel and are sent back, one round trip after the other",
        run: relay::echo,
    },
    Case {
        name: "relay-spdy",
        rounds: 1000,
        what: "32 KiB go from the writer of a stream to its reader, over both ends of a session",
        run: relay::spdy,
    },
];

fn main() -> Result<()> {
    let args: Vec<String> = args().skip(1).collect();
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["--list"] => {
            CASES.iter().for_each(|case| println!("{}\t{}\t{}", case.name, case.rounds, case.what));
            Ok(())
        }
        [name, rounds] => {
            let case = CASES.iter().find(|case| case.name == name).context("there is no such case")?;
            (case.run)(rounds.parse()?)
        }
        _ => anyhow::bail!("usage: counts --list | counts NAME ROUNDS"),
    }
}

/// Bytes that are not all the same.
fn payload(len: usize) -> bytes::Bytes {
    (0..len).map(|at| (at * 7 % 251) as u8).collect()
}

/// Takes everything that waits for the wire, as one that is never blocked does.
fn take(outbox: &mut impl bytes::Buf) {
    while outbox.has_remaining() {
        let mut slices = [std::io::IoSlice::new(&[]); 16];
        let filled = outbox.chunks_vectored(&mut slices);
        let len = slices[..filled].iter().map(|slice| slice.len()).sum();
        std::hint::black_box(&slices);
        outbox.advance(len);
    }
}
