//! The crate `kube`: the client that hangs up the moment it has the status.

use super::{Env, case::Runner, scripted, tools};

/// Builds and runs interop/kube-rs.
pub(super) async fn run(env: &Env, runner: &mut Runner<'_>) {
    let group = "kube-rs";
    if !runner.wants_group(group) {
        return;
    }
    if let Some(client) = scripted::missing(group, tools::kube_rs(env), runner) {
        scripted::run(env, group, client, runner).await;
    }
}
