//! The sweep over attach: clients at supervised commands of `wsstream serve`, from the beginning and in mid-output.
//!
//! A command waits for a line on its stdin, which the client sends once it is attached: so all of the output is due to
//! it. A client that comes late is due everything from where it joined; the lines tell where that was. Beside it
//! another one is attached all the time over a calm wire, and nothing that happens to the late one may cost it a byte.

use std::{
    process::Stdio,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};
use wsstream::{
    Subprotocol,
    bytes::Bytes,
    remotecommand::{Outcome, Request, client},
};
use wsstream_testing::chaos::{
    Checker, Content, Plan, Proxy, Script, Tally,
    oracle::Claim,
    script::{Departure, Finish, Input},
};

use super::{
    Budget,
    client::{Actor, Consumed, DEADLINE, GO, Session, collect, connect, drain, program},
    crowd::{Extras, Fate, Judged, count, crowd, hung, judged},
    puppet::Puppet,
    server::{Place, Running, Target},
    supervised::supervised,
    words::own_claim,
};

/// Commands of one server: each is attached to once, and then it has ended.
const PER_SERVER: u64 = 32;

/// Sessions under way at once.
const AT_ONCE: usize = 8;

/// Lines of a command that is joined in its middle.
const LINES: u64 = 3000;

/// How long its last quarter waits for the one who comes late.
const LATE: Duration = Duration::from_secs(15);

/// One command and who attaches to it.
#[derive(Debug)]
enum Join {
    /// From the beginning, as the script of the session says.
    Start(Box<Session>),
    /// In mid-output, after so long.
    Middle { actor: Actor, script: Box<Script>, plan: Plan, after: Duration },
}

/// Runs the sweep.
pub(super) async fn sweep(place: &Place, budget: &Budget, seed: u64, note: &mut String) -> Result<Tally> {
    let mut tally = Tally::default();
    let until = Instant::now() + budget.time;
    let extras = Extras::of(place, budget);
    let mut servers = 0;
    while Instant::now() < until && budget.sessions.is_none_or(|most| tally.sessions < most) {
        let target = if servers % 4 == 3 { Target::Tls } else { Target::Plain };
        let first = seed.wrapping_add(servers * PER_SERVER);
        let joins: Vec<Join> =
            (0..PER_SERVER).map(|number| Join::random(first.wrapping_add(number), target, extras)).collect();
        let commands: Vec<_> = joins.iter().map(Join::words).collect();
        let sessions = async |server: &Running| {
            let time = until.saturating_duration_since(Instant::now());
            let all = Budget { time, sessions: Some(PER_SERVER) };
            crowd(&all, AT_ONCE, async |number| {
                let mut tally = Tally::default();
                if let Some(join) = usize::try_from(number).ok().and_then(|number| joins.get(number)) {
                    join.run(place, server, number, &mut tally).await;
                }
                tally
            })
            .await
        };
        tally.add(supervised(place, target, &commands, sessions).await?);
        servers += 1;
    }
    *note = format!("{servers} servers with {PER_SERVER} commands each, seeds from {seed}");
    Ok(tally)
}

impl Join {
    fn random(seed: u64, target: Target, extras: Extras) -> Self {
        let actor = match target {
            Target::Plain if seed % 4 < 2 => Actor::Library,
            Target::Tls if extras.kubectl && seed.is_multiple_of(5) => Actor::Kubectl,
            _ => Actor::Program,
        };
        let mut session = Session::random(actor, seed, false);
        extras.flip(&mut session.plan, target, seed);
        // A clean end of the session is all that attach tells.
        session.code = Some(0);
        // The calm client is the library, which speaks plain TCP here.
        if !(seed >> 2).is_multiple_of(3) || target == Target::Tls {
            return Self::Start(Box::new(session));
        }
        let mut script = session.script;
        script.input = Input::None;
        script.departure = Departure::None;
        (script.stderr, script.stdin) = (0, 0);
        script.stdout = LINES * 16;
        script.finish = Finish::Exit(0);
        let (up, down) = script.volume();
        let plan = Plan::brief(seed, up, down);
        let after = Duration::from_millis(seed % 150);
        Self::Middle { actor, script: Box::new(script), plan, after }
    }

    /// The command.
    fn words(&self) -> Vec<String> {
        let (script, more): (&Script, &[&str]) = match self {
            Self::Start(session) => (&session.script, &["--go"]),
            Self::Middle { script, .. } => (script, &["--go", "--lines", "--parts=32"]),
        };
        Puppet::words(script).into_iter().chain(more.iter().map(|word| (*word).to_owned())).collect()
    }

    fn story(&self) -> String {
        match self {
            Self::Start(session) => format!("attach {}", session.story()),
            Self::Middle { actor, script, plan, after } => {
                format!("attach {actor:?} in the middle, after {after:?}: {script}\n      plan: {plan}")
            }
        }
    }

    async fn run(&self, place: &Place, server: &Running, number: u64, tally: &mut Tally) {
        let pod = format!("p{number}");
        let session = match self {
            Self::Start(session) => {
                let mut session = session.as_ref().clone();
                session.attach = Some(pod);
                let foreign = session.actor == Actor::Kubectl;
                let run = session.run(place, server).await;
                run.map(|(verdict, bytes)| Judged { verdict, bytes, foreign })
            }
            Self::Middle { actor, script, plan, after } => {
                let late = Late { actor: *actor, script, plan, after: *after };
                late.run(place, server, &pod).await
            }
        };
        count(tally, session, || self.story());
    }
}

/// One who comes late, and one who is there all the time.
struct Late<'a> {
    actor: Actor,
    script: &'a Script,
    plan: &'a Plan,
    after: Duration,
}

impl Late<'_> {
    async fn run(&self, place: &Place, server: &Running, pod: &str) -> Result<Judged> {
        let script = self.script;
        let length = script.stdout;
        let content = Content::lines(script.seed);
        let request = Request::default().stdin(true).stdout(true);
        let start = client::attach(request).protocols([Subprotocol::V5]);
        let mut first = connect(&start, false, server, server.address, &format!("{pod}/attach"))
            .await?
            .map_err(|error| anyhow::anyhow!("the calm client cannot attach: {error}"))?;
        let mut stdin = first.stdin.take().context("no stdin")?;
        let (heard, unheard) = (Notify::new(), Notify::new());
        let conduct = async {
            stdin.send(Bytes::from_static(GO)).await?;
            let _ = timeout(LATE, heard.notified()).await;
            stdin.send(Bytes::from_static(GO)).await
        };
        let late = async {
            sleep(self.after).await;
            let consumed = self.join(place, server, pod, &heard).await;
            heard.notify_one();
            consumed
        };
        let calm = follow(first, Checker::new(content, length), &unheard);
        let all = async { tokio::join!(conduct, late, calm) };
        let Ok((conducted, late, (claim, checker, wrongs))) = timeout(DEADLINE * 2, all).await else {
            return Ok(judged(script, hung(script), Fate::CALM, false));
        };
        let (mut consumed, fate) = late?;
        consumed.3.extend(wrongs);
        if let Err(error) = conducted {
            consumed.3.push(format!("the calm client cannot send: {error}"));
        }
        if claim != Claim::Exited(0) || !checker.is_complete() {
            consumed.3.push(format!("the calm client beside it: {claim:?}, {checker}"));
        }
        Ok(judged(script, consumed, fate, false))
    }

    /// Joins, and reads to the end.
    async fn join(
        &self,
        place: &Place,
        server: &Running,
        pod: &str,
        heard: &Notify,
    ) -> Result<(Consumed, Fate)> {
        let script = self.script;
        let proxy = Proxy::start(server.address, self.plan.clone()).await?;
        let checker = Checker::late(Content::lines(script.seed), script.stdout);
        let nothing = script.checker(2);
        let session = async {
            if self.actor == Actor::Library {
                let request = Request::default().stdout(true);
                let start = client::attach(request).protocols([script.protocol.clone()]);
                return Ok(
                    match connect(&start, false, server, proxy.address(), &format!("{pod}/attach")).await? {
                        Ok(process) => {
                            let (claim, checker, wrongs) = follow(process, checker, heard).await;
                            (claim, checker, nothing, wrongs)
                        }
                        Err(why) => (Claim::Lost(why), checker, nothing, Vec::new()),
                    },
                );
            }
            self.program(place, server, &proxy, pod, checker, heard).await
        };
        let consumed = timeout(DEADLINE, session).await.unwrap_or_else(|_| Ok(hung(script)));
        Ok((consumed?, Fate::of(self.plan, &proxy, server.target, false)))
    }

    async fn program(
        &self,
        place: &Place,
        server: &Running,
        proxy: &Proxy,
        pod: &str,
        checker: Checker,
        heard: &Notify,
    ) -> Result<Consumed> {
        let script = self.script;
        let (mut command, kubeconfig) = program(self.actor, place, server, proxy.address())?;
        let name = script.protocol.name();
        command.args(["attach", "--quiet", "--protocol", if name.is_empty() { "none" } else { name }, pod]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().context("cannot run the client")?;
        let stdout = child.stdout.take().context("no stdout")?;
        let stderr = child.stderr.take().context("no stderr")?;
        let (checker, words, status) =
            tokio::join!(drain(stdout, checker, script.taking, Some(heard)), collect(stderr), child.wait());
        let _ = std::fs::remove_file(kubeconfig);
        let mut wrongs = Vec::new();
        let claim = own_claim(status?, &words, &mut wrongs);
        Ok((claim, checker, script.checker(2), wrongs))
    }
}

/// Reads stdout to the end beside the session; `heard` is told of everything that comes.
pub(super) async fn follow(
    mut process: client::Process,
    mut checker: Checker,
    heard: &Notify,
) -> (Claim, Checker, Vec<String>) {
    let stdout = process.stdout.take();
    let read = async {
        if let Some(mut stdout) = stdout {
            while let Ok(Some(chunk)) = stdout.chunk().await {
                checker.feed(&chunk);
                heard.notify_one();
            }
        }
        checker
    };
    let (outcome, checker) = tokio::join!(process.wait(), read);
    let (claim, wrongs) = claim(outcome, checker.seen());
    (claim, checker, wrongs)
}

/// What an outcome claims, and whether it counts the bytes of stdout as we do.
pub(super) fn claim(outcome: Outcome, stdout: u64) -> (Claim, Vec<String>) {
    let mut wrongs = Vec::new();
    let claim = match outcome {
        Outcome::Exited(code) => Claim::Exited(code.get()),
        Outcome::Failed(status) => Claim::Failed(status.message),
        Outcome::Ended => Claim::Ended,
        Outcome::Lost(lost) => {
            if lost.stdout != stdout {
                wrongs.push(format!("a loss says that {} bytes came, but {stdout} did", lost.stdout));
            }
            Claim::Lost(lost.to_string())
        }
        other => {
            wrongs.push(format!("an outcome that the judge does not know: {other}"));
            Claim::Lost(other.to_string())
        }
    };
    (claim, wrongs)
}
