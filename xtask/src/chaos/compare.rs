//! `cargo xtask chaos --compare`: the same sessions over the same wires with our code and with Go's, in one run, as a
//! table for docs/reliability.md.
//!
//! Each seed is one session, run once by each pair of client and server, one after the other; several seeds are under
//! way at once. Nothing is retried and nothing is left out.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    process::Command,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use wsstream::Subprotocol;
use wsstream_testing::chaos::{
    Tally, Verdict,
    oracle::{Claim, judge},
    script::Finish,
};

use super::{
    Budget,
    client::{Actor, Session},
    peers::missing,
    server::{Place, Reading, Running, Target},
    sockets::join_all,
};
use crate::workspace::{Workspace, capture};

/// Seeds under way at once.
const AT_ONCE: usize = 6;

/// How long the servers may take to let go of everything.
const SETTLES: Duration = Duration::from_secs(30);

/// The status of a command that was ended by SIGKILL.
const KILLED: Claim = Claim::Exited(128 + 9);

/// So many of the sessions that went wrong are told of.
const STORIES: usize = 400;

/// The table stands between these lines.
const BEGIN: &str = "<!-- compare: begin -->";
const END: &str = "<!-- compare: end -->";

/// Who is compared: client and server.
const PAIRS: [(Actor, Target); 4] = [
    (Actor::Library, Target::Plain),
    (Actor::Library, Target::Go),
    (Actor::ClientGo, Target::Plain),
    (Actor::ClientGo, Target::Go),
];

/// The versions with a status that all four speak.
const VERSIONS: [Subprotocol; 2] = [Subprotocol::V5, Subprotocol::V4];

/// What became of the sessions of one pair over one version.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    sessions: u64,
    complete: u64,
    /// Reported as lost or failed, and the wire was cut.
    reported: u64,
    /// Reported as lost or failed, although nothing or only a short pause had happened to the wire.
    causeless: u64,
    /// Success with bytes missing or changed, a wrong exit code, or no end.
    wrong: u64,
}

impl Counts {
    fn add(&mut self, other: &Self) {
        self.sessions += other.sessions;
        self.complete += other.complete;
        self.reported += other.reported;
        self.causeless += other.causeless;
        self.wrong += other.wrong;
    }
}

/// One row for each pair and version, and the stories of what should not be.
#[derive(Debug, Default)]
struct Table {
    counts: [[Counts; 2]; PAIRS.len()],
    stories: Vec<String>,
    bytes: u64,
}

/// Runs the comparison, prints its table and writes it into docs/reliability.md. Only what our client says of our
/// server counts as ours.
pub(super) async fn run(workspace: &Workspace, place: &Place, budget: &Budget, seed: u64) -> Result<Tally> {
    if let Err(why) = place.peers.go() {
        println!("{}", missing(&why)?);
        return Ok(Tally::default());
    }
    let ours = Running::start(place, Target::Plain, None).await?;
    let theirs = Running::start(place, Target::Go, None).await?;
    let before = [ours.reading()?, theirs.reading()?];

    let next = AtomicU64::new(0);
    let until = Instant::now() + budget.time;
    let worker = || async {
        let mut table = Table::default();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if Instant::now() >= until || budget.sessions.is_some_and(|most| number >= most) {
                return table;
            }
            table.seed(place, [&ours, &theirs], seed.wrapping_add(number)).await;
        }
    };
    let mut table = Table::default();
    for part in join_all((0..AT_ONCE).map(|_| worker())).await {
        table.add(part);
    }
    let (held, leaks) = ours.settles(&before[0], SETTLES).await?;
    let (held_by_go, _) = theirs.settles(&before[1], SETTLES).await?;
    for story in table.stories.iter().take(STORIES) {
        println!("  {story}");
    }
    println!("{} of {} stories told", table.stories.len().min(STORIES), table.stories.len());
    let text = table.text(place, budget, seed, &before, &[held, held_by_go])?;
    println!("{text}");
    write(&workspace.root.join("docs/reliability.md"), &text)?;

    let mut tally = table.tally();
    tally.leaks += leaks;
    tally.panics += ours.panics();
    Ok(tally)
}

impl Table {
    /// The session of a seed, by every pair. Who begins changes from seed to seed.
    async fn seed(&mut self, place: &Place, servers: [&Running; 2], seed: u64) {
        let from = usize::try_from(seed % PAIRS.len() as u64).unwrap_or(0);
        for at in 0..PAIRS.len() {
            let at = (at + from) % PAIRS.len();
            let Some((actor, target)) = PAIRS.get(at).copied() else { continue };
            // What client-go can do, all can.
            let session = Session { actor, ..Session::random(Actor::ClientGo, seed, false) };
            let server = servers[usize::from(target == Target::Go)];
            let (counts, story) = self.judged(place, server, &session).await;
            let version =
                VERSIONS.iter().position(|version| *version == session.script.protocol).unwrap_or(0);
            if let Some(row) = self.counts.get_mut(at).and_then(|row| row.get_mut(version)) {
                row.add(&counts);
            }
            self.stories.extend(story.map(|story| format!("{actor:?} against {target:?}: {story}")));
        }
    }

    async fn judged(
        &mut self,
        place: &Place,
        server: &Running,
        session: &Session,
    ) -> (Counts, Option<String>) {
        let mut counts = Counts { sessions: 1, ..Counts::default() };
        let (script, mut seen) = match session.observe(place, server).await {
            Ok(observed) => observed,
            Err(error) => {
                counts.wrong = 1;
                return (counts, Some(format!("could not be run: {error:#}")));
            }
        };
        self.bytes += seen.stdout.seen() + seen.stderr.seen();
        // net/http ends the request's context when its reader meets the end of the client's direction, and the runtime
        // of interop/go then kills the command: its status, if it still gets out, is the truth about a lost session.
        let cut = seen.fired > 0 && !seen.harmless;
        if server.target == Target::Go && cut && seen.claim == KILLED && script.finish != Finish::Exit(137) {
            seen.claim =
                Claim::Lost("the command was killed with the connection, and its status says so".to_owned());
        }
        let what = match judge(&script, &seen) {
            Verdict::Complete => {
                counts.complete = 1;
                return (counts, None);
            }
            Verdict::Reported => {
                counts.reported = 1;
                return (counts, None);
            }
            Verdict::Lie(what) => what,
            Verdict::Blind | Verdict::Mute => "a changed byte that no plan asked for".to_owned(),
        };
        // Would it have been an honest report if the wire had been cut?
        seen.fired = seen.fired.max(1);
        seen.harmless = false;
        if !matches!(seen.claim, Claim::Hung) && judge(&script, &seen) == Verdict::Reported {
            counts.causeless = 1;
        } else {
            counts.wrong = 1;
        }
        let kind = if counts.wrong == 1 { "wrong" } else { "lost without cause" };
        (counts, Some(format!("{kind}: {what}\n      {}", session.story())))
    }

    fn add(&mut self, other: Self) {
        for (row, more) in self.counts.iter_mut().flatten().zip(other.counts.iter().flatten()) {
            row.add(more);
        }
        self.stories.extend(other.stories);
        self.bytes += other.bytes;
    }

    /// What our own code has to answer for, and the rest as foreign.
    fn tally(&self) -> Tally {
        let mut tally = Tally { bytes: self.bytes, ..Tally::default() };
        let rows =
            PAIRS.iter().zip(&self.counts).flat_map(|(pair, rows)| rows.iter().map(move |row| (pair, row)));
        for (pair, row) in rows {
            tally.sessions += row.sessions;
            tally.complete += row.complete;
            tally.reported += row.reported;
            let lies = row.causeless + row.wrong;
            if *pair == (Actor::Library, Target::Plain) {
                tally.lies += lies;
            } else {
                tally.foreign_lies += lies;
            }
        }
        tally
    }

    /// The table and what one needs to judge it, as Markdown.
    fn text(
        &self,
        place: &Place,
        budget: &Budget,
        seed: u64,
        before: &[Reading; 2],
        after: &[Reading; 2],
    ) -> Result<String> {
        let mut text = String::new();
        let seeds = self.counts.first().map_or(0, |rows| rows.iter().map(|row| row.sessions).sum::<u64>());
        let minutes = (budget.time.as_secs_f64() / 60.0).ceil();
        let module = |path: &str| place.peers.module(path);
        let go = capture(Command::new("go").arg("version")).unwrap_or_default();
        let go = go.split_whitespace().nth(2).unwrap_or("Go").to_owned();
        writeln!(
            text,
            "{}, `cargo xtask chaos --compare --seed {seed} --sessions {seeds} --minutes {minutes:.0}`: {seeds} seeds, \
             each run by all four pairs, over plain HTTP. {}; client-go {}, cri-streaming {} and apiserver {} (the translator that v5 goes \
             through), built with {go}.\n",
            capture(Command::new("date").args(["-u", "+%F"]))?.trim(),
            capture(Command::new(&place.binary).arg("--version"))?.trim(),
            module("k8s.io/client-go "),
            module("k8s.io/cri-streaming "),
            module("k8s.io/apiserver "),
        )?;
        writeln!(
            text,
            "| client | server | version | sessions | complete | reported with a cause | losses without cause | wrong |"
        )?;
        writeln!(text, "|---|---|---|---:|---:|---:|---:|---:|")?;
        for ((actor, target), rows) in PAIRS.iter().zip(&self.counts) {
            let client = if *actor == Actor::Library { "ours" } else { "client-go" };
            let server = if *target == Target::Go { "Go's" } else { "ours" };
            for (version, row) in VERSIONS.iter().zip(rows) {
                let name = version.name().split('.').next().unwrap_or_default();
                let Counts { sessions, complete, reported, causeless, wrong } = row;
                writeln!(
                    text,
                    "| {client} | {server} | {name} | {sessions} | {complete} | {reported} | {causeless} | {wrong} |"
                )?;
            }
        }
        let more = |at: usize| {
            let (before, after) = (before.get(at)?, after.get(at)?);
            Some((
                after.descriptors.saturating_sub(before.descriptors),
                after.children.saturating_sub(before.children),
            ))
        };
        let (ours, theirs) = (more(0).context("readings")?, more(1).context("readings")?);
        writeln!(
            text,
            "\nWithin {} s of the last session our server came down to {} descriptors and {} commands more than before \
             the first, Go's to {} and {}.",
            SETTLES.as_secs(),
            ours.0,
            ours.1,
            theirs.0,
            theirs.1
        )?;
        Ok(text)
    }
}

/// Replaces what stands between the two markers.
fn write(page: &Path, text: &str) -> Result<()> {
    let old = fs::read_to_string(page).with_context(|| format!("cannot read {}", page.display()))?;
    let new = between(&old, text).with_context(|| format!("{} has no {BEGIN} … {END}", page.display()))?;
    fs::write(page, new).with_context(|| format!("cannot write {}", page.display()))
}

fn between(page: &str, text: &str) -> Option<String> {
    let (head, rest) = page.split_once(BEGIN)?;
    let (_, tail) = rest.split_once(END)?;
    Some(format!("{head}{BEGIN}\n{}\n{END}{tail}", text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_replaced_and_nothing_else() {
        let page = format!("before\n{BEGIN}\nold\n{END}\nafter\n");
        let new = between(&page, "new\n");
        assert_eq!(new.as_deref(), Some(format!("before\n{BEGIN}\nnew\n{END}\nafter\n").as_str()));
        assert_eq!(between("a page without markers", "new"), None);
    }
}
