//! The sweep over what `kubectl cp` does: tar through exec, down (`tar cf -`) and up (`tar xmf -`), by our library, our
//! program, and kubectl itself in the foreign column.
//!
//! A copy that says it succeeded must have made every file as it was, by hash; a cut must show as a failure.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
};

use anyhow::{Context as _, Result, bail};
use sha2::{Digest as _, Sha256};
use tokio::{
    io::AsyncWriteExt as _,
    process::{Child, Command},
    time::timeout,
};
use wsstream::{
    Subprotocol,
    bytes::Bytes,
    remotecommand::{Request, client},
};
use wsstream_testing::chaos::{
    Content, Plan, Proxy, Script, Tally, Verdict, oracle::Claim, sweep::protocols,
};

use super::{
    Budget,
    attach::claim,
    client::{Actor, DEADLINE, collect, connect, program},
    crowd::{Extras, Fate, Judged, brisk, count, crowd, settle},
    server::{Place, Running, Target},
    words::{kubectl_claim, own_claim},
};

/// Sessions under way at once: each is three or four processes.
const AT_ONCE: usize = 6;

/// The longest message of the library.
const MESSAGE: usize = 32 << 10;

/// One copy.
#[derive(Debug)]
struct Copy {
    seed: u64,
    actor: Actor,
    protocol: Subprotocol,
    target: Target,
    up: bool,
    plan: Plan,
    /// The lengths of the files.
    files: Vec<u64>,
}

/// Runs the sweep.
pub(super) async fn sweep(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let plain = brisk(place, Target::Plain).await?;
    let tls = brisk(place, Target::Tls).await?;
    let (before, before_tls) = (plain.reading()?, tls.reading()?);
    let extras = Extras::of(place, budget);
    let mut tally = crowd(budget, AT_ONCE, async |number| {
        let copy = Copy::random(seed.wrapping_add(number), extras);
        let server = if copy.target == Target::Tls { &tls } else { &plain };
        let mut tally = Tally::default();
        count(&mut tally, copy.run(place, server).await, || format!("{copy:?}"));
        tally
    })
    .await;
    settle(&plain, &before, &mut tally).await?;
    settle(&tls, &before_tls, &mut tally).await?;
    *note = format!("seeds from {seed}{}", if extras.kubectl { "" } else { "; without kubectl" });
    Ok(tally)
}

impl Copy {
    fn random(seed: u64, extras: Extras) -> Self {
        let (actor, target) = match seed % 8 {
            0..4 => (Actor::Library, Target::Plain),
            4 => (Actor::Program, Target::Plain),
            7 if extras.kubectl => (Actor::Kubectl, Target::Tls),
            _ => (Actor::Program, Target::Tls),
        };
        // The script's lengths are short ones for the most part, with long ones in between.
        let draws = (0..=(seed >> 3) % 4).map(|file| Script::random(seed ^ file << 40).stdin);
        let files: Vec<u64> = draws.collect();
        let rows = protocols();
        let index = usize::try_from(seed >> 5).unwrap_or(0) % rows.len();
        let protocol = match actor {
            Actor::Library | Actor::Program => rows.get(index).cloned().unwrap_or(Subprotocol::V5),
            Actor::Kubectl | Actor::ClientGo => Subprotocol::V5,
        };
        let up = seed & 16 == 0;
        let long = 2000 + files.iter().map(|length| length + 1024).sum::<u64>();
        let mut plan = Plan::brief(seed, if up { long } else { 700 }, if up { 700 } else { long });
        extras.flip(&mut plan, target, seed);
        Self { seed, actor, protocol, target, up, plan, files }
    }

    async fn run(&self, place: &Place, server: &Running) -> Result<Judged> {
        let folder = tempfile::Builder::new().prefix("copy-").tempdir_in(place.folder.path())?;
        let (from, to) = (folder.path().join("from"), folder.path().join("to"));
        fs::create_dir(&from)?;
        fs::create_dir(&to)?;
        for (name, length) in self.names().iter().zip(&self.files) {
            let content = Content::new(self.seed, u8::try_from(name.len()).unwrap_or(0));
            fs::write(from.join(name), content.bytes(0, usize::try_from(*length)?))?;
        }
        let proxy = Proxy::start(server.address, self.plan.clone()).await?;
        let copied = timeout(DEADLINE, async {
            match self.actor {
                Actor::Library if self.up => self.library_up(server, &proxy, &from, &to).await,
                Actor::Library => self.library_down(server, &proxy, &from, &to).await,
                Actor::Program => self.program(place, server, &proxy, &from, &to).await,
                Actor::Kubectl | Actor::ClientGo => self.kubectl(place, server, &proxy, &from, &to).await,
            }
        });
        let (claim, mut wrongs) = match copied.await {
            Ok(copied) => copied?,
            Err(_) => (Claim::Hung, vec!["the copy never ended".to_owned()]),
        };
        let succeeded = match claim {
            Claim::Exited(0) => true,
            Claim::Ended => !self.protocol.json_status(),
            _ => false,
        };
        let differs = if succeeded { difference(&from, &to)? } else { None };
        wrongs.extend(differs.map(|what| format!("the copy succeeded, but {what}")));
        let fate = Fate::of(&self.plan, &proxy, server.target, false);
        let calm = fate.is_calm();
        if !succeeded && calm && claim != Claim::Hung {
            wrongs.push(format!("nothing happened to the copy, yet {claim:?}"));
        }
        let verdict = match (wrongs.is_empty(), succeeded) {
            (false, _) if fate.is_blind() => Verdict::Blind,
            (false, _) => Verdict::Lie(wrongs.join("; ")),
            (true, true) => Verdict::Complete,
            (true, false) => Verdict::Reported,
        };
        let bytes = if succeeded { self.files.iter().sum() } else { 0 };
        Ok(Judged { verdict, bytes, foreign: self.actor == Actor::Kubectl })
    }

    /// Names of different lengths, so that each file has a content of its own.
    fn names(&self) -> Vec<String> {
        (1..=self.files.len()).map(|number| "f".repeat(number)).collect()
    }

    /// The remote command that takes the archive. Before v5 nothing ends its input, so it counts.
    fn taker(&self, to: &Path, length: usize) -> Vec<String> {
        let to = to.display();
        if self.protocol.half_close() {
            return ["tar", "xmf", "-", "-C", &to.to_string()].map(str::to_owned).into();
        }
        ["sh".to_owned(), "-c".to_owned(), format!("head -c {length} | tar xmf - -C '{to}'")].into()
    }

    fn giver(from: &Path) -> Vec<String> {
        ["tar", "cf", "-", "-C", &from.display().to_string(), "."].map(str::to_owned).into()
    }

    async fn library_up(
        &self,
        server: &Running,
        proxy: &Proxy,
        from: &Path,
        to: &Path,
    ) -> Result<(Claim, Vec<String>)> {
        let archive = archive(from).await?;
        let request = Request::command(self.taker(to, archive.len())).stdin(true).stdout(true).stderr(true);
        let start = client::exec(request).protocols([self.protocol.clone()]);
        let process = match connect(&start, false, server, proxy.address(), "host/exec").await? {
            Ok(process) => process,
            Err(why) => return Ok((Claim::Lost(why), Vec::new())),
        };
        let collected = if self.protocol.half_close() {
            process.output_with(archive.into()).await
        } else {
            feed(process, archive.into()).await
        };
        let (claim, mut wrongs) = claim(collected.outcome, collected.stdout.len() as u64);
        if !collected.stderr.is_empty() && claim == Claim::Exited(0) {
            wrongs.push(format!("tar says {:?}", String::from_utf8_lossy(&collected.stderr)));
        }
        Ok((claim, wrongs))
    }

    async fn library_down(
        &self,
        server: &Running,
        proxy: &Proxy,
        from: &Path,
        to: &Path,
    ) -> Result<(Claim, Vec<String>)> {
        let request = Request::command(Self::giver(from)).stdout(true).stderr(true);
        let start = client::exec(request).protocols([self.protocol.clone()]);
        let mut process = match connect(&start, false, server, proxy.address(), "host/exec").await? {
            Ok(process) => process,
            Err(why) => return Ok((Claim::Lost(why), Vec::new())),
        };
        let mut tar = extract(to)?;
        let mut sink = tar.stdin.take().context("no stdin")?;
        let stdout = process.stdout.take();
        let read = async {
            let mut read = 0;
            if let Some(mut stdout) = stdout {
                while let Ok(Some(chunk)) = stdout.chunk().await {
                    read += chunk.len() as u64;
                    // What tar does not take shows in its files.
                    let _ = sink.write_all(&chunk).await;
                }
            }
            drop(sink);
            read
        };
        let (outcome, read) = tokio::join!(process.wait(), read);
        let (claim, wrongs) = claim(outcome, read);
        local(claim, wrongs, tar.wait().await?)
    }

    async fn program(
        &self,
        place: &Place,
        server: &Running,
        proxy: &Proxy,
        from: &Path,
        to: &Path,
    ) -> Result<(Claim, Vec<String>)> {
        let (mut command, kubeconfig) = program(self.actor, place, server, proxy.address())?;
        let name = self.protocol.name();
        command.args(["exec", "--quiet", "--protocol", if name.is_empty() { "none" } else { name }]);
        command.args(["-c", "host"]).stderr(Stdio::piped()).kill_on_drop(true);
        let (status, words, tar) = if self.up {
            let archive = archive(from).await?;
            command.args(["-i", "host", "--"]).args(self.taker(to, archive.len()));
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
            let mut stdin = child.stdin.take().context("no stdin")?;
            let stderr = child.stderr.take().context("no stderr")?;
            let send = async {
                let _ = stdin.write_all(&archive).await;
                drop(stdin);
            };
            let ((), words, status) = tokio::join!(send, collect(stderr), child.wait());
            (status?, words, None)
        } else {
            command.args(["host", "--"]).args(Self::giver(from));
            let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
            let mut stdout = child.stdout.take().context("no stdout")?;
            let stderr = child.stderr.take().context("no stderr")?;
            let mut tar = extract(to)?;
            let mut sink = tar.stdin.take().context("no stdin")?;
            let pipe = async {
                let _ = tokio::io::copy(&mut stdout, &mut sink).await;
                drop(sink);
            };
            let ((), words, status) = tokio::join!(pipe, collect(stderr), child.wait());
            (status?, words, Some(tar.wait().await?))
        };
        let _ = fs::remove_file(kubeconfig);
        let mut wrongs = Vec::new();
        // What tar complains about comes before our program's own words.
        let text = String::from_utf8_lossy(&words).into_owned();
        let own = text.find("wsstream: ").or_else(|| text.find("Error from server")).unwrap_or(text.len());
        let claim = own_claim(status, text.get(own..).unwrap_or_default().as_bytes(), &mut wrongs);
        if text.contains("panicked at") {
            wrongs.push(format!("panic: {text}"));
        }
        match tar {
            Some(tar) => local(claim, wrongs, tar),
            None => Ok((claim, wrongs)),
        }
    }

    async fn kubectl(
        &self,
        place: &Place,
        server: &Running,
        proxy: &Proxy,
        from: &Path,
        to: &Path,
    ) -> Result<(Claim, Vec<String>)> {
        let (mut command, kubeconfig) = program(self.actor, place, server, proxy.address())?;
        let remote = |path: &Path| format!("default/host:{}", path.display());
        // Both copy what is in the folder.
        let inside: PathBuf = from.join(".");
        let (source, sink) = if self.up {
            (inside.display().to_string(), remote(to))
        } else {
            (remote(&inside), to.display().to_string())
        };
        command.args(["cp", "-c", "host", &source, &sink]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (words, status) = tokio::join!(collect(stderr), child.wait());
        let _ = fs::remove_file(kubeconfig);
        Ok((kubectl_claim(status?, &words), Vec::new()))
    }
}

/// The end of a copy down is also that of the tar at this end: one that complains is a failure that is seen.
fn local(claim: Claim, mut wrongs: Vec<String>, tar: ExitStatus) -> Result<(Claim, Vec<String>)> {
    if matches!(claim, Claim::Exited(0) | Claim::Ended) && !tar.success() {
        wrongs.push(format!("the archive was complete, they say, but tar ended with {tar}"));
    }
    Ok((claim, wrongs))
}

/// An archive of a folder, in memory.
async fn archive(from: &Path) -> Result<Vec<u8>> {
    let words = Copy::giver(from);
    let output = Command::new("tar").args(words.get(1..).unwrap_or_default()).output().await?;
    if !output.status.success() {
        bail!("tar: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(output.stdout)
}

fn extract(to: &Path) -> Result<Child> {
    let mut command = Command::new("tar");
    command.args(["xmf", "-", "-C"]).arg(to).stdin(Stdio::piped()).stderr(Stdio::null());
    command.kill_on_drop(true).spawn().context("cannot run tar")
}

/// Sends the input without an end, which cannot be said.
async fn feed(mut process: client::Process, mut input: Bytes) -> client::Collected {
    let stdin = process.stdin.take();
    let send = async {
        let Some(mut stdin) = stdin else { return };
        while !input.is_empty() {
            let message = input.split_to(input.len().min(MESSAGE));
            if stdin.send(message).await.is_err() {
                return;
            }
        }
    };
    tokio::join!(send, process.output()).1
}

/// The first difference between two folders of files, if there is one.
fn difference(from: &Path, to: &Path) -> Result<Option<String>> {
    let names = |folder: &Path| -> Result<Vec<_>> {
        let mut names: Vec<_> = fs::read_dir(folder)?
            .map(|entry| entry.map(|entry| entry.file_name()))
            .collect::<std::io::Result<_>>()?;
        names.sort();
        Ok(names)
    };
    let (sent, came) = (names(from)?, names(to)?);
    if sent != came {
        return Ok(Some(format!("{sent:?} became {came:?}")));
    }
    for name in sent {
        let (a, b) = (fs::read(from.join(&name))?, fs::read(to.join(&name))?);
        if Sha256::digest(&a) != Sha256::digest(&b) {
            return Ok(Some(format!("{name:?} has {} bytes of {}, or others", b.len(), a.len())));
        }
    }
    Ok(None)
}
