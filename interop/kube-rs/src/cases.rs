//! The table of cases.

use std::{future::Future, pin::Pin, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{AsyncBufReadExt as _, SinkExt as _, TryStreamExt as _};
use kube::{
    Error,
    api::{AttachParams, ListParams, LogParams, TerminalSize},
};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

use crate::{
    Env,
    session::{SHORT, exits, hash, plain, run, until},
};

type Case = for<'a> fn(&'a Env) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>>;

/// Every case by name.
pub fn table() -> Vec<(&'static str, Case)> {
    vec![
        ("exec: separate stdout and stderr", |env| Box::pin(streams(env))),
        ("exec: exit codes 0, 7, 255 and a signal", |env| Box::pin(exit_codes(env))),
        ("exec: stdin, then its end", |env| Box::pin(stdin(env))),
        ("exec: big stdin, hashed by the remote", |env| Box::pin(big_stdin(env))),
        ("exec: big stdout, hashed here, exit 7", |env| Box::pin(big_stdout(env))),
        ("exec: a terminal and its size", |env| Box::pin(terminal(env))),
        ("exec: Ctrl-C on a terminal", |env| Box::pin(interrupt(env))),
        ("exec: dropping the client ends the command", |env| Box::pin(dropping(env))),
        ("exec: a missing binary is named", |env| Box::pin(missing(env))),
        ("attach: sees the output", |env| Box::pin(attach_output(env))),
        ("attach: reaches stdin", |env| Box::pin(attach_input(env))),
        ("attach: a terminal", |env| Box::pin(attach_terminal(env))),
        ("logs: whole, tail, timestamps, since", |env| Box::pin(logs(env))),
        ("logs: follow to the end of the container", |env| Box::pin(follow(env))),
        ("pods: list", |env| Box::pin(pods(env))),
        ("port-forward: two ports at once, the server speaks first", |env| Box::pin(forward_two(env))),
        ("port-forward: the server closes first, and so does the client", |env| Box::pin(forward_ends(env))),
        ("port-forward: big both ways at once", |env| Box::pin(forward_big(env))),
        ("port-forward: a refused port says why and ends no other", |env| Box::pin(forward_refused(env))),
        ("errors: wrong pod, wrong container", |env| Box::pin(errors(env))),
    ]
}

async fn streams(env: &Env) -> Result<()> {
    let ended = run(env, &["sh", "-c", "echo out; echo err >&2"], None).await?;
    ensure!(
        ended.stdout == "out\n" && ended.stderr == "err\n",
        "got {:?} and {:?}",
        ended.stdout,
        ended.stderr
    );
    ensure!(ended.code == Some(0), "exit {:?}", ended.code);
    Ok(())
}

async fn exit_codes(env: &Env) -> Result<()> {
    for (script, code) in [("exit 0", 0), ("exit 7", 7), ("exit 255", 255), ("kill -9 $$", 137)] {
        let ended = run(env, &["sh", "-c", script], None).await?;
        ensure!(ended.code == Some(code), "{script}: got {:?}", ended.status);
    }
    Ok(())
}

async fn stdin(env: &Env) -> Result<()> {
    for input in [&b""[..], b"hello\n"] {
        let ended = run(env, &["sh", "-c", "cat; echo after; exit 7"], Some(input)).await?;
        let want = format!("{}after\n", String::from_utf8_lossy(input));
        ensure!(ended.stdout == want && ended.code == Some(7), "got {:?}, {:?}", ended.stdout, ended.status);
    }
    Ok(())
}

async fn big_stdin(env: &Env) -> Result<()> {
    let mut process = env.pods.exec("host", ["sha256sum"], &plain().stdin(true)).await?;
    let mut stdin = process.stdin().context("no stdin")?;
    let mut stdout = process.stdout().context("no stdout")?;
    let mut hasher = Sha256::new();
    let mut left = env.big;
    let mut block = vec![0; 256 * 1024];
    while left > 0 {
        for (index, byte) in block.iter_mut().enumerate() {
            *byte = (left as usize).wrapping_mul(31).wrapping_add(index * index) as u8;
        }
        let take = block.len().min(usize::try_from(left)?);
        stdin.write_all(&block[..take]).await?;
        hasher.update(&block[..take]);
        left -= take as u64;
    }
    stdin.shutdown().await?;
    let want: String = hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    until(&mut stdout, &format!("{want}  -\n")).await?;
    exits(&mut process, 0).await
}

async fn big_stdout(env: &Env) -> Result<()> {
    let bytes = env.big.to_string();
    let script = format!("'{}' emit --bytes {bytes} | sha256sum", env.helper);
    let want = run(env, &["sh", "-c", &script], None).await?.stdout;
    let command = [env.helper.as_str(), "emit", "--bytes", &bytes, "--exit", "7"];
    let mut process = env.pods.exec("host", command, &plain()).await?;
    let mut stdout = process.stdout().context("no stdout")?;
    let (count, got) = hash(&mut stdout).await?;
    ensure!(count == env.big && want.starts_with(&got), "{count} of {bytes} bytes, hash {got}, want {want}");
    exits(&mut process, 7).await
}

async fn terminal(env: &Env) -> Result<()> {
    let script = "trap 'stty size; exit 9' WINCH; echo armed; while :; do sleep 0.05; done";
    let params = AttachParams::interactive_tty();
    let mut process = env.pods.exec("host", ["bash", "-c", script], &params).await?;
    let mut stdout = process.stdout().context("no stdout")?;
    until(&mut stdout, "armed").await?;
    let mut sizes = process.terminal_size().context("no sizes")?;
    sizes.send(TerminalSize { width: 155, height: 44 }).await?;
    until(&mut stdout, "44 155\r\n").await?;
    exits(&mut process, 9).await
}

async fn interrupt(env: &Env) -> Result<()> {
    // A shell keeps a signal that comes before its child for after it: wait without a child.
    let params = AttachParams::interactive_tty();
    let mut process = env.pods.exec("host", ["sh", "-c", "echo armed; read line"], &params).await?;
    let mut stdout = process.stdout().context("no stdout")?;
    let mut stdin = process.stdin().context("no stdin")?;
    until(&mut stdout, "armed").await?;
    stdin.write_all(b"\x03").await?;
    exits(&mut process, 130).await
}

async fn dropping(env: &Env) -> Result<()> {
    let mut process = env.pods.exec("host", ["sh", "-c", "echo $$; exec sleep 1000"], &plain()).await?;
    let mut stdout = process.stdout().context("no stdout")?;
    let pid: u32 = until(&mut stdout, "\n").await?.trim().parse()?;
    drop(process);
    for _ in 0..300 {
        if !tokio::fs::try_exists(format!("/proc/{pid}")).await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("process {pid} still runs 15 s after the client dropped its connection")
}

async fn missing(env: &Env) -> Result<()> {
    let ended = run(env, &["no-such-program-here"], None).await?;
    let message = ended.status.message.unwrap_or_default();
    ensure!(message.contains("no-such-program-here"), "the status says {message:?}");
    Ok(())
}

async fn attach_output(env: &Env) -> Result<()> {
    let mut process = env.pods.attach("ticker", &plain()).await?;
    until(&mut process.stdout().context("no stdout")?, "tick ").await?;
    until(&mut process.stderr().context("no stderr")?, "tock ").await?;
    Ok(())
}

async fn attach_input(env: &Env) -> Result<()> {
    let mut process = env.pods.attach("echo", &plain().stdin(true)).await?;
    let mut stdin = process.stdin().context("no stdin")?;
    let mut stdout = process.stdout().context("no stdout")?;
    stdin.write_all(b"hello from kube-rs\n").await?;
    until(&mut stdout, "hello from kube-rs\n").await?;
    Ok(())
}

async fn attach_terminal(env: &Env) -> Result<()> {
    let mut process = env.pods.attach("shell", &AttachParams::interactive_tty()).await?;
    let mut stdin = process.stdin().context("no stdin")?;
    let mut stdout = process.stdout().context("no stdout")?;
    stdin.write_all(b"echo $((40+2))\n").await?;
    until(&mut stdout, "42\r\n").await?;
    Ok(())
}

async fn logs(env: &Env) -> Result<()> {
    let story = |from: u32| (from..=20).map(|line| format!("line {line}\n")).collect::<String>();
    let whole = env.pods.logs("story", &LogParams::default()).await?;
    ensure!(whole == story(1), "whole: {whole:?}");
    let tail = env.pods.logs("story", &LogParams { tail_lines: Some(3), ..LogParams::default() }).await?;
    ensure!(tail == story(18), "tail: {tail:?}");
    let since = LogParams { since_seconds: Some(3600), timestamps: true, ..LogParams::default() };
    let stamped = env.pods.logs("story", &since).await?;
    let bare: String = stamped
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(_, rest)| format!("{rest}\n"))
        .collect();
    ensure!(bare == story(1), "timestamps: {stamped:?}");
    let second = LogParams { container: Some("second".into()), ..LogParams::default() };
    let second = env.pods.logs("two", &second).await?;
    ensure!(second == "from second\n", "container: {second:?}");
    Ok(())
}

async fn follow(env: &Env) -> Result<()> {
    let params = LogParams { follow: true, ..LogParams::default() };
    let mut lines = env.pods.log_stream("kube-rs-follow", &params).await?.lines();
    let mut seen = Vec::new();
    let mut opening = None;
    while let Some(line) = lines.try_next().await? {
        if line == "before" {
            // Following, as the first line shows: now let the container end.
            let gate = format!("{}/kube-rs-follow", env.folder);
            opening = Some(tokio::spawn(tokio::fs::write(gate, "go\n")));
        }
        seen.push(line);
    }
    opening.context("no line came")?.await??;
    ensure!(seen == ["before", "after"], "got {seen:?}");
    Ok(())
}

async fn pods(env: &Env) -> Result<()> {
    let list = env.pods.list(&ListParams::default()).await?;
    for want in ["host", "story", "two"] {
        ensure!(list.items.iter().any(|pod| pod.metadata.name.as_deref() == Some(want)), "no pod {want}");
    }
    Ok(())
}

async fn listen() -> Result<(TcpListener, u16)> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let port = listener.local_addr()?.port();
    Ok((listener, port))
}

async fn expect(from: &mut (impl AsyncRead + Unpin), want: &[u8]) -> Result<()> {
    let mut got = vec![0; want.len()];
    tokio::time::timeout(SHORT, from.read_exact(&mut got)).await.context("the bytes do not come")??;
    ensure!(
        got == want,
        "{:?} expected, got {:?}",
        want.escape_ascii().to_string(),
        got.escape_ascii().to_string()
    );
    Ok(())
}

async fn forward_two(env: &Env) -> Result<()> {
    let (one, two) = (listen().await?, listen().await?);
    let mut session = env.pods.portforward("host", &[one.1, two.1]).await?;
    for (listener, port) in [one, two] {
        let mut local = session.take_stream(port).context("no stream")?;
        let mut remote = tokio::time::timeout(SHORT, listener.accept()).await??.0;
        remote.write_all(b"220 ready").await?;
        expect(&mut local, b"220 ready").await?;
        local.write_all(b"question").await?;
        expect(&mut remote, b"question").await?;
    }
    session.abort();
    Ok(())
}

async fn forward_ends(env: &Env) -> Result<()> {
    let (listener, port) = listen().await?;
    let mut session = env.pods.portforward("host", &[port]).await?;
    let mut local = session.take_stream(port).context("no stream")?;
    let mut remote = tokio::time::timeout(SHORT, listener.accept()).await??.0;
    remote.write_all(b"bye").await?;
    drop(remote);
    expect(&mut local, b"bye").await?;
    ends(&mut local).await?;
    let mut session = env.pods.portforward("host", &[port]).await?;
    let mut local = session.take_stream(port).context("no stream")?;
    let mut remote = tokio::time::timeout(SHORT, listener.accept()).await??.0;
    local.write_all(b"bye").await?;
    local.flush().await?;
    drop(local);
    expect(&mut remote, b"bye").await?;
    ends(&mut remote).await
}

/// Fails unless nothing more comes.
async fn ends(from: &mut (impl AsyncRead + Unpin)) -> Result<()> {
    let more =
        tokio::time::timeout(SHORT, from.read(&mut [0])).await.context("the connection does not end")?;
    ensure!(!matches!(more, Ok(1..)), "more bytes than were sent");
    Ok(())
}

async fn forward_big(env: &Env) -> Result<()> {
    let (listener, port) = listen().await?;
    let mut session = env.pods.portforward("host", &[port]).await?;
    let local = session.take_stream(port).context("no stream")?;
    let mut remote = tokio::time::timeout(SHORT, listener.accept()).await??.0;
    let data: Vec<u8> = (0..16_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (mut local_read, mut local_write) = tokio::io::split(local);
    let (mut remote_read, mut remote_write) = remote.split();
    let (up, down, uploaded, downloaded) = tokio::join!(
        local_write.write_all(&data),
        remote_write.write_all(&data),
        same(&mut remote_read, &data),
        same(&mut local_read, &data),
    );
    up?;
    down?;
    uploaded?;
    downloaded
}

async fn same(from: &mut (impl AsyncRead + Unpin), want: &[u8]) -> Result<()> {
    let mut got = vec![0; want.len()];
    tokio::time::timeout(SHORT * 4, from.read_exact(&mut got)).await.context("the bytes do not come")??;
    ensure!(got == want, "the bytes differ");
    Ok(())
}

async fn forward_refused(env: &Env) -> Result<()> {
    let ((listener, port), (closed, refused)) = (listen().await?, listen().await?);
    drop(closed);
    let mut session = env.pods.portforward("host", &[port, refused]).await?;
    let error = session.take_error(refused).context("no error")?;
    let mut local = session.take_stream(port).context("no stream")?;
    let mut remote = tokio::time::timeout(SHORT, listener.accept()).await??.0;
    let text = tokio::time::timeout(SHORT, error).await?.context("no cause")?;
    ensure!(text.contains(&format!("error forwarding port {refused}")), "{text}");
    remote.write_all(b"still here").await?;
    expect(&mut local, b"still here").await
}

async fn errors(env: &Env) -> Result<()> {
    match env.pods.get("nobody").await {
        Err(Error::Api(status)) if status.code == 404 && status.message.contains("nobody") => {}
        other => bail!("404 that names the pod expected, got {other:?}"),
    }
    // kube-rs reports a refused upgrade by its HTTP status alone.
    for (pod, container) in [("nobody", None), ("two", Some("third"))] {
        let mut params = plain();
        params.container = container.map(str::to_owned);
        match env.pods.exec(pod, ["true"], &params).await {
            Err(error) => {
                let text = format!("{error:?}");
                ensure!(text.contains("404") || text.contains("400"), "400 or 404 expected in {text}");
            }
            Ok(_) => bail!("exec on {pod} {container:?} was not refused"),
        }
    }
    Ok(())
}
