//! What forwarded ports lead to: it sends or takes as many bytes as it is told to.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use anyhow::Result;

pub(super) fn run() -> Result<()> {
    if let Some(core) = std::env::var("BENCH_CORE").ok().and_then(|core| core.parse().ok()) {
        crate::place::pin(core);
    }
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("listening on {}", listener.local_addr()?);
    std::thread::spawn(super::stop_with_parent);
    for socket in listener.incoming() {
        let socket = socket?;
        std::thread::spawn(move || {
            let _ = serve(socket);
        });
    }
    Ok(())
}

/// A letter and a number: `d` sends that many bytes, `u` takes them and answers with one, `c` answers with one at once.
fn serve(mut socket: TcpStream) -> Result<()> {
    socket.set_nodelay(true)?;
    let mut head = [0; 9];
    socket.read_exact(&mut head)?;
    let mut left = u64::from_be_bytes(head[1..].try_into()?);
    let mut block = vec![0; 128 << 10];
    match head[0] {
        b'd' => {
            while left > 0 {
                let size = usize::try_from(left)?.min(block.len());
                socket.write_all(&block[..size])?;
                left -= size as u64;
            }
        }
        b'u' => {
            while left > 0 {
                match socket.read(&mut block)? {
                    0 => return Ok(()),
                    read => left = left.saturating_sub(read as u64),
                }
            }
            socket.write_all(b".")?;
        }
        _ => socket.write_all(b".")?,
    }
    // Reading on: what ends first is for the other side to say.
    while socket.read(&mut block)? > 0 {}
    Ok(())
}
