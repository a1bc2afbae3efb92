//! What relaying a command's output over a channel costs the server, beside the same relay without WebSocket.
//!
//! Both read a child's pipe in 32 KiB and write to a loopback TCP connection; the reader is a plain thread. Runs are
//! interleaved, so that drift hits both alike, and medians of the server thread's CPU time are compared: seconds differ
//! between machines, the ratio does not. Usage: `cargo run --release [-- MIB RUNS]`.

use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::Stdio;
use std::time::Duration;

use bytes::BytesMut;
use rustix::time::{ClockId, clock_gettime};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{ChildStdout, Command};
use wsstream::proto::ws::{CloseCode, CloseReason};
use wsstream::{ChannelId, ChannelMode, Connection, Subprotocol};

const READ: usize = 32 << 10;

#[derive(Clone, Copy, Debug)]
enum Relay {
    Raw,
    Channel,
}

fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

async fn source(bytes: u64) -> std::io::Result<ChildStdout> {
    let mut child =
        Command::new("head").args(["-c", &bytes.to_string(), "/dev/zero"]).stdout(Stdio::piped()).spawn()?;
    let pipe = child.stdout.take().ok_or(std::io::ErrorKind::BrokenPipe)?;
    // Reaped when it ends; the relay ends with its pipe.
    tokio::spawn(async move { child.wait().await });
    Ok(pipe)
}

async fn relay(kind: Relay, socket: TcpStream, bytes: u64) -> std::io::Result<()> {
    socket.set_nonblocking(true)?;
    let mut socket = tokio::net::TcpStream::from_std(socket)?;
    let mut pipe = source(bytes).await?;
    let mut buffer = BytesMut::new();
    match kind {
        Relay::Raw => loop {
            buffer.clear();
            buffer.reserve(READ);
            if pipe.read_buf(&mut buffer).await? == 0 {
                return Ok(());
            }
            socket.write_all(&buffer).await?;
        },
        Relay::Channel => {
            let modes = [ChannelMode::Ignore, ChannelMode::Write];
            let (connection, driver) = Connection::builder(Subprotocol::V5).channels(modes).server(socket);
            let driver = tokio::spawn(driver);
            let mut stdout = connection.writer(ChannelId::STDOUT).ok_or(std::io::ErrorKind::Other)?;
            loop {
                buffer.reserve(READ);
                if pipe.read_buf(&mut buffer).await? == 0 {
                    break;
                }
                stdout.send(buffer.split().freeze()).await?;
            }
            stdout.flushed().await?;
            connection.shutdown(&CloseReason::code(CloseCode::NORMAL));
            drop((connection, stdout));
            let _ = driver.await;
            Ok(())
        }
    }
}

/// CPU of one relay's server thread.
fn run(kind: Relay, bytes: u64) -> std::io::Result<Duration> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let mut client = TcpStream::connect(listener.local_addr()?)?;
    let (socket, _) = listener.accept()?;
    socket.set_nodelay(true)?;
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 256 << 10];
        let mut total = 0;
        // The Close frame is not answered: the server takes our end of stream for it.
        while total < bytes {
            match client.read(&mut buffer) {
                Ok(0) | Err(_) => break,
                Ok(n) => total += n as u64,
            }
        }
        total
    });
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = cpu();
    runtime.block_on(relay(kind, socket, bytes))?;
    let spent = cpu() - before;
    let total = reader.join().unwrap_or(0);
    assert!(total >= bytes, "{kind:?}: the reader got {total} of {bytes} bytes");
    Ok(spent)
}

fn main() -> std::io::Result<()> {
    let mut numbers = std::env::args().skip(1).filter_map(|text| text.parse::<u64>().ok());
    let bytes = numbers.next().unwrap_or(512) << 20;
    let runs = numbers.next().unwrap_or(11);
    let (mut raw, mut channel) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        raw.push(run(Relay::Raw, bytes)?);
        channel.push(run(Relay::Channel, bytes)?);
    }
    raw.sort();
    channel.sort();
    let per_gib =
        |times: &[Duration], at: usize| times[at].as_secs_f64() * 1e3 * f64::from(1 << 30) / bytes as f64;
    for (name, times) in [("raw pipe-to-socket relay", &raw), ("the same over a channel", &channel)] {
        let (low, mid, high) =
            (per_gib(times, 0), per_gib(times, times.len() / 2), per_gib(times, times.len() - 1));
        println!("{name:26} {mid:7.0} ms/GiB server CPU  ({low:.0} to {high:.0}, {runs} runs)");
    }
    let ratio = channel[channel.len() / 2].as_secs_f64() / raw[raw.len() / 2].as_secs_f64();
    println!("ratio {ratio:.2}");
    Ok(())
}
