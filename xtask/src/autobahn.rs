//! `cargo xtask autobahn`: the Autobahn cases against our WebSocket engine, as a server and as a client.
//!
//! The cases are run by `kosoku`, a Python package without further dependencies, in an environment of its own below
//! the target directory; the other end is `wsstream-testing`'s example `autobahn_echo`. Cases 12 and 13 are about
//! compression, which no Kubernetes client offers and the engine does not have.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Command as Blocking, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    time::timeout,
};

use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, is_executable, show, which},
};

/// The runner of the cases. Pinned: another version may have other cases.
const RUNNER: &str = "kosoku==0.1.0";

/// How many cases there are without those about compression; fewer in a report means that some did not run.
const CASES: usize = 301;

/// What is left out.
const EXCEPT: [&str; 4] = ["--exclude", "12.*", "--exclude", "13.*"];

/// All cases take some ten seconds; the slowest machine is not sixty times slower.
const PATIENCE: Duration = Duration::from_secs(600);

/// How soon a server listens.
const STARTS: Duration = Duration::from_secs(20);

/// `cargo xtask autobahn`.
pub fn run(workspace: &Workspace, totals: &mut Totals) {
    let runner = match runner(workspace) {
        Ok(runner) => runner,
        Err(error) => {
            totals.case("autobahn: all cases", || Outcome::missing(format!("{error:#}")));
            return;
        }
    };
    let built =
        show(&mut workspace.cargo(&["build", "-p", "wsstream-testing", "--example", "autobahn_echo"]));
    if built != Outcome::Passed {
        totals.case("autobahn: build", || built);
        return;
    }
    let place = Place {
        runner,
        echo: workspace.target.join("debug/examples/autobahn_echo"),
        folder: workspace.target.join("autobahn"),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return totals.case("autobahn: runtime", || Outcome::Failed(error.to_string())),
    };
    count("server", runtime.block_on(place.server()), totals);
    count("client", runtime.block_on(place.client()), totals);
}

/// Each Autobahn case counts as one of ours; only those that fail have a line of their own.
fn count(side: &str, report: Result<Report>, totals: &mut Totals) {
    let report = match report.and_then(|report| complete(report, CASES)) {
        Ok(report) => report,
        Err(error) => {
            totals.case(&format!("autobahn: {side}"), || Outcome::Failed(format!("{error:#}")));
            return;
        }
    };
    let mut kinds = BTreeMap::<&str, u32>::new();
    for (case, verdict) in &report {
        *kinds.entry(verdict.behaviour.as_str()).or_default() += 1;
        if verdict.is_good() {
            totals.passed += 1;
        } else {
            let Verdict { behaviour, on_close } = verdict;
            let outcome = Outcome::Failed(format!("behaviour {behaviour}, on close {on_close}"));
            totals.record(&format!("autobahn: {side}, case {case}"), Duration::ZERO, &outcome);
        }
    }
    println!("autobahn: {side}: {} cases, {kinds:?}", report.len());
}

/// The programs, and where the reports go.
struct Place {
    runner: PathBuf,
    echo: PathBuf,
    folder: PathBuf,
}

impl Place {
    /// Our server under the cases of a client.
    async fn server(&self) -> Result<Report> {
        let folder = self.fresh("server")?;
        let mut server =
            start(Command::new(&self.echo).args(["server", "127.0.0.1:0"]).stdout(Stdio::piped()))?;
        let lines = server.stdout.take().context("no output")?;
        let address = announced(lines, "listening on ").await?;
        let mut client = self.runner("fuzzingclient", &folder, &format!("ws://{address}"));
        let client = start(client.stdout(Stdio::null()))?;
        finish(client, "the runner").await?;
        server.kill().await?;
        read(&folder)
    }

    /// Our client under the cases of a server.
    async fn client(&self) -> Result<Report> {
        let folder = self.fresh("client")?;
        let mut server = self.runner("fuzzingserver", &folder, "127.0.0.1:0");
        let mut server = start(server.stdout(Stdio::null()).stderr(Stdio::piped()))?;
        let lines = server.stderr.take().context("no output")?;
        let address = announced(lines, "fuzzingserver listening on ws://").await?;
        let client = start(Command::new(&self.echo).args(["client", &address]).stdout(Stdio::null()))?;
        finish(client, "our client").await?;
        // It writes the report when the client has asked for it, and ends.
        finish(server, "the runner").await?;
        read(&folder)
    }

    fn runner(&self, mode: &str, folder: &Path, address: &str) -> Command {
        let mut command = Command::new(&self.runner);
        command.args(["--mode", mode]).args(EXCEPT).arg("--outdir").arg(folder).arg(address);
        command
    }

    /// An empty folder: an old report must not pass for a new one.
    fn fresh(&self, side: &str) -> Result<PathBuf> {
        let folder = self.folder.join(side);
        if folder.exists() {
            fs::remove_dir_all(&folder)?;
        }
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }
}

fn start(command: &mut Command) -> Result<Child> {
    command.stdin(Stdio::null()).kill_on_drop(true).spawn().with_context(|| format!("cannot run {command:?}"))
}

/// Both programs take port 0 and say which one they got.
async fn announced(output: impl AsyncRead + Unpin + Send + 'static, mark: &str) -> Result<String> {
    let mut lines = BufReader::new(output).lines();
    let address = timeout(STARTS, async {
        while let Some(line) = lines.next_line().await? {
            if let Some(address) = line.strip_prefix(mark) {
                return Ok(address.to_owned());
            }
        }
        bail!("it ended before it listened")
    });
    let address = address.await.context("nothing listens")??;
    // What it prints later is read too, so that it never waits for room; the task ends with the program.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(address)
}

/// The exit status says nothing that the report does not say better: a failed case makes the runner fail.
async fn finish(mut child: Child, who: &str) -> Result<()> {
    timeout(PATIENCE, child.wait()).await.with_context(|| format!("{who} did not finish"))??;
    Ok(())
}

/// Case number to verdict.
type Report = BTreeMap<String, Verdict>;

/// What Autobahn says about one case.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Verdict {
    behaviour: String,
    on_close: String,
}

impl Verdict {
    /// The suite calls three verdicts a pass: what RFC 6455 leaves open is reported and not judged.
    fn is_good(&self) -> bool {
        [&self.behaviour, &self.on_close]
            .into_iter()
            .all(|word| matches!(word.as_str(), "OK" | "NON-STRICT" | "INFORMATIONAL"))
    }
}

fn read(folder: &Path) -> Result<Report> {
    let text = fs::read_to_string(folder.join("index.json")).context("there is no report")?;
    parse(&serde_json::from_str(&text)?)
}

/// `index.json`: agent, then case, then verdict.
fn parse(index: &Value) -> Result<Report> {
    let agents = index.as_object().context("the report has another form")?;
    let [cases] = agents.values().collect::<Vec<_>>()[..] else {
        bail!("{} agents in the report", agents.len())
    };
    let word = |verdict: &Value, key: &str| verdict[key].as_str().map(str::to_owned);
    cases
        .as_object()
        .into_iter()
        .flatten()
        .map(|(case, verdict)| {
            let behaviour = word(verdict, "behavior").with_context(|| format!("no verdict on {case}"))?;
            let on_close = word(verdict, "behaviorClose").with_context(|| format!("no close of {case}"))?;
            Ok((case.clone(), Verdict { behaviour, on_close }))
        })
        .collect()
}

fn complete(report: Report, wanted: usize) -> Result<Report> {
    if report.len() != wanted {
        bail!("{} cases were run, and there are {wanted}", report.len());
    }
    Ok(report)
}

/// The runner, set up once. What fails here is something missing: Python, pip, or the way to the registry.
fn runner(workspace: &Workspace) -> Result<PathBuf> {
    let folder = workspace.target.join("autobahn/venv");
    let (program, stamp) = (folder.join("bin/kosoku"), folder.join("requirement.txt"));
    if is_executable(&program) && fs::read_to_string(&stamp).is_ok_and(|have| have == RUNNER) {
        return Ok(program);
    }
    let system = which("python3").context("no python3")?;
    println!("setting up {RUNNER}, once");
    capture(Blocking::new(system).args(["-m", "venv", "--clear"]).arg(&folder))?;
    let python = folder.join("bin/python");
    capture(Blocking::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--require-virtualenv",
        RUNNER,
    ]))?;
    fs::write(stamp, RUNNER)?;
    Ok(program)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_is_read_and_a_failed_case_is_seen() {
        let good = json!({"behavior": "OK", "behaviorClose": "INFORMATIONAL"});
        let bad = json!({"behavior": "OK", "behaviorClose": "FAILED"});
        let report = parse(&json!({"us": {"1.1.1": good, "1.1.2": bad}})).unwrap();
        let bad: Vec<_> =
            report.iter().filter(|(_, verdict)| !verdict.is_good()).map(|(case, _)| case).collect();
        assert_eq!(bad, ["1.1.2"]);
    }

    #[test]
    fn a_report_that_lacks_cases_is_no_pass() {
        let one = json!({"us": {"1.1.1": {"behavior": "OK", "behaviorClose": "OK"}}});
        let mut totals = Totals::default();
        count("server", parse(&one), &mut totals);
        assert_eq!((totals.passed, totals.failed), (0, 1));
        parse(&json!({"us": {"1.1.1": {"behavior": "OK"}}})).unwrap_err();
    }
}
