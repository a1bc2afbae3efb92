//! crictl against our CRI streaming server, which runs in the example `cri_streaming` beside a small CRI service.
//!
//! crictl is taken from where it is installed (`WSSTREAM_CRICTL` names another one) and is not built here. `interop/go/cri`
//! stands in for it everywhere: the same requests over gRPC, and behind them the same client-go.

mod cases;
mod runtime;

use std::{
    env,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    Env,
    case::{Case, Runner},
    go,
};
use crate::{
    report::Outcome,
    workspace::{Workspace, which},
};
use runtime::Runtime;

/// The values of `--transport`.
const TRANSPORTS: [&str; 2] = ["websocket", "spdy"];

/// A program, and what it is told to speak.
struct Client {
    env: Arc<Env>,
    runtime: Arc<Runtime>,
    program: PathBuf,
    transport: &'static str,
}

/// Runs the table with both programs over both transports.
pub(super) async fn run(env: &Arc<Env>, workspace: &Workspace, runner: &mut Runner<'_>) {
    let (real, stand_in) = (runner.wants_group("crictl"), runner.wants_group("go cri"));
    if !real && !stand_in {
        return;
    }
    let started = Instant::now();
    let runtime = match Runtime::start(workspace, env.server.folder()).await {
        Ok(runtime) => Arc::new(runtime),
        Err(error) => {
            let outcome = Outcome::Failed(format!("the example does not run: {error:#}"));
            return runner.record("crictl/runtime", started.elapsed(), outcome, runner.log_length());
        }
    };
    if real {
        match crictl() {
            Some(program) => table(env, &runtime, "crictl", &program, true, runner).await,
            // Not `missing`: nothing here could install it, and the stand-in covers what is ours.
            None => {
                let why = "no crictl in PATH or in WSSTREAM_CRICTL; `go cri` stands in for it";
                let outcome = Outcome::Skipped(why.into());
                runner.record("crictl/program", Duration::ZERO, outcome, runner.log_length());
            }
        }
    }
    if stand_in {
        let started = Instant::now();
        match go::build_program(&env.workspace, &env.cache, "cri") {
            Ok(program) => table(env, &runtime, "go cri", &program, false, runner).await,
            Err(error) => {
                let outcome = Outcome::missing(format!("{error:#}"));
                runner.record("go cri/program", started.elapsed(), outcome, runner.log_length());
            }
        }
    }
}

/// `WSSTREAM_CRICTL` names one, or one is installed.
fn crictl() -> Option<PathBuf> {
    env::var_os("WSSTREAM_CRICTL").map(PathBuf::from).or_else(|| which("crictl"))
}

async fn table(
    env: &Arc<Env>,
    runtime: &Arc<Runtime>,
    name: &str,
    program: &std::path::Path,
    real: bool,
    runner: &mut Runner<'_>,
) {
    let big = env.sizes.limit;
    for transport in TRANSPORTS {
        let client = Client {
            env: Arc::clone(env),
            runtime: Arc::clone(runtime),
            program: program.to_owned(),
            transport,
        };
        let mut table = vec![
            Case::new("exec/streams, exit 0 and 7", cases::streams),
            Case::new("exec/the end of the input is only half of the end", cases::half_close),
            Case::new("exec/terminal, first size, resize", cases::terminal),
            Case::new("exec/big stdin, hashed", cases::stdin_big).within(big),
            Case::new("exec/big stdout to a slow reader", cases::stdout_slow).within(big),
            Case::new("attach/reaches the main process", cases::attach),
            Case::new("port-forward/bytes both ways, half close", cases::forward),
            Case::new("port-forward/a refused port beside a download", cases::refused).within(big),
            Case::new("errors/unknown container, unknown pod, missing binary", cases::errors),
        ];
        if real {
            table.push(Case::new("services/version, ps, pods, info, exec --sync", cases::services));
        }
        table.push(Case::new("nothing is left after 20 sessions", cases::nothing_left));
        runner.group(&format!("{name} {transport}"), &client, table).await;
    }
}
