//! WebSocket frames, without a connection around them.

use std::hint::black_box;

use anyhow::{Result, ensure};
use bytes::BytesMut;
use wsstream::proto::ws::{Decoder, MAX_HEADER, Opcode, Outbox, apply_mask, encode_header};

use crate::{payload, take};

const KEY: [u8; 4] = [0xa1, 0x02, 0xf3, 0x44];

/// A frame as a client sends it.
pub(crate) fn masked(opcode: Opcode, body: &[u8]) -> Vec<u8> {
    let mut header = [0; MAX_HEADER];
    let len = encode_header(&mut header, opcode, body.len(), Some(KEY));
    let mut frame = [&header[..len], body].concat();
    apply_mask(&mut frame[len..], KEY, 0);
    frame
}

pub(crate) fn decode(len: usize, rounds: u32) -> Result<()> {
    let frame = masked(Opcode::Binary, &payload(len));
    let mut decoder = Decoder::new(true, u64::MAX);
    let (mut input, mut frames) = (BytesMut::with_capacity(2 * frame.len()), 0);
    for _ in 0..rounds {
        input.extend_from_slice(&frame);
        while let Some(frame) = decoder.decode(&mut input)? {
            black_box(frame);
            frames += 1;
        }
    }
    ensure!(frames == rounds, "{frames} frames of {rounds}");
    Ok(())
}

pub(crate) fn encode(len: usize, rounds: u32) -> Result<()> {
    let body = payload(len);
    let mut outbox = Outbox::default();
    for _ in 0..rounds {
        outbox.message(Opcode::Binary, &[1], body.clone(), None);
        take(&mut outbox);
    }
    ensure!(outbox.is_empty());
    Ok(())
}
