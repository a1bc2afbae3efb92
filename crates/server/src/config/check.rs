//! What can be wrong with a configuration beyond its own text: files that it names and that are not there, cannot be read, or
//! hold something else. Nothing is started, listened on or written.

use super::{AdminPlace, Config, ConfigError, PodSpec, spec};
use crate::{
    admin::AdminSocket,
    audit::Audit,
    auth::{Token, Users},
    authz::Policy,
    kubeconfig,
    reload::line_of,
    serve::ServeError,
    tls::{Certificate, TlsError},
};
use std::{collections::BTreeMap, fmt, path::Path};

/// One thing that is wrong, and the setting that has to be changed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fault {
    /// The key in `[server]`; the flag has the same name, with `-` for `_`.
    pub key: &'static str,
    /// What is wrong. Names the file it is in, and the line where there is one; no secret.
    pub message: String,
}

impl Fault {
    fn new(key: &'static str, error: impl fmt::Display) -> Self {
        Self { key, message: error.to_string() }
    }
}

impl Config {
    /// What contradicts itself, whatever is in the files, each with the key that has to be changed.
    pub(super) fn contradictions(&self) -> Vec<(&'static str, ConfigError)> {
        let mut found = Vec::new();
        match (&self.tls_cert, &self.tls_key) {
            (Some(_), None) => found.push(("tls_cert", ConfigError::HalfCertificate)),
            (None, Some(_)) => found.push(("tls_key", ConfigError::HalfCertificate)),
            (Some(_), Some(_)) if self.insecure_http => {
                found.push(("tls_cert", ConfigError::InsecureWithCertificate));
            }
            _ => {}
        }
        match (&self.access.tls.client_ca, self.access.tls.client_required) {
            (Some(_), _) if self.insecure_http => {
                found.push(("client_ca", ConfigError::InsecureWithClientAuthority));
            }
            // Required of nobody is required by nobody.
            (None, true) => found.push(("client_auth", ConfigError::NoClientAuthority)),
            _ => {}
        }
        let limits = self.limits.check().map_err(ConfigError::Limits);
        found.extend(limits.err().map(|error| ("max_sessions", error)));
        let pods = self.pods.iter().filter_map(|pod| PodSpec::check(pod).err());
        found.extend(pods.map(|error| ("pod", error.into())));
        found.extend(spec::check_unique(&self.pods).err().map(|error| ("pod", error.into())));
        found
    }

    /// Looks at everything that the configuration names, and yields all that is wrong, in the order of the settings.
    /// Reads files, and blocks while it does.
    pub fn faults(&self) -> Vec<Fault> {
        let mut faults: Vec<_> =
            self.contradictions().into_iter().map(|(key, error)| Fault::new(key, error)).collect();
        if let (Some(cert), Some(key)) = (&self.tls_cert, &self.tls_key) {
            faults.extend(Certificate::load(cert, key).err().map(|error| match &error {
                TlsError::File { path, .. } if path == key => Fault::new("tls_key", error),
                _ => Fault::new("tls_cert", error),
            }));
        }
        if self.access.tls.client_ca.is_some() {
            let made = Certificate::generate_with(&[], &self.access.tls);
            faults.extend(made.err().map(|error| Fault::new("client_ca", error)));
        }
        if let Some(path) = &self.token_file {
            faults.extend(Token::read_file(path).err().map(|error| Fault::new("token_file", error)));
        }
        if let Some(path) = &self.access.users {
            faults.extend(Users::read_file(path).err().map(|error| Fault::new("users", error)));
        }
        if let Some(path) = &self.access.policy {
            faults.extend(Policy::read_file(path).err().map(|error| Fault::new("policy", error)));
        }
        if let Some(open) = self.metrics_listen.filter(|address| !address.ip().to_canonical().is_loopback()) {
            faults.push(Fault::new("metrics_listen", ServeError::MetricsBeyondLoopback(open)));
        }
        faults.extend(self.places());
        faults
    }

    /// What cannot be written where it should be.
    fn places(&self) -> Vec<Fault> {
        let mut faults = Vec::new();
        if let Some(path) = &self.kubeconfig {
            faults.extend(kubeconfig::check(path).err().map(|error| Fault::new("kubeconfig", error)));
        }
        faults.extend(Audit::check(&self.audit).err().map(|error| Fault::new("audit_log", error)));
        if let AdminPlace::At(path) = &self.admin_socket {
            faults.extend(AdminSocket::check(path).err().map(|error| Fault::new("admin_socket", error)));
        }
        for path in &self.access.listen_unix {
            faults.extend(AdminSocket::check(path).err().map(|error| Fault::new("listen", error)));
        }
        faults
    }

    /// The lines, from 1, on which the keys of `[server]` stand in a file. Empty for a file that cannot be read: then
    /// [`Config::load`] says what is wrong.
    pub fn lines(path: &Path) -> BTreeMap<String, usize> {
        std::fs::read_to_string(path).map(|text| lines_of(&text)).unwrap_or_default()
    }
}

fn lines_of(text: &str) -> BTreeMap<String, usize> {
    let Ok(file) = toml::de::DeTable::parse(text) else { return BTreeMap::new() };
    let Some(server) = file.get_ref().get("server").and_then(|server| server.get_ref().as_table()) else {
        return BTreeMap::new();
    };
    server.keys().map(|key| (key.get_ref().to_string(), line_of(text, key.span().start))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::generate_simple_self_signed;

    #[test]
    fn every_key_has_its_line() {
        let lines =
            lines_of("# c\n[server]\nlisten = [\n \"a\",\n]\ntoken_file = \"x\"\n\n[[pod]]\nname = \"p\"\n");
        assert_eq!(lines, [("listen".to_owned(), 3), ("token_file".to_owned(), 6)].into());
        assert!(lines_of("server = 1").is_empty() && lines_of("[").is_empty());
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut config = Config::default();
        assert_eq!(config.faults(), []);
        config.token_file = Some(file("tokens"));
        (config.tls_cert, config.tls_key) = (Some(file("cert.pem")), Some(file("key.pem")));
        let keys = |config: &Config| config.faults().iter().map(|fault| fault.key).collect::<Vec<_>>();
        assert_eq!(keys(&config), ["tls_cert", "token_file"]);

        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("cert.pem"), made.cert.pem()).unwrap();
        std::fs::write(file("key.pem"), made.signing_key.serialize_pem()).unwrap();
        std::fs::write(file("tokens"), "one\ntwo words\n").unwrap();
        let faults = config.faults();
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].message.contains("tokens: line 2"), "{faults:?}");

        let other = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        std::fs::write(file("key.pem"), other.signing_key.serialize_pem()).unwrap();
        std::fs::write(file("tokens"), "one\n").unwrap();
        assert_eq!(keys(&config), ["tls_cert"], "a key of another certificate");
        std::fs::write(file("key.pem"), "").unwrap();
        assert_eq!(keys(&config), ["tls_key"], "the fault is in the key file");
        config.tls_key = None;
        assert_eq!(keys(&config), ["tls_cert"]);
    }

    #[test]
    fn what_cannot_be_written_is_a_fault_and_is_left_as_it_is() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let mut config = Config { kubeconfig: Some(file("new/kubeconfig")), ..Config::default() };
        config.audit.to = Some(crate::audit::AuditTo::File(file("audit")));
        config.admin_socket = AdminPlace::At(file("new/admin"));
        config.access.listen_unix = vec![file("api")];
        assert_eq!(config.faults(), []);
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), 0, "nothing is made");

        std::fs::write(file("foreign"), "apiVersion: v1\nclusters: [{name: prod}]\n").unwrap();
        symlink(file("foreign"), file("audit")).unwrap();
        std::fs::create_dir(file("open")).unwrap();
        std::fs::set_permissions(file("open"), PermissionsExt::from_mode(0o777)).unwrap();
        config.kubeconfig = Some(file("foreign"));
        config.admin_socket = AdminPlace::At(file("open/admin"));
        config.access.listen_unix = vec![file("foreign"), file("x/".repeat(60).as_str()).join("api")];
        config.metrics_listen = Some(([0, 0, 0, 0], 9443).into());
        let keys: Vec<_> = config.faults().iter().map(|fault| fault.key).collect();
        assert_eq!(
            keys,
            ["metrics_listen", "kubeconfig", "audit_log", "admin_socket", "listen", "listen"],
            "{:?}",
            config.faults()
        );
    }
}
