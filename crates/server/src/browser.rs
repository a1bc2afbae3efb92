//! What keeps a page in somebody's browser from using this server in that person's name.
//!
//! Three things a page can do that a program on the network cannot: reach what only the browser's machine reaches, have its
//! own name resolve to this server's address and so count as the same origin (DNS rebinding), and send what the browser
//! adds by itself (a client certificate). So the name in `Host` has to be one of ours, and an `Origin` has to be ours or
//! on a list. Programs send no `Origin`.

mod origin;

pub use origin::Origin;

use http::{
    HeaderMap, Method, Uri,
    header::{HOST, ORIGIN},
    uri::Authority,
};
use std::{fmt, net::IpAddr, sync::Arc};
use wsstream::proto::status::Status;

type Names = Arc<dyn Fn(&str) -> bool + Send + Sync>;

/// By which names the server is called, and whose pages may use it. The default is for a server behind nothing: `localhost`
/// and every address, pages of its own origin.
#[derive(Clone, Default)]
pub struct Browsers {
    hosts: Vec<String>,
    /// `None`: every address. A page comes by a rebound *name*; an address in `Host` is no way to rebind.
    addresses: Option<Vec<IpAddr>>,
    names: Option<Names>,
    origins: Vec<Origin>,
    https: bool,
}

impl Browsers {
    /// The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// One more name, as [`parse_host`] returns it. The port does not matter: a proxy or a forwarded port may change it.
    #[must_use]
    pub fn host(mut self, name: impl Into<String>) -> Self {
        self.hosts.push(name.into().to_ascii_lowercase());
        self
    }

    /// Only these addresses in place of all.
    #[must_use]
    pub fn addresses(mut self, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        self.addresses = Some(addresses.into_iter().map(|address| address.to_canonical()).collect());
        self
    }

    /// Also the names for which this returns true: those of a certificate, which may change.
    #[must_use]
    pub fn names(mut self, names: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        self.names = Some(Arc::new(names));
        self
    }

    /// Pages of this origin may use the server as well.
    #[must_use]
    pub fn origin(mut self, origin: Origin) -> Self {
        self.origins.push(origin);
        self
    }

    /// The server is reached by `https` alone: a page that came by `http` is not of the same origin, whoever sent it.
    #[must_use]
    pub fn https(mut self) -> Self {
        self.https = true;
        self
    }

    fn knows(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            let ours = self.addresses.as_ref().is_none_or(|ours| ours.contains(&address));
            return ours
                || self.names.as_ref().is_some_and(|names| names(bare))
                || self.hosts.iter().any(|h| h == bare);
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        name == "localhost"
            || self.hosts.iter().any(|known| known == name)
            || self.names.as_ref().is_some_and(|names| names(name))
    }

    /// Looks at a request before anything else does.
    pub(crate) fn check(&self, method: &Method, uri: &Uri, headers: &HeaderMap) -> Result<From, Box<Status>> {
        let host = one_host(uri, headers)?;
        if !self.knows(&host.host().to_ascii_lowercase()) {
            return Err(forbidden(format!(
                "this server is not known as {:?}: if it is, its operator allows the name (--allowed-host)",
                host.host()
            )));
        }
        let mut origins = headers.get_all(ORIGIN).iter();
        let Some(origin) = origins.next() else { return no_origin(method, headers) };
        let unknown = || {
            forbidden(
                "pages of this origin may not use the server; its operator allows others (--allowed-origin)"
                    .to_owned(),
            )
        };
        let text = origin.to_str().map_err(|_| unknown())?;
        // `null` (a sandboxed page, a file) is nobody's, and so is one of two.
        let (Ok(typed), None) = (text.parse::<Origin>(), origins.next()) else { return Err(unknown()) };
        if self.origins.contains(&typed) {
            return Ok(From::Allowed(origin.clone()));
        }
        // Behind a proxy that ends TLS the page is https and we are not.
        let scheme = typed.is_https() || !self.https;
        if scheme && typed.is_of(&host) { Ok(From::Here) } else { Err(unknown()) }
    }
}

impl fmt::Debug for Browsers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Browsers")
            .field("hosts", &self.hosts)
            .field("addresses", &self.addresses)
            .field("origins", &self.origins)
            .finish_non_exhaustive()
    }
}

/// Whose request it is.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum From {
    /// A program's, or a page's of our own.
    Here,
    /// A page's of an origin on the list.
    Allowed(http::HeaderValue),
}

fn forbidden(why: String) -> Box<Status> {
    Box::new(Status::forbidden("", "", why))
}

/// The host that a request is for. RFC 9112 section 3.2: exactly one, and a target in absolute form says the same.
fn one_host(uri: &Uri, headers: &HeaderMap) -> Result<Authority, Box<Status>> {
    let bad = |why: &str| Box::new(Status::bad_request(why));
    let mut hosts = headers.get_all(HOST).iter();
    let (Some(host), None) = (hosts.next(), hosts.next()) else {
        return Err(bad("a request has exactly one Host header"));
    };
    let host =
        Authority::try_from(host.as_bytes()).map_err(|_| bad("the Host header is not HOST or HOST:PORT"))?;
    if host.as_str().contains('@') || host.host().is_empty() {
        return Err(bad("the Host header is not HOST or HOST:PORT"));
    }
    match uri.authority() {
        Some(target) if *target != host => {
            Err(bad("the request target and the Host header name different hosts"))
        }
        _ => Ok(host),
    }
}

/// Without an `Origin` it is a program, or a browser's plain GET. The latter says where it comes from: another site's page
/// must not even send it, but for a link that a person has followed, whose answer no page sees.
fn no_origin(method: &Method, headers: &HeaderMap) -> Result<From, Box<Status>> {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    let own = |site: &http::HeaderValue| site == "same-origin" || site == "none";
    let followed = *method == Method::GET
        && headers.get("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
        && headers.get("sec-fetch-dest").is_some_and(|dest| dest == "document");
    if followed || sites.all(own) {
        return Ok(From::Here);
    }
    Err(forbidden("pages of other sites may not use the server".to_owned()))
}

/// Reads the name of a host as an operator types it: no scheme, no port, no path.
///
/// # Errors
/// Says what to write instead.
pub fn parse_host(typed: &str) -> Result<String, String> {
    let wrong = || format!("{typed:?} is not the name of a host: write it without scheme, port and path");
    let host = typed.to_ascii_lowercase();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    if bare.parse::<IpAddr>().is_ok() {
        return Ok(bare.to_owned());
    }
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    };
    if host.len() <= 253 && host.split('.').all(label) { Ok(host) } else { Err(wrong()) }
}

#[cfg(test)]
mod tests;
