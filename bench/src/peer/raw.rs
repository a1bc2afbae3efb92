//! The limit: the same relays on the same runtime, with bare bytes on the socket.

use std::io;
use std::process::Stdio;

use anyhow::{Context as _, Result, bail};
use bytes::BytesMut;
use tokio::io::{
    AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader,
};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, Command};

/// What everybody reads at once.
const READ: usize = 32 << 10;

pub(super) async fn serve(listener: TcpListener) -> Result<()> {
    loop {
        let (socket, _) = listener.accept().await?;
        socket.set_nodelay(true)?;
        tokio::spawn(async move {
            if let Err(error) = relay(socket).await {
                eprintln!("raw: {error:#}");
            }
        });
    }
}

async fn relay(socket: TcpStream) -> Result<()> {
    let mut socket = BufReader::with_capacity(1024, socket);
    let mut line = String::new();
    socket.read_line(&mut line).await?;
    let behind = socket.buffer().to_vec();
    let mut socket = socket.into_inner();
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some((verb, command)) = words.split_first() else { bail!("nothing was asked for") };
    match *verb {
        "stdout" => stdout(&mut socket, command).await,
        "stdin" => stdin(&mut socket, &behind, command).await,
        "both" => both(socket, &behind, command).await,
        "tty" => terminal(&mut socket, command).await,
        "zeros" => zeros(&mut socket, command).await,
        "echo" => echo(&mut socket, &behind).await,
        "forward" => forward(&mut socket, &behind, command.first().context("no port")?.parse()?).await,
        _ => bail!("{verb}: no such relay"),
    }
}

fn start(command: &[&str], stdin: bool, stdout: bool) -> Result<Child> {
    let (program, arguments) = command.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.stdin(if stdin { Stdio::piped() } else { Stdio::null() });
    if stdout {
        command.stdout(Stdio::piped());
    }
    Ok(command.spawn()?)
}

async fn stdout(socket: &mut TcpStream, command: &[&str]) -> Result<()> {
    let mut child = start(command, false, true)?;
    let mut pipe = child.stdout.take().context("no pipe")?;
    pump(&mut pipe, socket).await?;
    child.wait().await?;
    Ok(())
}

async fn stdin(socket: &mut TcpStream, behind: &[u8], command: &[&str]) -> Result<()> {
    let mut child = start(command, true, false)?;
    let mut pipe = child.stdin.take().context("no pipe")?;
    let feed = async {
        pipe.write_all(behind).await?;
        pump(socket, &mut pipe).await
    };
    tokio::select! {
        ended = child.wait() => { ended?; }
        fed = feed => fed?,
    }
    socket.write_all(b".").await?;
    Ok(())
}

async fn both(mut socket: TcpStream, behind: &[u8], command: &[&str]) -> Result<()> {
    let mut child = start(command, true, true)?;
    let mut into = child.stdin.take().context("no pipe")?;
    let mut out = child.stdout.take().context("no pipe")?;
    let (mut from_client, mut to_client) = socket.split();
    let feed = async {
        into.write_all(behind).await?;
        pump(&mut from_client, &mut into).await?;
        // The end of the session is that of the command.
        std::future::pending::<Result<()>>().await
    };
    tokio::select! {
        ended = pump(&mut out, &mut to_client) => ended?,
        fed = feed => fed?,
    }
    child.wait().await?;
    Ok(())
}

/// A terminal gives at most 4 KiB to a read.
async fn terminal(socket: &mut TcpStream, command: &[&str]) -> Result<()> {
    let (mut pty, slave) = pty_process::open()?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut child = pty_process::Command::new(program).args(arguments).spawn(slave)?;
    match pump(&mut pty, socket).await {
        // Nobody has the other side open any more.
        Err(error) if error.downcast_ref().and_then(io::Error::raw_os_error) == Some(libc::EIO) => {}
        ended => ended?,
    }
    child.wait().await?;
    Ok(())
}

/// Blocks of their own, each in one write.
async fn zeros(socket: &mut TcpStream, words: &[&str]) -> Result<()> {
    let number =
        |at: usize| words.get(at).context("a number is missing")?.parse::<usize>().context("no number");
    let (mut left, block) = (number(0)?, vec![0; number(1)?]);
    while left > 0 {
        let part = left.min(block.len());
        socket.write_all(&block[..part]).await?;
        left -= part;
    }
    Ok(())
}

async fn echo(socket: &mut TcpStream, behind: &[u8]) -> Result<()> {
    socket.write_all(behind).await?;
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        buffer.clear();
        if socket.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        socket.write_all(&buffer).await?;
    }
}

/// Two sockets joined, as a forwarded port is when nothing lies between.
async fn forward(socket: &mut TcpStream, behind: &[u8], port: u16) -> Result<()> {
    let mut target = TcpStream::connect(("127.0.0.1", port)).await?;
    target.set_nodelay(true)?;
    target.write_all(behind).await?;
    let (mut from_client, mut to_client) = socket.split();
    let (mut from_target, mut to_target) = target.split();
    let up = async {
        pump(&mut from_client, &mut to_target).await?;
        anyhow::Ok(to_target.shutdown().await?)
    };
    let down = async {
        pump(&mut from_target, &mut to_client).await?;
        anyhow::Ok(to_client.shutdown().await?)
    };
    tokio::try_join!(up, down)?;
    Ok(())
}

/// Everything from one to the other.
async fn pump(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> Result<()> {
    let mut buffer = BytesMut::with_capacity(READ);
    loop {
        buffer.clear();
        if from.read_buf(&mut buffer).await? == 0 {
            return Ok(());
        }
        to.write_all(&buffer).await?;
    }
}
