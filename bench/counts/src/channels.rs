//! The state machine of a connection with channels, at the server.

use std::hint::black_box;

use anyhow::{Result, ensure};
use bytes::BytesMut;
use wsstream::proto::connection::{Config, Connection, Event, Role};
use wsstream::proto::ws::Opcode;
use wsstream::{ChannelMode, Subprotocol};

use crate::frames::masked;
use crate::{payload, take};

/// What a server of `exec` reads and writes.
pub(crate) const MODES: [ChannelMode; 5] =
    [ChannelMode::Read, ChannelMode::Write, ChannelMode::Write, ChannelMode::Write, ChannelMode::Read];

/// A message on stdin, as a client sends it.
pub(crate) fn stdin(len: usize) -> Vec<u8> {
    masked(Opcode::Binary, &[&[0], &payload(len)[..]].concat())
}

pub(crate) fn message(rounds: u32) -> Result<()> {
    feed(&stdin(1024), rounds, |event| matches!(event, Event::Data { .. }))
}

/// A read full of messages of 16 B, which are gathered: each round is one of them.
pub(crate) fn run(rounds: u32) -> Result<()> {
    let mut connection = machine();
    let (block, mut bytes) = (stdin(16).repeat(RUN), 0);
    let mut input = BytesMut::with_capacity(2 * block.len());
    for _ in 0..rounds / RUN as u32 {
        input.extend_from_slice(&block);
        while let Some(event) = connection.handle_input(&mut input)? {
            if let Event::Data { data, .. } = &event {
                bytes += data.len();
            }
            black_box(event);
        }
    }
    ensure!(bytes == rounds as usize * 16, "{bytes} bytes came");
    Ok(())
}

/// Messages in one read.
const RUN: usize = 1000;

pub(crate) fn ping(rounds: u32) -> Result<()> {
    feed(&masked(Opcode::Ping, b"12345678"), rounds, |event| *event == Event::Ping)
}

fn feed(frame: &[u8], rounds: u32, expected: fn(&Event) -> bool) -> Result<()> {
    let mut connection = machine();
    let (mut input, mut events) = (BytesMut::with_capacity(2 * frame.len()), 0);
    for _ in 0..rounds {
        input.extend_from_slice(frame);
        while let Some(event) = connection.handle_input(&mut input)? {
            events += u32::from(expected(&event));
            black_box(event);
        }
        take(connection.outbox());
    }
    ensure!(events == rounds, "{events} events of {rounds}");
    Ok(())
}

fn machine() -> Connection {
    Connection::new(&Config {
        role: Role::Server,
        subprotocol: Subprotocol::V5,
        channels: MODES.to_vec(),
        max_message: 16 << 20,
    })
}
