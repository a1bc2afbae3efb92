//! An origin: what a browser says of the page that sends a request (RFC 6454 section 6.2).

use http::{Uri, uri::Authority};
use std::{fmt, str::FromStr};

/// `https://host` or `https://host:port`, in the one spelling that two equal ones share.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    https: bool,
    host: String,
    port: u16,
}

impl Origin {
    pub(super) fn is_https(&self) -> bool {
        self.https
    }

    /// Whether its page came from this host, by the port that its scheme means where none is named.
    pub(super) fn is_of(&self, host: &Authority) -> bool {
        self.host.eq_ignore_ascii_case(host.host()) && port(host, self.https) == Some(self.port)
    }
}

/// The port of a host, or the one that the scheme means. [`Authority::port`] has none also where there is a number that is
/// no port.
fn port(host: &Authority, https: bool) -> Option<u16> {
    let (_, behind) = host.as_str().split_at_checked(host.host().len())?;
    match behind {
        "" | ":" => Some(default_port(https)),
        port => port.strip_prefix(':')?.parse().ok(),
    }
}

fn default_port(https: bool) -> u16 {
    if https { 443 } else { 80 }
}

impl FromStr for Origin {
    type Err = String;

    fn from_str(typed: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "{typed:?} is not an origin: write SCHEME://HOST or SCHEME://HOST:PORT, with http or https"
            )
        };
        let rest = typed.split_once("://").map(|(_, rest)| rest).ok_or_else(wrong)?;
        let uri: Uri = typed.parse().map_err(|_| wrong())?;
        let https = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong()),
        };
        let authority = uri.authority().ok_or_else(wrong)?;
        // Nothing behind the authority, and nobody before it.
        if authority.as_str() != rest || rest.contains('@') || authority.host().is_empty() {
            return Err(wrong());
        }
        let port = port(authority, https).ok_or_else(wrong)?;
        Ok(Self { https, host: authority.host().to_ascii_lowercase(), port })
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.https { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.host)?;
        if self.port == default_port(self.https) { Ok(()) } else { write!(f, ":{}", self.port) }
    }
}
