//! The service under a real systemd: installed by the commands of docs/operations.md, and held against what the page and the
//! unit promise.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{
    client::{Client, SOON, until},
    machine::Machine,
    room::Room,
};
use crate::{
    report::{Outcome, Totals},
    workspace::{Workspace, capture},
};

const UNIT: &str = "wsstream.service";

/// Its cases.
pub(super) fn cases(workspace: &Workspace, room: &Room, program: &Path, packed: &Path, totals: &mut Totals) {
    let mut booted = None;
    totals.case("dist: systemd boots", || match Machine::boot(workspace, room, program, packed) {
        Ok(machine) => {
            booted = Some(machine);
            Outcome::Passed
        }
        Err(error) => Outcome::Failed(format!("{error:#}")),
    });
    let Some(machine) = booted else { return };
    let kubeconfig = machine.folder().join("kubeconfig");
    let service =
        Service { machine: &machine, workspace, client: Client { room, program, kubeconfig: &kubeconfig } };
    let checks: [(&str, Check<'_>); 9] = [
        ("it starts, installed as docs/operations.md tells", Service::installed),
        ("systemd-analyze security of what runs", Service::exposure),
        ("a session has its place and no rights", Service::session),
        ("kubectl and a terminal in it", Service::terminal),
        ("root is its operator and no session is", Service::operator),
        ("stopped, it lets a session finish", Service::stopped),
        ("a socket starts it, and holds connections in a restart", Service::socket),
        ("it tells the watchdog, and is killed when it does not", Service::watchdog),
        ("systemd has no complaint about it", Service::complaints),
    ];
    for (name, check) in checks {
        let mut passed = false;
        totals.case(&format!("dist: service: {name}"), || {
            let checked = check(&service).with_context(|| service.journal());
            passed = checked.is_ok();
            checked.into()
        });
        if !passed {
            // What comes next would say the same.
            return;
        }
    }
    totals.case("dist: the machine turns itself off", || machine.power_off().into());
}

type Check<'a> = fn(&Service<'a>) -> Result<()>;

struct Service<'a> {
    machine: &'a Machine,
    workspace: &'a Workspace,
    client: Client<'a>,
}

impl<'a> Service<'a> {
    fn journal(&self) -> String {
        let wanted = format!("systemctl status --no-pager {UNIT} || true; journalctl --no-pager -n 20");
        self.machine.run(&wanted).unwrap_or_else(|error| format!("{error:#}"))
    }

    fn page(&self) -> Result<String> {
        fs::read_to_string(self.workspace.root.join("docs/operations.md")).context("docs/operations.md")
    }

    /// Waits until a property is as it should be.
    fn becomes(&self, name: &str, value: &str) -> Result<()> {
        let mut last = String::new();
        let what = format!("{name}={value}");
        until(SOON, &what, || {
            last = self.machine.property(UNIT, name)?;
            Ok(last == value)
        })
        .with_context(|| format!("{name}={last}"))
    }

    /// Makes the service's own kubeconfig the client's.
    fn learn(&self) -> Result<()> {
        // Its /run is not in the tree.
        let text = self.machine.run("cat /run/wsstream/kubeconfig")?;
        fs::write(self.client.kubeconfig, text).context("kubeconfig")
    }

    fn installed(&self) -> Result<()> {
        let page = self.page()?;
        let key = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=x -keyout";
        capture(
            std::process::Command::new("sh")
                .args(["-c", &format!("{key} key.pem -out cert.pem")])
                .current_dir(self.machine.file("/root/source")),
        )?;
        let mut said = String::new();
        for heading in ["## Install", "## As a service"] {
            let commands = block(&page, heading)?;
            said = self.machine.run(&format!("set -x; cd /root/source\n{commands}"))?;
        }
        ensure!(said.contains("Status: \"serving, 0 sessions\""), "{said}");
        for (name, value) in
            [("Type", "notify"), ("ActiveState", "active"), ("NRestarts", "0"), ("CanReload", "no")]
        {
            let found = self.machine.property(UNIT, name)?;
            ensure!(found == value, "{name}={found}");
        }
        self.learn()?;
        ensure!(self.client.probe("/readyz")? == "ok", "/readyz");
        let check =
            "runuser -u wsstream -- wsstream serve --check-config --config /etc/wsstream/wsstream.toml";
        ensure!(self.machine.run(check)?.contains("ok"), "--check-config as the page tells");
        Ok(())
    }

    /// The number that the page states.
    fn exposure(&self) -> Result<()> {
        let said = self.machine.run(&format!("systemd-analyze security --no-pager {UNIT}"))?;
        let line = said.lines().find(|line| line.contains("Overall exposure level")).context("no rating")?;
        println!("{line}");
        let number = line.split_whitespace().find(|word| word.contains('.') && word.parse::<f32>().is_ok());
        let stated = format!("rates the running unit at {} of 10", number.context("no number")?);
        ensure!(self.page()?.contains(&stated), "docs/operations.md does not say: {stated}");
        Ok(())
    }

    fn session(&self) -> Result<()> {
        let said = self.client.script(
            "id -un; pwd; grep ^0: /proc/self/cgroup; grep -E '^(NoNewPrivs|CapBnd):' /proc/self/status; umask; cat \
             /proc/1/comm 2>&1 || true; touch /etc/x 2>&1 || true; ls /home /root 2>&1 || true; unshare --user true 2>&1 || \
             true; echo a > here; cat here; rm here; echo b > /tmp/there; cat /tmp/there",
        )?;
        for expected in [
            "wsstream\n/var/lib/wsstream\n",
            "0::/system.slice/wsstream.service/wsstream-",
            "CapBnd:\t0000000000000000",
            "NoNewPrivs:\t1",
            "\n0077\n",
            "/proc/1/comm: No such file",
            "/etc/x': Read-only file system",
            "'/home': Permission denied",
            "'/root': Permission denied",
            "unshare failed: Operation not permitted",
            "\na\nb\n",
        ] {
            ensure!(said.contains(expected), "no {expected:?} in:\n{said}");
        }
        ensure!(!self.machine.file("/tmp/there").exists(), "/tmp is not its own");
        // The control group goes with the command.
        let groups = "find /sys/fs/cgroup/system.slice/wsstream.service -mindepth 1 -type d";
        until(SOON, "end of the session's control group", || Ok(self.machine.run(groups)?.is_empty()))
    }

    fn terminal(&self) -> Result<()> {
        self.client.kubectl(self.workspace)?;
        self.client.terminal()
    }

    fn operator(&self) -> Result<()> {
        for asks in ["wsstream ps", "runuser -u wsstream -- wsstream ps"] {
            let said = self.machine.run(asks)?;
            ensure!(said.starts_with("NUMBER"), "{said}");
        }
        let asks = "wsstream ps --admin-socket $(echo /run/wsstream/*.admin) 2>&1 || echo \"exit code $?\"";
        let said = self.client.script(asks)?;
        ensure!(said.contains("not for commands of sessions") && said.contains("exit code 1"), "{said}");
        Ok(())
    }

    fn stopped(&self) -> Result<()> {
        let patient = self.client.patient(self.machine.folder())?;
        let mut stopping = self.machine.shell("systemctl stop wsstream.service").spawn()?;
        self.becomes("StatusText", "stopping, 1 session")?;
        patient.finish()?;
        ensure!(stopping.wait()?.success(), "systemctl stop failed");
        for (name, value) in [("ActiveState", "inactive"), ("Result", "success"), ("ExecMainStatus", "0")] {
            self.becomes(name, value)?;
        }
        Ok(())
    }

    fn socket(&self) -> Result<()> {
        self.machine.run(
            "sed -i /^listen/d /etc/wsstream/wsstream.toml; systemctl disable wsstream.service; systemctl enable --now \
             wsstream.socket",
        )?;
        ensure!(self.machine.property(UNIT, "ActiveState")? == "inactive", "it runs before anybody asked");
        ensure!(self.client.probe("/readyz")? == "ok", "/readyz");
        self.becomes("ActiveState", "active")?;
        self.learn()?;
        ensure!(self.client.script("echo here")? == "here\n", "no session over the socket");
        // A start that takes its time, so that somebody can come meanwhile.
        self.drop_in("ExecStartPre=/bin/sleep 2")?;
        self.machine.run("systemctl restart --no-block wsstream.service")?;
        self.becomes("ActiveState", "activating")?;
        ensure!(self.client.probe("/readyz")? == "ok", "/readyz in a restart");
        self.drop_in("")
    }

    fn watchdog(&self) -> Result<()> {
        ensure!(self.machine.property(UNIT, "WatchdogUSec")? == "30s", "WatchdogSec");
        let heard = || self.machine.property(UNIT, "WatchdogTimestampMonotonic");
        let first = heard()?;
        until(SOON, "word to the watchdog", || Ok(heard()? != first))?;
        self.drop_in("WatchdogSec=2s")?;
        self.machine.run("systemctl restart wsstream.service; systemctl reset-failed wsstream.service")?;
        let (before, first) = (self.machine.property(UNIT, "NRestarts")?, heard()?);
        self.machine.run("systemctl kill --kill-whom=main --signal=STOP wsstream.service")?;
        until(SOON, "restart", || Ok(self.machine.property(UNIT, "NRestarts")? != before))?;
        self.becomes("ActiveState", "active")?;
        ensure!(heard()? != first, "nothing from the new server");
        self.learn()?;
        ensure!(self.client.script("echo again")? == "again\n", "no session in the new server");
        self.drop_in("")
    }

    /// Changes the unit for a while.
    fn drop_in(&self, line: &str) -> Result<()> {
        let folder = "/run/systemd/system/wsstream.service.d";
        self.machine
            .run(&format!(
                "mkdir -p {folder}; printf '[Service]\\n{line}\\n' > {folder}/test.conf; systemctl daemon-reload"
            ))
            .map(drop)
    }

    /// Options that it does not know, directories that it cannot make, signals that it had to send.
    fn complaints(&self) -> Result<()> {
        // The watchdog's end was ours.
        let said = self.machine.run(
            "journalctl --no-pager --quiet --priority warning --output cat _PID=1 | grep -i wsstream | grep -viE \
             'watchdog|code=dumped|ABRT' || true",
        )?;
        ensure!(said.trim().is_empty(), "{said}");
        Ok(())
    }
}

/// The commands of the first block below a heading, but for those that compile.
fn block(page: &str, heading: &str) -> Result<String> {
    let (_, section) = page.split_once(&format!("\n{heading}\n")).with_context(|| heading.to_owned())?;
    let (_, block) = section.split_once("```sh\n").with_context(|| format!("{heading}: no commands"))?;
    let (commands, _) = block.split_once("```").context("a block that does not end")?;
    Ok(commands
        .lines()
        .filter(|line| !line.starts_with("cargo "))
        .fold(String::new(), |text, line| text + line + "\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_those_of_the_section() {
        let page = "# x\n```sh\nno\n```\n## Install\n\n```sh\ncargo build\ninstall a\n```\n```sh\nno\n```\n";
        assert_eq!(block(page, "## Install").unwrap(), "install a\n");
        assert!(block(page, "## As a service").is_err());
    }
}
