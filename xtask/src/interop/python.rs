//! The Python package `kubernetes`: text frames, a half close of its own, a terminal without a terminal.

use super::{Env, case::Runner, scripted, tools};

/// Runs interop/python/client.py in its own environment.
pub(super) async fn run(env: &Env, runner: &mut Runner<'_>) {
    let group = "python";
    if !runner.wants_group(group) {
        return;
    }
    if let Some(mut python) = scripted::missing(group, tools::python(env), runner) {
        python.arg(env.workspace.join("interop/python/client.py")).env("PYTHONUNBUFFERED", "1");
        scripted::run(env, group, python, runner).await;
    }
}
