//! The crate `kube` as a client of the bench: keystrokes to an echoing command, one after the other, and how long each took
//! to come back.

use std::time::Instant;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::api::AttachParams;
use kube::{Api, Client, Config};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// `kube-rs URL ROUNDS SIZE`: prints one duration in nanoseconds a line. The URL is the server's, without a path.
#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let [url, rounds, size] = &words[..] else { anyhow::bail!("usage: kube-rs URL ROUNDS SIZE") };
    let (rounds, size): (usize, usize) = (rounds.parse()?, size.parse()?);
    let pods: Api<Pod> = Api::default_namespaced(Client::try_from(Config::new(url.parse()?))?);
    let ask = AttachParams::default().stdin(true).stdout(true).stderr(false);
    let mut process = pods.exec("host", ["@echo"], &ask).await?;
    let mut stdin = process.stdin().context("no stdin")?;
    let mut stdout = process.stdout().context("no stdout")?;
    let (key, mut echo) = (vec![0; size], vec![0; size]);
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        let started = Instant::now();
        stdin.write_all(&key).await?;
        stdin.flush().await?;
        stdout.read_exact(&mut echo).await?;
        times.push(started.elapsed());
    }
    for time in times {
        println!("{}", time.as_nanos());
    }
    process.abort();
    Ok(())
}
