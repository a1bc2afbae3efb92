//! Where the server is reached, and its limits.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use http::Uri;
use thiserror::Error;

use crate::limits::{MemoryBudget, SHARED_BUFFER};
use crate::portforward::server::Options as ForwardOptions;
use crate::remotecommand::server::Options;

/// How a [`Server`](super::Server) behaves. Made by [`new`](Self::new) or [`listening_on`](Self::listening_on).
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    base: Base,
    /// How exec and attach are served. Its memory budgets are shared by all sessions, those of port-forward included.
    pub commands: Options,
    /// How port-forward is served. Its memory budgets are the same; the one for what waits has [`SHARED_BUFFER`] bytes.
    pub forward: ForwardOptions,
    /// How long a URL is good, from the moment it is given out. Default 60 s: a kubelet asks for it at once.
    pub token_ttl: Duration,
    /// How many URLs may be given out and not used yet; what exceeds it is refused
    /// ([`ResourceExhausted`](super::Error::ResourceExhausted)), and nothing that was given out is forgotten for it.
    /// Default 1000, as upstream.
    pub max_tokens: usize,
    /// How long a client may take to take its last output and the failure when
    /// [`Server::drain`](super::Server::drain) ends its session, before the connection is cut. Default 3 s: ample for
    /// what the kernel holds, and short enough for those who stop a service.
    pub farewell: Duration,
}

impl Config {
    /// With the URL at which clients reach the server: `http://HOST[:PORT][/PATH]`, or `https`. What is given out is
    /// resolved against it as RFC 3986 section 5.2 has it, and always absolute: a path that does not end in `/` loses its
    /// last segment.
    ///
    /// # Errors
    ///
    /// The URL is not absolute, or nobody could reach anything at it. Kubelets since 1.36 take a URL without a scheme for
    /// one with TLS, so there is no default for any part.
    pub fn new(base_url: &str) -> Result<Self, ConfigError> {
        let (mut commands, mut forward) = (Options::default(), ForwardOptions::default());
        let shared = MemoryBudget::new(SHARED_BUFFER);
        commands.limits.shared = shared.clone();
        commands.spdy.shared = shared.clone();
        forward.limits = commands.limits.clone();
        forward.spdy.shared = shared;
        Ok(Self {
            base: Base::parse(base_url)?,
            commands,
            forward,
            token_ttl: Duration::from_secs(60),
            max_tokens: 1000,
            farewell: Duration::from_secs(3),
        })
    }

    /// With `http://ADDRESS/`: the address of a listener without TLS, as it is after binding.
    ///
    /// # Errors
    ///
    /// As [`new`](Self::new): the address is a wildcard or its port is 0.
    pub fn listening_on(address: SocketAddr) -> Result<Self, ConfigError> {
        Self::new(&format!("http://{address}/"))
    }

    pub(super) fn base(&self) -> &Base {
        &self.base
    }
}

/// A base URL that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// Not `http://HOST…` or `https://HOST…`.
    #[error("{0:?} is not an absolute http or https URL")]
    NotAbsolute(String),
    /// The host is an address that means all of this machine's, or the port is 0: fine to bind to, but not to reach.
    #[error("{0:?} names no address that a client can connect to; name the one the server is reached at")]
    Unreachable(String),
}

/// The base URL, up to the last `/`.
#[derive(Debug, Clone)]
pub(super) struct Base {
    /// `http://host:port`.
    origin: String,
    /// `/` or `/…/`.
    folder: String,
}

impl Base {
    fn parse(text: &str) -> Result<Self, ConfigError> {
        let not_absolute = || ConfigError::NotAbsolute(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| not_absolute())?;
        let scheme = uri.scheme_str().filter(|scheme| matches!(*scheme, "http" | "https"));
        let (Some(scheme), Some(authority)) = (scheme, uri.authority()) else { return Err(not_absolute()) };
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(not_absolute());
        }
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        if address.is_some_and(|address| address.is_unspecified()) || authority.port_u16() == Some(0) {
            return Err(ConfigError::Unreachable(text.to_owned()));
        }
        let folder = uri.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        Ok(Self { origin: format!("{scheme}://{authority}"), folder: format!("{folder}/") })
    }

    /// The URL of a token.
    pub(super) fn url(&self, route: &str, token: &str) -> String {
        format!("{}{}{route}/{token}", self.origin, self.folder)
    }

    /// The route and the token that a path names.
    pub(super) fn split<'a>(&self, path: &'a str) -> Option<(&'a str, &'a str)> {
        let (route, token) = path.strip_prefix(&*self.folder)?.split_once('/')?;
        (!token.is_empty() && !token.contains('/')).then_some((route, token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_resolved_against_the_base() {
        for (base, expected) in [
            ("http://10.0.0.1:10010", "http://10.0.0.1:10010/exec/T"),
            ("http://10.0.0.1:10010/", "http://10.0.0.1:10010/exec/T"),
            ("https://node/cri/shim/", "https://node/cri/shim/exec/T"),
            ("https://node/cri/shim", "https://node/cri/exec/T"),
            ("http://[::1]:80/x?query=dropped", "http://[::1]:80/exec/T"),
        ] {
            let base = Base::parse(base).unwrap();
            assert_eq!(base.url("exec", "T"), expected);
            let path = expected.parse::<Uri>().unwrap().path().to_owned();
            assert_eq!(base.split(&path), Some(("exec", "T")));
        }
        let shim = Base::parse("https://node/cri/shim/").unwrap();
        for path in ["/exec/T", "/cri/exec/T", "/cri/shim/exec", "/cri/shim/exec/", "/cri/shim/exec/T/x", "/"]
        {
            assert_eq!(shim.split(path), None, "{path}");
        }
    }

    #[test]
    fn a_base_that_leads_nowhere_is_refused() {
        for text in
            ["", "/cri", "node:10010", "//node/", "ftp://node/", "10.0.0.1:10010", "http://", "http://a@b/"]
        {
            assert_eq!(Config::new(text).unwrap_err(), ConfigError::NotAbsolute(text.to_owned()), "{text}");
        }
        for text in ["http://0.0.0.0:10010/", "http://[::]:10010", "http://127.0.0.1:0/"] {
            assert_eq!(Config::new(text).unwrap_err(), ConfigError::Unreachable(text.to_owned()), "{text}");
        }
        assert!(Config::listening_on("[::1]:10010".parse().unwrap()).is_ok());
    }
}
