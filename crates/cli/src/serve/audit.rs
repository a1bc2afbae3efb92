//! The record of sessions and the metrics: the flags, and where they go.

use super::typed::{at_least_one, set};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use wsstream_server::Config;
use wsstream_server::audit::{ArgvPolicy, AuditTo, OnFailure, file_size};

/// What was typed. What was not typed stays as the configuration file or the default has it.
#[derive(Debug, Args)]
#[command(next_help_heading = "Audit and metrics")]
pub(crate) struct AuditArgs {
    /// Record each session, and each request for one that was refused, as JSON lines in FILE (readable by its owner
    /// alone), or `-` for standard output
    #[arg(long, value_name = "FILE")]
    pub(super) audit_log: Option<PathBuf>,
    /// How much of a command is recorded: `full`, `off`, or `hashed`: the program, and a digest that tells equal
    /// commands of one start of the server [default: hashed]
    #[arg(long, value_name = "POLICY")]
    audit_argv: Option<ArgvPolicy>,
    /// While the record cannot be written: `closed` starts no session, `open` does [default: closed for a file, open
    /// for standard output]
    #[arg(long, value_name = "POLICY")]
    audit_fail: Option<OnFailure>,
    /// Rename the file to FILE.1, and so on, before it grows larger than this, at least 64KiB
    /// [default: 100MiB]
    #[arg(long, value_name = "SIZE", value_parser = file_size)]
    audit_max_size: Option<usize>,
    /// How many such files to keep [default: 10]
    #[arg(long, value_name = "NUMBER", value_parser = number)]
    audit_keep: Option<usize>,
    /// Serve the metrics of Prometheus as plain HTTP here, without authentication; on loopback only, such as
    /// 127.0.0.1:9443. They are at /metrics of the server itself too, for whom the policy lets `get` that path [default: off]
    #[arg(long, value_name = "ADDR:PORT", value_parser = super::parse_address)]
    pub(super) metrics_listen: Option<SocketAddr>,
}

fn number(typed: &str) -> Result<usize, String> {
    at_least_one(typed, "files")
}

impl AuditArgs {
    /// Puts what was typed over what the file said.
    pub(crate) fn apply(self, config: &mut Config) {
        let audit = &mut config.audit;
        if let Some(path) = self.audit_log {
            audit.to = Some(if path.as_os_str() == "-" { AuditTo::Stdout } else { AuditTo::File(path) });
        }
        set(self.audit_argv, &mut audit.argv);
        audit.fail = self.audit_fail.or(audit.fail);
        set(self.audit_max_size, &mut audit.max_size);
        set(self.audit_keep, &mut audit.keep);
        config.metrics_listen = self.metrics_listen.or(config.metrics_listen);
    }
}

#[cfg(test)]
mod tests {
    use super::AuditArgs;
    use clap::{Args as _, Command, FromArgMatches as _};
    use wsstream_server::Config;
    use wsstream_server::audit::{ArgvPolicy, AuditTo, OnFailure};

    #[test]
    fn flags_win_and_what_is_not_typed_stays() {
        let applied = |typed: &str| {
            let command = AuditArgs::augment_args(Command::new("serve").no_binary_name(true));
            let matches = command.try_get_matches_from(typed.split_whitespace()).unwrap();
            let mut config = Config::default();
            (config.audit.argv, config.audit.keep) = (ArgvPolicy::Full, 3);
            AuditArgs::from_arg_matches(&matches).unwrap().apply(&mut config);
            config
        };
        let config = applied("--audit-log a --audit-fail open --audit-max-size 1MiB --metrics-listen :0");
        assert_eq!(config.audit.to, Some(AuditTo::File("a".into())));
        assert_eq!(
            (config.audit.argv, config.audit.keep, config.audit.max_size),
            (ArgvPolicy::Full, 3, 1 << 20)
        );
        assert_eq!(config.audit.on_failure(), OnFailure::Open);
        assert_eq!(config.metrics_listen, Some(([127, 0, 0, 1], 0).into()));
        let config = applied("--audit-log - --audit-argv off");
        assert_eq!((config.audit.to.clone(), config.audit.argv), (Some(AuditTo::Stdout), ArgvPolicy::Off));
        assert_eq!(config.audit.on_failure(), OnFailure::Open, "for standard output");
        assert_eq!(applied("--audit-log a").audit.on_failure(), OnFailure::Closed);
    }
}
