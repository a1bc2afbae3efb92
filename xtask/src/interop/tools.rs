//! The programs a run needs, found or built once and cached under the target directory.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::Args;
use crate::workspace::{Workspace, is_executable, which};

/// Builds `wsstream` and returns its path. `WSSTREAM_BIN` names one that is built already.
pub(super) fn binary(workspace: &Workspace, args: &Args) -> Result<PathBuf> {
    if let Some(path) = env::var_os("WSSTREAM_BIN") {
        return Ok(path.into());
    }
    let mut words = vec!["build", "--package", "wsstream-cli", "--bin", "wsstream"];
    if !args.debug {
        words.push("--release");
    }
    run(&mut workspace.cargo(&words))?;
    Ok(workspace.target.join(if args.debug { "debug" } else { "release" }).join("wsstream"))
}

/// A kubectl of the minor version, or why there is none.
///
/// Looked for as `kubectl.1.NN` (a Google Cloud SDK ships them side by side; its plain `kubectl` only
/// dispatches) in `WSSTREAM_KUBECTL_DIR`, beside the real file of the `kubectl` in `PATH`, and in `PATH`; then
/// built from kubectl's own Go modules.
pub(super) fn kubectl(env: &super::Env, minor: &str) -> Result<PathBuf> {
    let name = format!("kubectl.{minor}");
    let beside = which("kubectl")
        .and_then(|path| fs::canonicalize(path).ok())
        .and_then(|path| Some(path.parent()?.to_path_buf()));
    let named = env::var_os("WSSTREAM_KUBECTL_DIR").map(PathBuf::from);
    // `WSSTREAM_KUBECTL_BUILD=1` proves the second way on a machine that has the first.
    if env::var_os("WSSTREAM_KUBECTL_BUILD").is_none() {
        for folder in [named, beside].into_iter().flatten() {
            let path = folder.join(&name);
            if is_executable(&path) {
                return Ok(path);
            }
        }
        if let Some(path) = which(&name) {
            return Ok(path);
        }
    }
    build_kubectl(env, minor)
}

/// Go modules of kubectl at the versions whose sums stand in interop/kubectl/1.NN.
fn build_kubectl(env: &super::Env, minor: &str) -> Result<PathBuf> {
    let built = env.cache.join(format!("kubectl.{minor}"));
    if is_executable(&built) {
        return Ok(built);
    }
    let source = env.workspace.join("interop/kubectl");
    if which("go").is_none() {
        bail!("no kubectl.{minor} (WSSTREAM_KUBECTL_DIR names a folder that has it), and no Go to build it");
    }
    println!("building kubectl {minor} from its Go modules, once");
    let folder = env.cache.join(format!("kubectl-{minor}"));
    fs::create_dir_all(&folder)?;
    fs::copy(source.join("main.go"), folder.join("main.go"))?;
    for file in ["go.mod", "go.sum"] {
        fs::copy(source.join(minor).join(file), folder.join(file))
            .with_context(|| format!("interop/kubectl/{minor}/{file}"))?;
    }
    let version = module_version(&folder.join("go.mod"))?;
    let stamp = format!("-s -w -X k8s.io/component-base/version.gitVersion={version}");
    let mut go = Command::new("go");
    go.args(["build", "-trimpath", "-mod=readonly", "-ldflags", &stamp, "-o"]).arg(&built).arg(".");
    // The toolchain that is there: another would have to be downloaded.
    run(go.current_dir(&folder).env("GOTOOLCHAIN", "local").env("CGO_ENABLED", "0"))?;
    Ok(built)
}

/// kubectl's own version is its module's with v0 for v1.
fn module_version(manifest: &Path) -> Result<String> {
    let text = fs::read_to_string(manifest)?;
    let version = text
        .lines()
        .find_map(|line| line.trim().strip_prefix("k8s.io/kubectl v0."))
        .context("go.mod does not require k8s.io/kubectl")?;
    Ok(format!("v1.{version}"))
}

/// A Python with the packages of interop/python/requirements.txt, in an environment of its own.
pub(super) fn python(env: &super::Env) -> Result<PathBuf> {
    let requirements = env.workspace.join("interop/python/requirements.txt");
    let wanted = fs::read_to_string(&requirements)?;
    let folder = env.cache.join("python");
    let (python, stamp) = (folder.join("bin/python"), folder.join("requirements.txt"));
    if is_executable(&python) && fs::read_to_string(&stamp).is_ok_and(|have| have == wanted) {
        return Ok(python);
    }
    let Some(system) = which("python3") else { bail!("no python3") };
    println!("setting up the Python client, once");
    run(Command::new(system).args(["-m", "venv", "--clear"]).arg(&folder))?;
    run(Command::new(&python)
        .args(["-m", "pip", "install", "--quiet", "--require-virtualenv", "-r"])
        .arg(&requirements))?;
    fs::write(stamp, wanted)?;
    Ok(python)
}

/// The kube-rs client, a program with a lock file and a target directory of its own.
pub(super) fn kube_rs(env: &super::Env) -> Result<PathBuf> {
    let target = env.cache.join("kube-rs");
    let manifest = env.workspace.join("interop/kube-rs/Cargo.toml");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--locked", "--quiet", "--manifest-path"])
        .arg(manifest)
        .arg("--target-dir")
        .arg(&target);
    run(&mut cargo)?;
    Ok(target.join("debug/wsstream-interop-kube-rs"))
}

fn run(command: &mut Command) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command.status().with_context(|| format!("cannot run {name}"))?;
    if !status.success() {
        bail!("{command:?} ended with {status}");
    }
    Ok(())
}
