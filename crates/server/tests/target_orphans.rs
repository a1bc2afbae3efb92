//! Processes that leave the group of their command, and what ends them: a keeper beside each command.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod target_support;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use target_support::*;
use wsstream::remotecommand::ExitCode;
use wsstream_server::target::{
    Background, ContainerState, OnDisconnect, ProcessSpec, ProcessTarget, SessionOptions, Target as _,
};

/// Not the usual harness: it starts threads before a test can say that this process is a keeper, and one with threads
/// cannot be forked.
fn main() -> std::process::ExitCode {
    if let Some(code) = keep_when_told_to() {
        return code;
    }
    if let Ok(order) = std::env::var(DOOMED) {
        doomed(&order);
    }
    let mut trials = Vec::new();
    macro_rules! trials {
        ($($name:ident)*) => { $(trials.push(trial(stringify!($name), $name));)* };
    }
    trials!(
        a_kept_command_is_like_any_other
        a_kept_command_reports_its_end_again_and_again
        input_and_its_end_reach_a_kept_command
        a_kept_terminal_is_like_any_other
        a_kept_command_that_cannot_start_says_why
        what_has_left_the_group_ends_when_the_client_leaves
        what_has_left_the_group_ends_when_the_session_is_dropped
        what_has_left_the_group_ends_when_the_server_is_killed
        daemons_live_on_behind_a_command_that_has_ended_or_not
        orphans_are_reaped_while_the_command_runs
        a_session_whose_keeper_is_killed_fails
        a_killed_zygote_is_replaced_and_ends_no_session
        a_zygote_goes_with_those_who_may_use_it
        a_keeper_outlives_the_signals_that_are_meant_for_the_server
        a_supervised_command_takes_everything_along
        a_kept_command_reports_its_exit_code_although_a_daemon_holds_its_output
        a_control_group_is_used_where_there_is_one_and_goes_with_its_command
        what_runs_away_from_its_killer_is_caught
    );
    libtest_mimic::run(&libtest_mimic::Arguments::from_args(), trials).exit_code()
}

fn trial<F: Future<Output = ()> + 'static>(name: &str, test: fn() -> F) -> libtest_mimic::Trial {
    libtest_mimic::Trial::test(name, move || {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(test());
        Ok(())
    })
}

fn kept() -> SessionOptions {
    let mut options = SessionOptions::default();
    options.command.keeper = Some(keeper());
    options.disconnect.finish = Duration::from_millis(200);
    options.disconnect.kill = Duration::from_millis(1500);
    options
}

/// With control groups where they can be made, without, and with keepers that are no forks.
fn kinds() -> [SessionOptions; 3] {
    let (mut without, mut executed) = (kept(), kept());
    without.command.keeper = Some(keeper().without_cgroups());
    executed.command.keeper = Some(keeper_with_threads().without_cgroups());
    [kept(), without, executed]
}

/// Starts helpers that cannot be reached by way of the process group: one in a session of its own, one below two
/// parents that have ended, one that ignores whatever can be ignored.
fn leavers(mark: &str) -> String {
    format!(
        "setsid sleep {mark} & (setsid sh -c 'sleep {mark} & exit' &) ; \
         setsid sh -c 'trap \"\" HUP TERM INT; sleep {mark}; sleep {mark}' {mark} & echo ready; "
    )
}

/// How many processes those are that have exactly the mark among their arguments.
const LEAVERS: usize = 4;

async fn gone(mark: &str) {
    until("the processes to be gone", || alive(mark) == 0).await;
}

async fn ready(host: &Served, script: &str, tty: bool, mark: &str) -> Client {
    let mut client = Client::of(host.exec(sh(script).stdin(true).stdout(true).tty(tty)).await);
    client.out().wait_for("ready").await;
    until("all to run", || alive(mark) == LEAVERS).await;
    client
}

/// The parent of a command.
fn keeper_of(pid: i32) -> Pid {
    parent_of(pid)
}

fn parent_of(pid: i32) -> Pid {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let parent = stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(1).unwrap();
    Pid::from_raw(parent.parse().unwrap()).unwrap()
}

async fn a_kept_command_is_like_any_other() {
    let host = Served::host_with(kept()).await;
    let got = host.sh("echo out; echo err >&2; exit 7").await;
    assert_eq!((&got.stdout[..], &got.stderr[..]), (&b"out\n"[..], &b"err\n"[..]));
    assert_eq!(got.outcome, exited(7));
    assert_eq!(host.sh("kill -9 $$").await.outcome, exited(137));
    assert_eq!(host.sh("kill -15 $$").await.outcome, exited(143));
    assert_eq!(host.sh("head -c 3000000 /dev/zero").await.stdout.len(), 3_000_000);
    let big = "x".repeat(40_000);
    assert_eq!(host.sh(&format!("echo {big} | wc -c")).await.stdout, "40001\n");
    // Its group is its own and it leads it; it inherits no more than without a keeper, descriptors and signals.
    let script = "set -- $(cut -d' ' -f5,6 /proc/$$/stat); test $1 = $$ && test $2 != $$ && ls /proc/self/fd; \
                  grep -E 'Sig(Ign|Blk)' /proc/self/status";
    let (got, without) = (host.sh(script).await, Served::host().await.sh(script).await);
    assert_eq!((&got.stdout, got.outcome), (&without.stdout, exited(0)));
}

/// However its keeper was made: the end of the command is always heard of.
async fn a_kept_command_reports_its_end_again_and_again() {
    for options in kinds() {
        let host = Served::host_with(options).await;
        for _ in 0..30 {
            assert_eq!(host.sh("exit 7").await.outcome, exited(7));
        }
    }
}

async fn input_and_its_end_reach_a_kept_command() {
    let host = Served::host_with(kept()).await;
    let mut client = Client::of(host.exec(sh("sort; exit 4").stdin(true).stdout(true)).await);
    client.write("b\na\n").await;
    client.close_stdin();
    assert_eq!(client.finish().await, ("a\nb\n".to_owned(), exited(4)));
}

async fn a_kept_terminal_is_like_any_other() {
    let host = Served::host_with(kept()).await;
    let script =
        "tty; stty size; read -r line; stty size; echo got $line; cut -d' ' -f1,6 /proc/$$/stat; exit 3";
    let mut client = Client::of(host.exec(sh(script).stdin(true).stdout(true).tty(true)).await);
    client.resize(100, 30).await;
    client.out().wait_for("/dev/pts/").await;
    client.resize(120, 40).await;
    // The echo comes from the terminal.
    client.write("hello\r").await;
    let (out, outcome) = client.finish().await;
    assert!(out.contains("40 120") && out.contains("got hello"), "{out}");
    let last = out.lines().last().unwrap();
    let numbers: Vec<_> = last.split_whitespace().collect();
    assert_eq!(numbers[0], numbers[1], "it leads its session: {out}");
    assert_eq!(outcome, exited(3));
}

async fn a_kept_command_that_cannot_start_says_why() {
    for tty in [false, true] {
        let mut options = kept();
        for (command, text) in [
            ("nosuch", r#"exec: "nosuch": executable file not found in $PATH"#),
            ("/etc", r#"exec: "/etc": permission denied"#),
        ] {
            let host = Served::host_with(options.clone()).await;
            let request = wsstream::remotecommand::Request::command([command]).stdout(true).tty(tty);
            let outcome = Client::of(host.exec(request).await).outcome().await;
            assert!(failure(&outcome).ends_with(text), "{outcome}");
        }
        options.command.cwd = Some("/no/such".into());
        let host = Served::host_with(options).await;
        let outcome = Client::of(host.exec(sh("true").stdout(true).tty(tty)).await).outcome().await;
        assert!(failure(&outcome).contains(r#"chdir to "/no/such" failed"#), "{outcome}");
    }
    let mut options = SessionOptions::default();
    options.command.keeper = Some(wsstream_server::target::Keeper::new("/no/such/keeper", [""; 0]));
    let outcome =
        Client::of(Served::host_with(options).await.exec(sh("true").stdout(true)).await).outcome().await;
    assert!(failure(&outcome).contains("cannot start the process that keeps the command"), "{outcome}");
    let mut options = SessionOptions::default();
    options.command.keeper = Some(wsstream_server::target::Keeper::new("true", [""; 0]));
    let outcome =
        Client::of(Served::host_with(options).await.exec(sh("true").stdout(true)).await).outcome().await;
    assert!(failure(&outcome).contains("cannot start the process that keeps the command"), "{outcome}");
}

async fn what_has_left_the_group_ends_when_the_client_leaves() {
    for action in [OnDisconnect::Auto, OnDisconnect::HangUp, OnDisconnect::Terminate, OnDisconnect::Kill] {
        for tty in [false, true] {
            for mut options in kinds() {
                options.disconnect.action = action;
                let (host, mark) = (Served::host_with(options).await, mark());
                let client = ready(&host, &format!("{} sleep 1000", leavers(&mark)), tty, &mark).await;
                drop(client);
                gone(&mark).await;
                host.report().await;
                until("no zombies", || zombies().is_empty()).await;
            }
        }
    }
}

async fn what_has_left_the_group_ends_when_the_session_is_dropped() {
    for (tty, options) in kinds().into_iter().flat_map(|options| [(false, options.clone()), (true, options)])
    {
        let (host, mark) = (Served::host_with(options).await, mark());
        let client = ready(&host, &format!("{} sleep 1000", leavers(&mark)), tty, &mark).await;
        host.sessions.lock().await.abort_all();
        gone(&mark).await;
        until("no zombies", || zombies().is_empty()).await;
        drop(client);
    }
}

/// With SIGKILL, which leaves nobody to say a word: the keeper sees the end of its socket and nothing else.
async fn what_has_left_the_group_ends_when_the_server_is_killed() {
    for kind in 0..kinds().len() {
        let mark = mark();
        let mut server = std::process::Command::new(std::env::current_exe().unwrap());
        let mut server = server.env(DOOMED, format!("{kind} {mark}")).spawn().unwrap();
        until("all to run", || alive(&mark) == LEAVERS).await;
        server.kill().unwrap();
        server.wait().unwrap();
        gone(&mark).await;
    }
}

/// Set, this program is a server with one session, of a kind and with a mark, that waits for its end.
const DOOMED: &str = "WSSTREAM_TEST_DOOMED";

fn doomed(order: &str) {
    let (kind, mark) = order.split_once(' ').unwrap();
    let options = kinds()[kind.parse::<usize>().unwrap()].clone();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
        let host = Served::host_with(options).await;
        let _client = ready(&host, &format!("{} sleep 1000", leavers(mark)), false, mark).await;
        std::future::pending::<()>().await;
    });
}

/// A daemon that a command starts on purpose lives on behind it, unless the policy says otherwise.
async fn daemons_live_on_behind_a_command_that_has_ended_or_not() {
    for (background, left) in [(Background::Keep, LEAVERS), (Background::Kill, 0)] {
        for tty in [false, true] {
            let mut options = kept();
            options.background = background;
            let (host, mark) = (Served::host_with(options).await, mark());
            let script = format!("exec >/dev/null 2>&1 </dev/null; {}", leavers(&mark));
            let script = format!("({script}); echo up; read line; echo started; exit 3");
            let request = sh(&script).stdin(true).stdout(true).tty(tty);
            let mut client = Client::of(host.exec(request).await);
            client.out().wait_for("up").await;
            until("all to run", || alive(&mark) == LEAVERS).await;
            client.write("\n").await;
            let (out, outcome) = client.finish().await;
            assert!(out.contains("started"), "{out}");
            assert_eq!(outcome, exited(3));
            host.report().await;
            until("the right number", || alive(&mark) == left).await;
            if left > 0 {
                until("no keeper and no zombie", || zombies().is_empty()).await;
                assert_eq!(alive(&mark), left);
                end(&mark);
            }
        }
    }
}

/// Children of the keeper whose parents have ended are reaped while the session goes on.
async fn orphans_are_reaped_while_the_command_runs() {
    for options in kinds() {
        orphans_are_reaped(options).await;
    }
}

async fn orphans_are_reaped(options: SessionOptions) {
    let host = Served::host_with(options).await;
    // One of them by a real-time signal, which has no name.
    let script = "(sh -c 'sleep 0.05; kill -34 $$' &); for i in 1 2 3 4 5 6 7 8; do (sleep 0.1 &); done; \
                  echo $$; read line; exit 0";
    let mut client = Client::of(host.exec(sh(script).stdin(true).stdout(true)).await);
    client.out().wait_for("\n").await;
    let keeper = keeper_of(client.out().seen.trim().parse().unwrap()).as_raw_nonzero().get();
    let children = || {
        let stats = std::fs::read_dir("/proc").unwrap().flatten();
        let stats = stats.filter_map(|entry| std::fs::read_to_string(entry.path().join("stat")).ok());
        let parent =
            |stat: &String| stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse::<i32>().ok();
        stats.filter(|stat| parent(stat) == Some(keeper)).count()
    };
    until("only the command to be left", || children() == 1).await;
    client.close_stdin();
    assert_eq!(client.outcome().await, exited(0));
}

/// Somebody kills the keeper: the session fails, it does not hang, and the process group at least is ended; with a
/// control group everything.
async fn a_session_whose_keeper_is_killed_fails() {
    for tty in [false, true] {
        let (host, mark) = (Served::host_with(kept()).await, mark());
        let strays = if group_home().is_some() { leavers(&mark) } else { "echo ready; ".to_owned() };
        let script = format!("echo $$; {strays} sleep {mark}; true");
        let mut client = Client::of(host.exec(sh(&script).stdout(true).tty(tty)).await);
        client.out().wait_for("ready").await;
        let all = if group_home().is_some() { LEAVERS + 1 } else { 1 };
        until("all to run", || alive(&mark) == all).await;
        let keeper = keeper_of(client.out().seen.lines().next().unwrap().trim().parse().unwrap());
        kill_process(keeper, Signal::KILL).unwrap();
        let outcome = client.outcome().await;
        assert!(
            failure(&outcome).contains("the process that keeps the command has been killed"),
            "{outcome}"
        );
        gone(&mark).await;
    }
}

async fn a_killed_zygote_is_replaced_and_ends_no_session() {
    let host = Served::host_with(kept()).await;
    let ask = || sh("echo $$; read line; exit 5").stdin(true).stdout(true);
    let mut client = Client::of(host.exec(ask()).await);
    client.out().wait_for("\n").await;
    let zygote = parent_of(keeper_of(client.out().seen.trim().parse().unwrap()).as_raw_nonzero().get());
    kill_process(zygote, Signal::KILL).unwrap();
    until("the zygote to be gone", || !is_alive(zygote)).await;
    let mut other = Client::of(host.exec(ask()).await);
    other.out().wait_for("\n").await;
    let replaced = parent_of(keeper_of(other.out().seen.trim().parse().unwrap()).as_raw_nonzero().get());
    assert!(is_alive(replaced) && replaced != zygote);
    for mut client in [client, other] {
        client.close_stdin();
        assert_eq!(client.outcome().await, exited(5));
    }
    until("no zombies", || zombies().is_empty()).await;
}

async fn a_zygote_goes_with_those_who_may_use_it() {
    let keeper = keeper();
    keeper.prepare().unwrap();
    keeper.prepare().unwrap();
    let mut options = kept();
    options.command.keeper = Some(keeper);
    let host = Served::host_with(options).await;
    let script = "ps=$(cut -d' ' -f4 /proc/$$/stat); cut -d' ' -f4 /proc/$ps/stat";
    let first: i32 = std::str::from_utf8(&host.sh(script).await.stdout).unwrap().trim().parse().unwrap();
    let again: i32 = std::str::from_utf8(&host.sh(script).await.stdout).unwrap().trim().parse().unwrap();
    assert_eq!(first, again, "one for all sessions");
    drop(host);
    until("the zygote to be gone", || !is_alive(Pid::from_raw(first).unwrap())).await;
    until("no zombies", || zombies().is_empty()).await;
}

fn is_alive(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
    stat.is_ok_and(|stat| {
        !matches!(stat.rsplit_once(')').map_or("", |(_, rest)| rest.trim()).get(..1), Some("Z" | "X"))
    })
}

/// What a service manager or a terminal sends to all does not take the keeper away before its command.
async fn a_keeper_outlives_the_signals_that_are_meant_for_the_server() {
    let host = Served::host_with(kept()).await;
    let mut client = Client::of(host.exec(sh("echo $$; read line; exit 5").stdin(true).stdout(true)).await);
    client.out().wait_for("\n").await;
    let keeper = keeper_of(client.out().seen.trim().parse().unwrap());
    // It may still be about to install its handlers: it is ready to be told so once it waits for children.
    let caught = || {
        let status = std::fs::read_to_string(format!("/proc/{}/status", keeper.as_raw_nonzero())).unwrap();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
        u64::from_str_radix(mask.trim(), 16).unwrap() & 0x4007 == 0x4007
    };
    until("its handlers", caught).await;
    for signal in [Signal::HUP, Signal::INT, Signal::QUIT, Signal::TERM] {
        kill_process(keeper, signal).unwrap();
    }
    client.close_stdin();
    assert_eq!(client.outcome().await, exited(5));
}

async fn a_supervised_command_takes_everything_along() {
    let mark = mark();
    let command = ["sh", "-c", &format!("{} sleep 1000", leavers(&mark))].map(String::from);
    let mut spec = ProcessSpec::new("pod", "main", command.into());
    spec.session = kept();
    let target = Arc::new(ProcessTarget::start(spec));
    until("all to run", || alive(&mark) == LEAVERS).await;
    let asked = Instant::now();
    target.stop(Duration::from_secs(5)).await;
    assert!(asked.elapsed() < Duration::from_secs(5), "SIGTERM was enough for the main process");
    let ContainerState::Terminated(end) = target.state() else { panic!("{:?}", target.state()) };
    assert_eq!((end.exit_code, end.signal), (143, Some(15)));
    gone(&mark).await;
}

async fn a_kept_command_reports_its_exit_code_although_a_daemon_holds_its_output() {
    let mut options = kept();
    options.drain.0 = Duration::from_millis(200);
    let (host, mark) = (Served::host_with(options).await, mark());
    let script = format!("setsid sleep {mark} & echo last words; exit 9");
    let (out, outcome) = Client::of(host.exec(sh(&script).stdout(true)).await).finish().await;
    assert_eq!((out.as_str(), outcome), ("last words\n", exited(9)));
    assert_eq!(host.report().await.result, Some(Ok(ExitCode(9))));
    end(&mark);
}

fn own_group() -> String {
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap();
    groups.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or_default().to_owned()
}

/// Where control groups can be made, if they can.
fn group_home() -> Option<String> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let mount = mounts.lines().find(|line| line.contains(" - cgroup2 "))?;
    let home = format!("{}{}", mount.split(' ').nth(4).unwrap(), own_group());
    let probe = format!("{home}/probe-{}-{}", std::process::id(), mark());
    std::fs::create_dir(&probe).ok()?;
    let may_kill = std::path::Path::new(&probe).join("cgroup.kill").exists();
    std::fs::remove_dir(probe).unwrap();
    may_kill.then_some(home)
}

/// Each command has a control group of its own where one can be made, and no group is left behind.
async fn a_control_group_is_used_where_there_is_one_and_goes_with_its_command() {
    let host = Served::host_with(kept()).await;
    let script = "cut -d' ' -f4 /proc/$$/stat; grep ^0: /proc/$$/cgroup; echo ready; read line; exit 0";
    let mut client = Client::of(host.exec(sh(script).stdin(true).stdout(true)).await);
    client.out().wait_for("ready").await;
    let seen = client.out().seen.clone();
    let keeper = seen.lines().next().unwrap().to_owned();
    let group = seen.lines().nth(1).unwrap().trim_start_matches("0::").to_owned();
    let of_keeper = std::fs::read_to_string(format!("/proc/{keeper}/cgroup")).unwrap();
    let own = own_group();
    assert!(of_keeper.lines().any(|line| line.strip_prefix("0::") == Some(&own)), "{of_keeper}");
    let home = group_home();
    match &home {
        Some(_) => assert_eq!(group, format!("{}/wsstream-{keeper}", own.trim_end_matches('/'))),
        None => assert_eq!(group, own),
    }
    client.close_stdin();
    assert_eq!(client.outcome().await, exited(0));
    let left = || {
        home.as_ref().is_some_and(|home| std::path::Path::new(&format!("{home}/wsstream-{keeper}")).exists())
    };
    until("the group to be removed", || !left()).await;
}

/// Something that forks without end, each time in a session of its own, and never has a parent for long.
async fn what_runs_away_from_its_killer_is_caught() {
    for options in kinds() {
        let (host, mark) = (Served::host_with(options).await, mark());
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("runner");
        std::fs::write(&file, "exec 2>/dev/null; sleep 0.01; setsid sh \"$0\" \"$1\" & exit\n").unwrap();
        let script = format!("setsid sh {} {mark} & echo ready; sleep {mark}", file.display());
        let mut client = Client::of(host.exec(sh(&script).stdout(true)).await);
        client.out().wait_for("ready").await;
        until("it to run", || alive(&mark) >= 2).await;
        drop(client);
        host.report().await;
        // Gone, and not only between two of its lives.
        for _ in 0..3 {
            gone(&mark).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(alive(&mark), 0);
    }
}
