//! The image, built by the Containerfile and run as its comment says.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tempfile::TempDir;

use super::{
    client::{Client, SOON, until},
    containerfile,
    room::Room,
};
use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture, show},
};

/// What root may do elsewhere and not everywhere: a control group whose devices are filtered, and limits above its own.
const EVERYWHERE: [&str; 5] =
    ["--cgroups=disabled", "--ulimit", "nofile=4096:4096", "--ulimit", "nproc=4096:4096"];

/// The user of the image.
const USER: u32 = 65532;

/// Its cases.
pub(super) fn cases(workspace: &Workspace, room: &Room, program: &Path, packed: &Path, totals: &mut Totals) {
    let mut made = None;
    totals.case("dist: the image builds", || match build(workspace, room, program, packed) {
        Ok(image) => {
            made = Some(image);
            Outcome::Passed
        }
        Err(error) => Outcome::Failed(format!("{error:#}")),
    });
    let Some(image) = made else { return };
    let mut started = None;
    totals.case("dist: it serves, run as its comment says", || match image.start(workspace, program) {
        Ok(container) => {
            started = Some(container);
            Outcome::Passed
        }
        Err(error) => Outcome::Failed(format!("{error:#}\n{}", image.log())),
    });
    let Some(container) = started else { return };
    let kubeconfig = image.folder.path().join("kubeconfig");
    let client = Client { room, program, kubeconfig: &kubeconfig };
    totals.case("dist: a session in it has no rights", || rights(&client).into());
    totals.case("dist: kubectl and a terminal in it", || {
        client.kubectl(workspace).and_then(|()| client.terminal()).into()
    });
    totals.case("dist: it keeps no dead processes", || dead(&client).into());
    totals.case("dist: its operator is answered", || {
        show(image.podman(30).args(["exec", "wsstream", "wsstream", "ps"]))
    });
    totals.case("dist: stopped, it lets a session finish and ends with 0", || {
        let stopped = stop(&image, container, &client);
        stopped.with_context(|| image.log()).into()
    });
}

/// What podman has stored.
struct Image<'a> {
    room: &'a Room,
    folder: TempDir,
}

fn build<'a>(workspace: &Workspace, room: &'a Room, program: &Path, packed: &Path) -> Result<Image<'a>> {
    // Not in /tmp, which may be memory.
    let folder = tempfile::Builder::new().prefix("image-").tempdir_in(workspace.target.join("dist"))?;
    let image = Image { room, folder };
    let context = image.folder.path().join("context");
    fs::create_dir(&context)?;
    fs::copy(program, context.join("wsstream"))?;
    let base = containerfile::default(&workspace.root, "BASE")?;
    capture(image.podman(120).args(["import", "--quiet"]).arg(packed).arg(base))?;
    let mut command = image.podman(120);
    command.arg("build");
    for word in containerfile::command(&workspace.root, "build", "prebuilt")? {
        match word.as_str() {
            "Containerfile" => command.arg(workspace.root.join("Containerfile")),
            "target/release" => command.arg(&context),
            word => command.arg(word),
        };
    }
    capture(&mut command)?;
    Ok(image)
}

impl Image<'_> {
    fn podman(&self, seconds: u32) -> Command {
        let mut command = self.room.within(seconds, "podman");
        command.arg("--root").arg(self.folder.path().join("storage"));
        command.args(["--runroot", "/run/podman", "--runtime", "crun"]);
        command
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Runs it with a certificate and a user, and waits until it is ready.
    fn start(&self, workspace: &Workspace, program: &Path) -> Result<Child> {
        let etc = self.configure(program)?;
        let mut command = self.podman(300);
        command.args(["run", "--name", "wsstream"]).args(EVERYWHERE);
        for word in containerfile::command(&workspace.root, "run", "--read-only")? {
            match word.strip_prefix("./etc:") {
                Some(rest) => command.arg(format!("{}:{rest}", etc.display())),
                None => command.arg(word),
            };
        }
        let log = File::create(self.folder.path().join("log"))?;
        let container = command.stdout(log.try_clone()?).stderr(log).stdin(Stdio::null()).spawn()?;
        let kubeconfig = self.folder.path().join("kubeconfig");
        let client = Client { room: self.room, program, kubeconfig: &kubeconfig };
        until(SOON, "ready server", || Ok(client.probe("/readyz")? == "ok"))?;
        Ok(container)
    }

    fn configure(&self, program: &Path) -> Result<PathBuf> {
        let folder = self.folder.path();
        let etc = folder.join("etc");
        fs::create_dir(&etc)?;
        let config = "[server]\nlisten = \"0.0.0.0:7443\"\ntls_cert = \"cert.pem\"\ntls_key = \"key.pem\"\nusers = \
                      \"users.toml\"\n\n[[pod]]\nname = \"host\"\n\n[[pod.container]]\nkind = \"host\"\n";
        fs::write(etc.join("wsstream.toml"), config)?;
        let mut openssl = Command::new("openssl");
        openssl.args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
        ]);
        openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]);
        openssl.args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"]).arg(etc.join("key.pem"));
        capture(openssl.arg("-out").arg(etc.join("cert.pem")))?;
        let halves = capture(Command::new(program).args(["token", "--user", "ann"]))?;
        let (token, user) = halves.split_once("\n\n").context("`wsstream token` prints no two halves")?;
        fs::write(etc.join("users.toml"), user)?;
        for file in ["", "wsstream.toml", "cert.pem", "key.pem", "users.toml"] {
            let file = etc.join(file);
            std::os::unix::fs::chown(&file, Some(USER), Some(USER))?;
            let mode = if file.is_dir() { 0o700 } else { 0o600 };
            fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        let kubeconfig = serde_json::json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "wsstream",
            "clusters": [{"name": "wsstream", "cluster": {
                "server": "https://localhost:7443", "certificate-authority": etc.join("cert.pem"),
            }}],
            "users": [{"name": "ann", "user": {"token": token.trim()}}],
            "contexts": [{"name": "wsstream", "context": {"cluster": "wsstream", "user": "ann"}}],
        });
        fs::write(folder.join("kubeconfig"), kubeconfig.to_string())?;
        Ok(etc)
    }
}

fn rights(client: &Client<'_>) -> Result<()> {
    let said =
        client.script("id -u; grep -E '^(NoNewPrivs|CapBnd):' /proc/self/status; touch /x 2>&1 || true")?;
    let words: Vec<_> = said.split_whitespace().collect();
    let expected = ["65532", "CapBnd:", "0000000000000000", "NoNewPrivs:", "1"];
    ensure!(words.starts_with(&expected) && said.contains("Read-only file system"), "{said}");
    Ok(())
}

/// The server is process 1, to which orphans fall.
fn dead(client: &Client<'_>) -> Result<()> {
    // One that loses its parent while the session runs, and one that outlives it.
    client.script("(setsid sleep 0.1 &) ; (setsid sleep 1 &) ; sleep 0.3")?;
    // Whoever the sleeping one belongs to.
    let list = "for p in /proc/[0-9]*; do sed -n 's/^Name:.//p;s/^State:.//p' $p/status 2> /dev/null; done";
    until(SOON, "end of what a session has left", || Ok(!client.script(list)?.contains("sleep\nS")))?;
    let mut last = String::new();
    until(SOON, "list without dead processes", || {
        last = client.script(list)?;
        Ok(!last.contains("(zombie)"))
    })
    .context(last)
}

fn stop(image: &Image<'_>, mut container: Child, client: &Client<'_>) -> Result<()> {
    let patient = client.patient(image.folder.path())?;
    let mut podman = image.podman(60);
    let mut stopping = podman.args(["stop", "--time", "30", "wsstream"]).stdout(Stdio::null()).spawn()?;
    until(SOON, "server that stops", || Ok(image.log().contains("SIGTERM: stopping")))?;
    patient.finish()?;
    ensure!(stopping.wait()?.success(), "podman stop failed");
    let status = container.wait()?;
    ensure!(status.code() == Some(0), "the container ended with {status}");
    Ok(())
}
