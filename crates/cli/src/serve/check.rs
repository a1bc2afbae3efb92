//! `--check-config`: says all that is wrong with flags, file and what they name, and starts nothing.

use super::{Plan, ServeArgs};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::notice::print_line;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;
use wsstream_server::Config;
use wsstream_server::config::Fault;

/// Where a setting was typed.
struct Origins {
    file: Option<PathBuf>,
    lines: BTreeMap<String, usize>,
    flags: Vec<&'static str>,
}

impl Origins {
    fn of(args: &ServeArgs) -> Self {
        // Those of the flags that name files, or are wrong only beside others; what else can be wrong with a flag is found when it is read.
        let typed = [
            ("users", args.access.users.is_some()),
            ("client_auth", args.access.client_auth.is_some()),
            ("client_ca", args.access.client_ca.is_some()),
            ("policy", args.access.policy.is_some()),
            ("tls_cert", args.tls_cert.is_some()),
            ("tls_key", args.tls_key.is_some()),
            ("token_file", args.token_file.is_some()),
            ("kubeconfig", args.kubeconfig.is_some()),
            ("listen", !args.listen.is_empty()),
            ("admin_socket", args.admin.admin_socket.is_some()),
            ("audit_log", args.audit.audit_log.is_some()),
            ("metrics_listen", args.audit.metrics_listen.is_some()),
        ];
        Self {
            file: args.config.clone(),
            lines: args.config.as_deref().map(Config::lines).unwrap_or_default(),
            flags: typed.into_iter().filter(|(_, typed)| *typed).map(|(key, _)| key).collect(),
        }
    }

    /// `/etc/wsstream.toml:4: token_file: …` or `--token-file: …`
    fn tell(&self, Fault { key, message, .. }: &Fault) -> String {
        match (&self.file, self.lines.get(*key)) {
            (Some(file), Some(line)) if !self.flags.contains(key) => {
                format!("{}:{line}: {key}: {message}", file.display())
            }
            _ => format!("--{}: {message}", key.replace('_', "-")),
        }
    }
}

/// Runs it.
///
/// # Errors
/// The last line of what is wrong, with the code of a wrong command line.
pub(super) fn run(args: ServeArgs) -> Result<Exit, Failure> {
    let origins = Origins::of(&args);
    let Plan { config, .. } = args.plan().map_err(Failure::into_usage)?;
    let faults = config.faults();
    for fault in &faults {
        print_line(&format!("wsstream: {}", origins.tell(fault)));
    }
    match faults.len() {
        0 => {
            let _ = std::io::stdout().lock().write_all(summary(&config).as_bytes());
            Ok(Exit::Success)
        }
        1 => Err(Failure::usage("the configuration has a fault; nothing was started")),
        number => Err(Failure::usage(format!("the configuration has {number} faults; nothing was started"))),
    }
}

/// What would be served.
fn summary(config: &Config) -> String {
    let mut text = String::from("ok\n");
    let ports = config.listen.iter().map(ToString::to_string);
    let paths = config.access.listen_unix.iter().map(|path| format!("unix:{}", path.display()));
    let listen: Vec<String> = ports.chain(paths).collect();
    let listen = if listen.is_empty() { "handed-over sockets".to_owned() } else { listen.join(", ") };
    let tls = match (&config.tls_cert, config.insecure_http) {
        (Some(cert), _) => format!("TLS with {}", cert.display()),
        (None, true) => "plain HTTP".to_owned(),
        (None, false) => "TLS with a certificate made at start".to_owned(),
    };
    // Writing to a String does not fail.
    let _ = writeln!(text, "  listen: {listen}, {tls}");
    for pod in &config.pods {
        let containers: Vec<&str> = pod.containers.iter().map(|container| container.name.as_str()).collect();
        let _ = writeln!(text, "  pod: {}/{} ({})", pod.namespace, pod.name, containers.join(", "));
    }
    text
}
