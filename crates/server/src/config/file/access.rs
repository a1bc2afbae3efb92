//! Who reaches the server, and how: addresses, certificate, tokens.

use super::{server::RawServer, source::Source};
use crate::{
    browser::parse_host,
    config::{AdminPlace, Config, ConfigError, client_auth},
};
use serde::Deserialize;
use std::net::SocketAddr;
use toml::Spanned;

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected an address such as \"127.0.0.1:7443\", or a list of them")]
pub(super) enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected the number of a user or a list of them")]
pub(super) enum OneOrManyUids {
    One(u32),
    Many(Vec<u32>),
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "expected a word or a list of words")]
pub(super) enum Words {
    One(String),
    Many(Vec<String>),
}

/// Reads a setting that may be given several times as a flag.
fn words<T>(
    key: &str,
    typed: Option<Spanned<Words>>,
    read: impl Fn(&str) -> Result<T, String>,
    source: &Source<'_>,
) -> Result<Vec<T>, ConfigError> {
    let Some(typed) = typed else { return Ok(Vec::new()) };
    let span = typed.span();
    let words = match typed.into_inner() {
        Words::One(word) => vec![word],
        Words::Many(words) => words,
    };
    let fault = |fault| source.error(span.clone(), format!("{key}: {fault}"));
    words.iter().map(|word| read(word).map_err(fault)).collect()
}

pub(super) fn read(raw: &mut RawServer, config: &mut Config, source: &Source<'_>) -> Result<(), ConfigError> {
    if let Some(listen) = raw.listen.take() {
        let span = listen.span();
        let typed = match listen.into_inner() {
            OneOrMany::One(address) => vec![address],
            OneOrMany::Many(addresses) => addresses,
        };
        for text in typed {
            if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
                config.access.listen_unix.push(source.resolve(path.into()));
                continue;
            }
            config.listen.push(text.parse::<SocketAddr>().map_err(|_| {
                source.error(
                    span.clone(),
                    format!("listen: {text:?} is not ADDRESS:PORT, such as 127.0.0.1:7443 or [::1]:7443, or unix:PATH"),
                )
            })?);
        }
    }
    if let (Some(half), None) | (None, Some(half)) = (&raw.tls_cert, &raw.tls_key) {
        return Err(source.error(half.span(), ConfigError::HalfCertificate.to_string()));
    }
    if let (Some(cert), true) = (&raw.tls_cert, raw.insecure_http) {
        return Err(source.error(cert.span(), ConfigError::InsecureWithCertificate.to_string()));
    }
    config.insecure_http = raw.insecure_http;
    config.tls_cert = raw.tls_cert.take().map(|path| source.resolve(path.into_inner()));
    config.tls_key = raw.tls_key.take().map(|path| source.resolve(path.into_inner()));
    config.token_file = raw.token_file.take().map(|path| source.resolve(path));
    config.access.users = raw.users.take().map(|path| source.resolve(path));
    config.access.policy = raw.policy.take().map(|path| source.resolve(path));
    let access = &mut config.access;
    source.set("client_auth", raw.client_auth.take(), client_auth, &mut access.tls.client_required)?;
    access.tls.client_ca = raw.client_ca.take().map(|path| source.resolve(path.into_inner()));
    source.set("tls_min_version", raw.tls_min_version.take(), str::parse, &mut access.tls.min_version)?;
    access.allow_uids = match raw.allow_uid.take() {
        None => Vec::new(),
        Some(OneOrManyUids::One(uid)) => vec![uid],
        Some(OneOrManyUids::Many(uids)) => uids,
    };
    access.insecure_listen = raw.insecure_listen;
    access.allowed_hosts = words("allowed_host", raw.allowed_host.take(), parse_host, source)?;
    access.allowed_origins = words("allowed_origin", raw.allowed_origin.take(), str::parse, source)?;
    config.kubeconfig = raw.kubeconfig.take().map(|path| source.resolve(path));
    config.admin_socket = match raw.admin_socket.take() {
        None => AdminPlace::Default,
        Some(word) if word.as_os_str() == "off" => AdminPlace::Off,
        Some(path) => AdminPlace::At(source.resolve(path)),
    };
    Ok(())
}
