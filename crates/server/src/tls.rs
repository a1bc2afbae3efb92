//! The certificate: made at start so that nobody has to run openssl first, or loaded from PEM files with errors that say
//! which file and what is wrong with it.

mod client;
mod live;

pub(crate) use client::identity_of;
pub(crate) use live::Live;

use jiff::{Timestamp, ToSpan, civil::DateTime, tz::TimeZone};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use rustix::process::{Gid, getegid, getgroups};
use rustls::{
    ServerConfig, SupportedProtocolVersion,
    client::verify_server_name,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem, pem::PemObject},
    server::{NoServerSessionStorage, ParsedCertificate},
    version::{TLS12, TLS13},
};
use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};
use thiserror::Error;

/// What the server presents, and what a client needs to trust it.
#[derive(Clone)]
pub struct Certificate {
    /// rustls with ring, ALPN `http/1.1` only: HTTP/2 is not offered because an upgrade needs HTTP/1.1.
    pub config: Arc<ServerConfig>,
    /// PEM for `certificate-authority-data`.
    pub trust_pem: String,
    chain: Vec<CertificateDer<'static>>,
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("trust_pem", &self.trust_pem).finish_non_exhaustive()
    }
}

/// What is asked of clients. The default: TLS 1.2 or later, no certificate.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TlsSettings {
    /// PEM of the authorities whose client certificates name a user: the subject's common name, its organizations being
    /// the groups.
    pub client_ca: Option<PathBuf>,
    /// Whether a client must have a certificate of theirs; else it may.
    pub client_required: bool,
    /// The oldest version that is spoken.
    pub min_version: MinVersion,
}

/// The oldest version of TLS that is spoken. `FromStr` reads `1.2` and `1.3`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MinVersion {
    /// TLS 1.2, which rustls has in its safe form only: forward secrecy and authenticated encryption. The default.
    #[default]
    Tls12,
    /// TLS 1.3.
    Tls13,
}

impl std::str::FromStr for MinVersion {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        match typed {
            "1.2" => Ok(Self::Tls12),
            "1.3" => Ok(Self::Tls13),
            _ => Err(format!("{typed:?} is not a version of TLS that can be asked for: write 1.2 or 1.3")),
        }
    }
}

/// A chain and its key, before it is known what is asked of clients.
struct Material {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    trust_pem: String,
}

impl Clone for Material {
    fn clone(&self) -> Self {
        Self { chain: self.chain.clone(), key: self.key.clone_key(), trust_pem: self.trust_pem.clone() }
    }
}

impl Certificate {
    /// Makes an ECDSA P-256 certificate for `localhost`, the loopback addresses, this machine's host name and
    /// `addresses`, signed by an authority whose key is thrown away. An authority of its own, not a self-signed leaf:
    /// Go, OpenSSL in strict mode (Python 3.13) and webpki agree on nothing less.
    pub fn generate(addresses: &[IpAddr]) -> Result<Self, TlsError> {
        Self::new(Material::generate(addresses)?, &TlsSettings::default())
    }

    /// Loads a certificate chain (leaf first) and its private key (PKCS#8, PKCS#1 or SEC1) from PEM files.
    /// Clients are told to trust the chain itself. Warns in the log when others than the owner may read the key.
    pub fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        Self::load_with(cert, key, &TlsSettings::default())
    }

    /// The same, asking of clients what the settings say.
    pub fn load_with(cert: &Path, key: &Path, settings: &TlsSettings) -> Result<Self, TlsError> {
        let pair = |error| match error {
            TlsError::Config(error) => TlsError::Pair { cert: cert.to_owned(), key: key.to_owned(), error },
            other => other,
        };
        let loaded = Self::new(Material::load(cert, key)?, settings).map_err(pair)?;
        // Of what is used: a pair that does not fit is tried again and again.
        warn_if_readable_by_others(key, "private key");
        Ok(loaded)
    }

    /// A certificate made at start, asking of clients what the settings say.
    pub fn generate_with(addresses: &[IpAddr], settings: &TlsSettings) -> Result<Self, TlsError> {
        Self::new(Material::generate(addresses)?, settings)
    }

    fn new(material: Material, settings: &TlsSettings) -> Result<Self, TlsError> {
        // The provider is named, not taken from a process-wide default that another crate may have set.
        let provider = Arc::new(ring::default_provider());
        let versions: &[&SupportedProtocolVersion] = match settings.min_version {
            MinVersion::Tls12 => &[&TLS13, &TLS12],
            MinVersion::Tls13 => &[&TLS13],
        };
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .map_err(TlsError::Config)?;
        let builder = match &settings.client_ca {
            Some(ca) => {
                builder.with_client_cert_verifier(client::verifier(ca, settings.client_required, provider)?)
            }
            None => builder.with_no_client_auth(),
        };
        let Material { chain, key, trust_pem } = material;
        let mut config = builder.with_single_cert(chain.clone(), key).map_err(TlsError::Config)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        if settings.client_ca.is_some() {
            // A resumed session takes over the client's certificate unchecked: one that has expired since, for example.
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
        Ok(Self { config: Arc::new(config), trust_pem, chain })
    }

    /// Whether a client that connects to `name` (an address or a DNS name) will find it in the certificate.
    pub fn covers(&self, name: &str) -> bool {
        let Some(leaf) = self.chain.first() else { return false };
        let (Ok(leaf), Ok(name)) = (ParsedCertificate::try_from(leaf), ServerName::try_from(name)) else {
            return false;
        };
        verify_server_name(&leaf, &name).is_ok()
    }
}

impl Material {
    fn generate(addresses: &[IpAddr]) -> Result<Self, TlsError> {
        let make = || -> Result<_, rcgen::Error> {
            let authority_key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut authority = parameters("wsstream generated authority")?;
            authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
            authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
            let authority_pem = authority.self_signed(&authority_key)?.pem();

            let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
            let mut leaf = parameters("wsstream")?;
            leaf.is_ca = IsCa::ExplicitNoCa;
            leaf.use_authority_key_identifier_extension = true;
            leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            leaf.subject_alt_names = alternative_names(addresses)?;
            let issuer = Issuer::new(authority, authority_key);
            let certificate = leaf.signed_by(&key, &issuer)?;
            Ok((vec![certificate.der().clone()], key.serialize_der(), authority_pem))
        };
        let (chain, key, trust_pem) = make().map_err(TlsError::Generate)?;
        Ok(Self { chain, key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key)), trust_pem })
    }

    fn load(cert: &Path, key: &Path) -> Result<Self, TlsError> {
        let fail = |path: &Path, fault| TlsError::File { path: path.to_owned(), fault };
        let cert_pem = std::fs::read(cert).map_err(|e| fail(cert, FileFault::Read(e)))?;
        let key_pem = std::fs::read(key).map_err(|e| fail(key, FileFault::Read(e)))?;
        let chain = CertificateDer::pem_slice_iter(&cert_pem)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| fail(cert, FileFault::Pem(e)))?;
        if chain.is_empty() {
            return Err(fail(cert, FileFault::NoCertificate));
        }
        let private = match PrivateKeyDer::from_pem_slice(&key_pem) {
            Ok(private) => private,
            Err(pem::Error::NoItemsFound) if contains(&key_pem, b"ENCRYPTED PRIVATE KEY") => {
                return Err(fail(key, FileFault::EncryptedKey));
            }
            Err(pem::Error::NoItemsFound) => return Err(fail(key, FileFault::NoKey)),
            Err(e) => return Err(fail(key, FileFault::Pem(e))),
        };
        Ok(Self { chain, key: private, trust_pem: String::from_utf8_lossy(&cert_pem).into_owned() })
    }
}
/// A certificate that cannot be used. The text names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// Making a certificate failed.
    #[error("cannot generate a certificate: {0}")]
    Generate(#[source] rcgen::Error),
    /// The TLS library refused a generated certificate.
    #[error("cannot set up TLS: {0}")]
    Config(#[source] rustls::Error),
    /// A file cannot be read or holds something else.
    #[error("{path}: {fault}", path = path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        fault: FileFault,
    },
    /// Both files are readable and do not work together.
    #[error("certificate {cert} and private key {key}: {}", pair_fault(error), cert = cert.display(), key = key.display())]
    Pair {
        /// The certificate file.
        cert: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What the TLS library says.
        #[source]
        error: rustls::Error,
    },
}

/// What is wrong with a PEM file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileFault {
    /// It cannot be read.
    #[error("{0}")]
    Read(#[source] io::Error),
    /// It is not PEM.
    #[error("is not valid PEM: {0}")]
    Pem(#[source] pem::Error),
    /// A certificate in it is no authority that can be used.
    #[error("holds an authority that cannot be used: {0}")]
    Authority(String),
    /// No certificate in it.
    #[error("holds no certificate (no `BEGIN CERTIFICATE` block)")]
    NoCertificate,
    /// No key in it.
    #[error("holds no private key (no `BEGIN PRIVATE KEY` block)")]
    NoKey,
    /// The key is encrypted.
    #[error("the private key is encrypted; decrypt it first (openssl pkey -in FILE -out FILE)")]
    EncryptedKey,
}

fn pair_fault(error: &rustls::Error) -> String {
    match error {
        rustls::Error::InconsistentKeys(_) => "the key is not the one of the certificate".to_owned(),
        other => other.to_string(),
    }
}

fn parameters(common_name: &str) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::<String>::new())?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    // A day of slack for clocks that differ. Ten years, because the pair lives as long as the process and is made anew
    // at the next start: an expiry would only ever end a server that runs well.
    let now = Timestamp::now().to_zoned(TimeZone::UTC).datetime();
    let date = |at: DateTime| {
        let (month, day) = (at.month().unsigned_abs(), at.day().unsigned_abs());
        rcgen::date_time_ymd(i32::from(at.year()), month, day)
    };
    params.not_before = date(now.checked_sub(1.day()).unwrap_or(now));
    params.not_after = date(now.checked_add(10.years()).unwrap_or(now));
    Ok(params)
}

fn alternative_names(addresses: &[IpAddr]) -> Result<Vec<SanType>, rcgen::Error> {
    let mut names = vec![SanType::DnsName("localhost".try_into()?)];
    if let Some(host) = host_name() {
        names.push(SanType::DnsName(host.try_into()?));
    }
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    for address in loopback.into_iter().chain(addresses.iter().copied().filter(|a| !a.is_unspecified())) {
        let name = SanType::IpAddress(address);
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The kernel's host name, when it is one that a certificate can carry.
pub(crate) fn host_name() -> Option<String> {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?.trim().to_ascii_lowercase();
    let valid = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    (name.len() <= 253 && name != "localhost" && name.split('.').all(valid)).then_some(name)
}

/// Secrets on disk belong to one user; others get a warning, not a refusal: what a site hands over is its business. A file
/// that our group may read and not write is how root hands over what the server is not to change.
pub(crate) fn warn_if_readable_by_others(path: &Path, what: &str) {
    if let Ok(metadata) = std::fs::metadata(path) {
        let mode = metadata.mode() & 0o777;
        if is_open_to_others(mode, is_our_group(metadata.gid())) {
            tracing::warn!(
                path = %path.display(),
                mode = format_args!("{mode:04o}"),
                "others may read or write this {what}: chmod 600 it, or 640 with a group of the server"
            );
        }
    }
}

fn is_open_to_others(mode: u32, our_group: bool) -> bool {
    let refused = if our_group { 0o037 } else { 0o077 };
    mode & refused != 0
}

fn is_our_group(gid: u32) -> bool {
    let ours = |group: &Gid| group.as_raw() == gid;
    ours(&getegid()) || getgroups().is_ok_and(|groups| groups.iter().any(ours))
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|w| w == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_generated_certificate_covers_where_we_listen() {
        let certificate =
            Certificate::generate(&["192.0.2.7".parse().unwrap(), "0.0.0.0".parse().unwrap()]).unwrap();
        for name in ["localhost", "127.0.0.1", "::1", "192.0.2.7"] {
            assert!(certificate.covers(name), "{name}");
        }
        for name in ["0.0.0.0", "192.0.2.8", "example.org", ""] {
            assert!(!certificate.covers(name), "{name}");
        }
        assert_eq!(certificate.config.alpn_protocols, [b"http/1.1".to_vec()]);
    }

    /// root:wsstream 0640 is the layout that the unit's comments ask for, and was warned of.
    #[test]
    fn a_file_that_our_group_may_read_is_no_reason_to_warn() {
        for (mode, our_group, warned) in [
            (0o600, false, false),
            (0o640, true, false),
            (0o640, false, true),
            (0o660, true, true),
            (0o644, true, true),
        ] {
            assert_eq!(is_open_to_others(mode, our_group), warned, "{mode:o} {our_group}");
        }
        assert!(is_our_group(getegid().as_raw()) && !is_our_group(4_000_000_000));
    }

    /// A pair of PEM files as an operator would have them.
    fn pair(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let cert = CertificateParams::new(vec!["wss.example".to_owned()]).unwrap().self_signed(&key).unwrap();
        let (cert_path, key_path) = (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")));
        std::fs::write(&cert_path, cert.pem()).unwrap();
        std::fs::write(&key_path, key.serialize_pem()).unwrap();
        (cert_path, key_path)
    }

    #[test]
    fn files_load_and_their_faults_name_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let (cert, key) = pair(dir.path(), "a");
        let (_, other_key) = pair(dir.path(), "b");
        assert!(Certificate::load(&cert, &key).unwrap().covers("wss.example"));

        let empty = dir.path().join("empty.pem");
        std::fs::write(&empty, "").unwrap();
        let encrypted = dir.path().join("enc.pem");
        std::fs::write(
            &encrypted,
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAA==\n-----END ENCRYPTED PRIVATE KEY-----\n",
        )
        .unwrap();
        let torn = dir.path().join("torn.pem");
        std::fs::write(&torn, "-----BEGIN CERTIFICATE-----\nAA==\n").unwrap();
        let none = dir.path().join("none.pem");
        for (cert, key, expected) in [
            (&none, &key, "none.pem: No such file"),
            (&cert, &none, "none.pem: No such file"),
            (&empty, &key, "empty.pem: holds no certificate"),
            (&key, &key, "a.key: holds no certificate"),
            (&cert, &empty, "empty.pem: holds no private key"),
            (&cert, &encrypted, "enc.pem: the private key is encrypted"),
            (&torn, &key, "torn.pem: is not valid PEM"),
            (&cert, &other_key, "b.key: the key is not the one of the certificate"),
        ] {
            let error = Certificate::load(cert, key).unwrap_err().to_string();
            assert!(error.contains(expected), "{error} lacks {expected}");
        }
    }
}
