//! The sweep over terminals: exec with tty, known output through two line disciplines, keys typed in raw mode, and a
//! flood of sizes of which the last one has to stay.

use std::{process::Stdio, time::Duration};

use anyhow::{Context as _, Result};
use pty_process::{OwnedWritePty, Size};
use rustix::termios::{LocalModes, OptionalActions, tcgetattr, tcsetattr};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::Notify,
    time::{sleep, timeout},
};
use wsstream::{
    Subprotocol,
    proto::terminal_size::TerminalSize,
    remotecommand::{Request, client},
};
use wsstream_testing::chaos::{
    Checker, Content, Plan, Proxy, Script, Tally,
    oracle::Claim,
    script::{Finish, Input},
    sweep::protocols,
};

use super::{
    Budget,
    attach::claim,
    client::{Actor, Consumed, DEADLINE, collect, connect, program},
    crowd::{Extras, Fate, Judged, brisk, count, crowd, hung, judged, settle},
    puppet::Puppet,
    server::{Place, Running, Target, puppets},
    words::{kubectl_claim, own_claim},
};

/// Sessions under way at once.
const AT_ONCE: usize = 8;

/// How long the commands of clients that left may take: a terminal is hung up, and after 10 s its processes are killed.
const ENDS: Duration = Duration::from_secs(30);

/// One session on a terminal.
#[derive(Debug)]
struct Screen {
    actor: Actor,
    script: Script,
    /// What is typed comes back; otherwise lines are shown.
    typed: bool,
    /// So many sizes are sent; the last one is [`last`](Self::last).
    sizes: u16,
    plan: Plan,
}

/// Runs the sweep.
pub(super) async fn sweep(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let plain = brisk(place, Target::Plain).await?;
    let tls = brisk(place, Target::Tls).await?;
    let (before, before_tls) = (plain.reading()?, tls.reading()?);
    let extras = Extras::of(place, budget);
    let mut tally = crowd(budget, AT_ONCE, async |number| {
        let (screen, target) = Screen::random(seed.wrapping_add(number), extras);
        let server = if target == Target::Tls { &tls } else { &plain };
        let mut tally = Tally::default();
        count(&mut tally, screen.run(place, server).await, || format!("{screen:?}"));
        tally
    })
    .await;
    settle(&plain, &before, &mut tally).await?;
    settle(&tls, &before_tls, &mut tally).await?;
    let left = timeout(ENDS, async {
        while puppets(place) > 0 {
            sleep(Duration::from_millis(100)).await;
        }
    });
    if left.await.is_err() {
        tally.leaks += puppets(place) as u64;
        tally.example(format!("{} commands outlived their terminals", puppets(place)));
    }
    *note = format!("seeds from {seed}");
    Ok(tally)
}

/// What comes of a screen: the mark of raw mode, where one is due, and then the content.
struct Shown<'a> {
    checker: Checker,
    /// The mark has still to come.
    mark: bool,
    /// It has come: keys may be typed.
    ready: &'a Notify,
    wrongs: Vec<String>,
}

impl Shown<'_> {
    fn feed(&mut self, data: &[u8]) {
        let Some((first, rest)) = data.split_first() else { return };
        if !self.mark {
            return self.checker.feed(data);
        }
        self.mark = false;
        if *first != b'!' {
            self.wrongs.push(format!("the screen begins with {first:#x}"));
        }
        self.ready.notify_one();
        self.checker.feed(rest);
    }
}

impl Screen {
    fn random(seed: u64, extras: Extras) -> (Self, Target) {
        let (actor, target) = match seed % 8 {
            0..4 => (Actor::Library, Target::Plain),
            4 => (Actor::Program, Target::Plain),
            7 if extras.kubectl && seed & 8 == 0 => (Actor::Kubectl, Target::Tls),
            _ => (Actor::Program, Target::Tls),
        };
        let mut script = Script::brief(seed);
        let typed = seed & 16 == 0;
        let lengths = (script.stdin, script.stdout);
        script.input = if typed { Input::Echo } else { Input::None };
        script.stdin = if typed { lengths.0 } else { 0 };
        // Whole lines; a terminal shows a byte more of each.
        script.stdout = if typed { 0 } else { lengths.1 / 16 * 16 };
        (script.stderr, script.stalled) = (0, None);
        // 98 and 99 are what a command says that did not get its size or its input.
        script.finish = Finish::Exit(u8::try_from((seed >> 8) % 90).unwrap_or(0));
        script.departure = wsstream_testing::chaos::script::Departure::None;
        let rows = protocols();
        if let Some(row) = rows.get(usize::try_from(seed >> 5).unwrap_or(0) % rows.len()) {
            script.protocol = row.clone();
        }
        if actor == Actor::Kubectl {
            script.protocol = Subprotocol::V5;
        }
        let sizes = if script.protocol.resize() { u16::try_from((seed >> 3) % 300).unwrap_or(0) } else { 0 };
        let (up, down) = script.volume();
        let mut plan = Plan::brief(seed, up + u64::from(sizes) * 40, down);
        extras.flip(&mut plan, target, seed);
        (Self { actor, script, typed, sizes, plan }, target)
    }

    /// The size number `number`, columns and rows; the last one comes once only.
    fn size(&self, number: u16) -> (u16, u16) {
        if number + 1 == self.sizes { (301, 77) } else { (20 + number % 200, 10 + number % 50) }
    }

    fn command(&self, place: &Place) -> Vec<String> {
        let mut words = vec![place.puppet.to_string_lossy().into_owned()];
        words.extend(Puppet::words(&self.script));
        words.push(if self.typed { "--raw" } else { "--lines" }.to_owned());
        if self.sizes > 0 {
            words.push("--size=301x77".to_owned());
        }
        words
    }

    fn shown<'a>(&self, ready: &'a Notify) -> Shown<'a> {
        let script = &self.script;
        let checker = if self.typed {
            script.checker(1)
        } else {
            let content = Content::lines_on_a_terminal(script.seed);
            Checker::new(content, script.stdout / 16 * 17)
        };
        Shown { checker, mark: self.typed, ready, wrongs: Vec::new() }
    }

    async fn run(&self, place: &Place, server: &Running) -> Result<Judged> {
        let proxy = Proxy::start(server.address, self.plan.clone()).await?;
        let session = timeout(DEADLINE, async {
            if self.actor == Actor::Library {
                self.library(place, server, &proxy).await
            } else {
                self.program(place, server, &proxy).await
            }
        });
        let consumed = session.await.unwrap_or_else(|_| Ok(hung(&self.script)))?;
        let fate = Fate::of(&self.plan, &proxy, server.target, false);
        Ok(judged(&self.script, consumed, fate, self.actor == Actor::Kubectl))
    }

    async fn library(&self, place: &Place, server: &Running, proxy: &Proxy) -> Result<Consumed> {
        let script = &self.script;
        let request = Request::command(self.command(place)).stdin(true).stdout(true).tty(true);
        let start = client::exec(request).protocols([script.protocol.clone()]);
        let ready = Notify::new();
        let mut shown = self.shown(&ready);
        let mut process = match connect(&start, false, server, proxy.address(), "host/exec").await? {
            Ok(process) => process,
            Err(why) => return Ok((Claim::Lost(why), shown.checker, script.checker(2), Vec::new())),
        };
        let (mut stdout, mut stdin) = (process.stdout.take(), process.stdin.take());
        let mut resize = process.resize.take();
        let read = async {
            while let Some(stdout) = &mut stdout
                && let Ok(Some(chunk)) = stdout.chunk().await
            {
                shown.feed(&chunk);
            }
        };
        let kind = async {
            let Some(stdin) = &mut stdin else { return };
            ready.notified().await;
            let content = script.content(0);
            let mut sent = 0;
            while sent < script.stdin {
                let length = (script.stdin - sent).min(1 + sent % 3000);
                let keys = content.bytes(sent, usize::try_from(length).unwrap_or(0));
                if stdin.send(keys.into()).await.is_err() {
                    return;
                }
                sent += length;
            }
        };
        let flood = async {
            let Some(resize) = &mut resize else { return };
            for number in 0..self.sizes {
                let (columns, rows) = self.size(number);
                let Some(size) = TerminalSize::new(columns, rows) else { continue };
                if resize.send(size).await.is_err() {
                    return;
                }
                tokio::task::yield_now().await;
            }
        };
        let aside = async {
            tokio::join!(kind, flood);
            std::future::pending::<()>().await;
        };
        let all = async { tokio::join!(process.wait(), read).0 };
        let outcome = tokio::select! {
            outcome = all => outcome,
            () = aside => return Ok(hung(script)),
        };
        let came = shown.checker.seen() + u64::from(self.typed && !shown.mark);
        let (claim, mut wrongs) = claim(outcome, came);
        wrongs.extend(shown.wrongs);
        Ok((claim, shown.checker, script.checker(2), wrongs))
    }

    async fn program(&self, place: &Place, server: &Running, proxy: &Proxy) -> Result<Consumed> {
        let script = &self.script;
        let (pty, pts) = pty_process::open().context("no pseudo-terminal")?;
        pty.resize(Size::new(24, 80))?;
        // Keys that are typed when the client has left already would be shown by the terminal itself.
        let mut modes = tcgetattr(&pty)?;
        modes.local_modes.remove(LocalModes::ECHO);
        tcsetattr(&pty, OptionalActions::Now, &modes)?;
        let (made, kubeconfig) = program(self.actor, place, server, proxy.address())?;
        let mut command = pty_process::Command::from(made).arg("exec");
        if self.actor == Actor::Program {
            let name = script.protocol.name();
            command = command.args(["--quiet", "--protocol", if name.is_empty() { "none" } else { name }]);
        }
        command = command.args(["-it", "-c", "host", "host", "--"]).args(self.command(place));
        // Its own words stand apart, and what the screen shows is the command's.
        let mut child = command
            .stderr(Stdio::piped())
            .env("TERM", "xterm")
            .kill_on_drop(true)
            .spawn(pts)
            .context("cannot run the client")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (mut from, mut to) = pty.into_split();
        let ready = Notify::new();
        let mut shown = self.shown(&ready);
        let read = async {
            let mut buffer = vec![0; 4096];
            // A terminal whose last process is gone is an error.
            while let Ok(n @ 1..) = from.read(&mut buffer).await {
                shown.feed(buffer.get(..n).unwrap_or_default());
            }
        };
        let hands = async {
            self.flood(&to).await;
            if self.typed {
                ready.notified().await;
                let keys = script.content(0).bytes(0, usize::try_from(script.stdin).unwrap_or(0));
                let _ = to.write_all(&keys).await;
            }
            std::future::pending::<()>().await;
        };
        let all = async { tokio::join!(collect(stderr), child.wait(), read) };
        let (words, status, ()) = tokio::select! {
            all = all => all,
            () = hands => return Ok(hung(script)),
        };
        let _ = std::fs::remove_file(kubeconfig);
        let mut wrongs = std::mem::take(&mut shown.wrongs);
        let text = String::from_utf8_lossy(&words);
        if text.contains("panicked at") {
            wrongs.push(format!("panic: {text}"));
        }
        let claim = match self.actor {
            Actor::Kubectl => kubectl_claim(status?, &words),
            _ => own_claim(status?, &words, &mut wrongs),
        };
        Ok((claim, shown.checker, script.checker(2), wrongs))
    }

    /// Pulls at the corner of the window.
    async fn flood(&self, window: &OwnedWritePty) {
        for number in 0..self.sizes {
            let (columns, rows) = self.size(number);
            let _ = window.resize(Size::new(rows, columns));
            if number % 8 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    }
}
