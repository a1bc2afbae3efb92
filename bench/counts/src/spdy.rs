//! SPDY sessions, and the headers of their streams.

use std::hint::black_box;

use anyhow::{Context as _, Result, ensure};
use bytes::{Buf as _, BytesMut};
use flate2::{Compress, Compression, FlushCompress};
use wsstream::proto::spdy::dictionary::DICTIONARY;
use wsstream::proto::spdy::inflate::Inflater;
use wsstream::proto::spdy::{Event, Headers, Limits, Session, StreamId};

use crate::{payload, take};

/// Header blocks that are prepared, whatever the rounds: twice what the case does.
const BLOCKS: u32 = 1000;

pub(crate) fn data_in(rounds: u32) -> Result<()> {
    let (mut client, mut server, id) = linked()?;
    client.data(id, payload(32 << 10), false)?;
    let frame = bytes_of(&mut client);
    let (mut input, mut have) = (BytesMut::with_capacity(2 * frame.len()), 0);
    for _ in 0..rounds {
        input.extend_from_slice(&frame);
        while let Some(event) = server.handle_input(&mut input)? {
            if let Event::Data { bytes, .. } = &event {
                have += bytes.len();
            }
            black_box(event);
        }
    }
    ensure!(have == (32 << 10) * rounds as usize, "{have} bytes came");
    Ok(())
}

pub(crate) fn data_out(rounds: u32) -> Result<()> {
    let (_client, mut server, id) = linked()?;
    let body = payload(32 << 10);
    for _ in 0..rounds {
        server.data(id, body.clone(), false)?;
        take(server.outbox());
    }
    ensure!(server.total_out() == 0);
    Ok(())
}

pub(crate) fn headers(rounds: u32) -> Result<()> {
    ensure!(rounds <= BLOCKS, "at most {BLOCKS} rounds");
    let limits = Limits::default();
    let blocks = compressed(&limits)?;
    let mut inflater = Inflater::default();
    for block in blocks.iter().take(rounds as usize) {
        let mut plain = Vec::new();
        inflater.inflate(block, &mut plain, 64 << 10)?;
        let headers = Headers::decode(plain, &limits)?;
        ensure!(headers.text("port") == Some("8080"));
        black_box(headers);
    }
    Ok(())
}

/// The header blocks of one forwarded stream after the other, one stream of deflate as Go writes it.
fn compressed(limits: &Limits) -> Result<Vec<Vec<u8>>> {
    let mut deflate = Compress::new(Compression::best(), true);
    deflate.set_dictionary(DICTIONARY)?;
    let mut blocks = Vec::new();
    for number in 0..BLOCKS {
        let request = (number / 2).to_string();
        let kind = if number % 2 == 0 { "error" } else { "data" };
        let headers: Headers =
            [("streamtype", kind), ("port", "8080"), ("requestid", &*request)].into_iter().collect();
        let mut block = Vec::with_capacity(1024);
        deflate.compress_vec(&headers.encode(limits)?, &mut block, FlushCompress::Sync)?;
        blocks.push(block);
    }
    Ok(blocks)
}

/// Both ends of a session with one stream, which is replied to.
fn linked() -> Result<(Session, Session, StreamId)> {
    let mut client = Session::client(Limits::default());
    let mut server = Session::server(Limits::default());
    let id = client.open(&Headers::default(), false)?;
    let mut input = bytes_of(&mut client);
    let opened = server.handle_input(&mut input)?.context("no stream was opened")?;
    ensure!(matches!(opened, Event::StreamOpened { .. }), "{opened:?}");
    server.reply(id, &Headers::default(), false)?;
    let mut input = bytes_of(&mut server);
    let replied = client.handle_input(&mut input)?.context("no reply came")?;
    ensure!(matches!(replied, Event::Replied { .. }), "{replied:?}");
    Ok((client, server, id))
}

fn bytes_of(session: &mut Session) -> BytesMut {
    let queue = session.outbox();
    let len = queue.remaining();
    queue.copy_to_bytes(len).into()
}
