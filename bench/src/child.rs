//! The commands that sessions run: a source and a drain that write and read in sizes of our choice.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;

use anyhow::{Context as _, Result, bail};

/// `write SIZE BYTES`, `sink BYTES`, `turn BYTES`.
///
/// # Errors
///
/// The words make no sense, or a pipe broke.
pub fn run(words: &[String]) -> Result<()> {
    let number =
        |at: usize| words.get(at).context("a number is missing")?.parse::<usize>().context("no number");
    match words.first().map(String::as_str) {
        Some("write") => write(number(1)?, number(2)?),
        Some("sink") => sink(number(1)?),
        Some("turn") => turn(number(1)?),
        _ => bail!("child {words:?}: no such command"),
    }
}

fn write(size: usize, mut left: usize) -> Result<()> {
    let block = vec![b'x'; size];
    // Not the standard handle, which would cut at line ends and gather.
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    while left > 0 {
        let written = out.write(&block[..size.min(left)])?;
        left -= written;
    }
    Ok(())
}

fn sink(mut left: usize) -> Result<()> {
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; 64 << 10];
    while left > 0 {
        match input.read(&mut buffer)? {
            0 => bail!("the input ended {left} bytes early"),
            read => left = left.saturating_sub(read),
        }
    }
    Ok(())
}

/// Writes what it reads, as soon as it has read it.
fn turn(mut left: usize) -> Result<()> {
    let mut input = File::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let mut out = File::from(std::io::stdout().as_fd().try_clone_to_owned()?);
    let mut buffer = vec![0; 32 << 10];
    while left > 0 {
        let read = input.read(&mut buffer)?;
        anyhow::ensure!(read > 0, "the input ended {left} bytes early");
        out.write_all(&buffer[..read])?;
        left = left.saturating_sub(read);
    }
    Ok(())
}
