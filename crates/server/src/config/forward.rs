//! Which ports of a pod may be forwarded, and where they lead, as an operator writes it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::PathBuf,
    str::FromStr,
};
use wsstream::portforward::{Route, Routes};

/// What `kubectl port-forward` reaches in a pod.
///
/// The default is every port of this machine's loopback: whoever may run commands in the pod reaches those anyway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ForwardSpec {
    /// The ports of loopback that may be forwarded.
    pub ports: ForwardPorts,
    /// Ports that lead elsewhere, whatever `ports` says.
    pub routes: BTreeMap<u16, Route>,
}

impl ForwardSpec {
    pub(super) fn build(&self) -> Routes {
        let routes = match &self.ports {
            ForwardPorts::Any => Routes::loopback(),
            ForwardPorts::Only(ports) => Routes::loopback().only(ports.iter().copied()),
        };
        self.routes.iter().fold(routes, |routes, (port, route)| routes.route(*port, route.clone()))
    }
}

/// Ports of loopback: `any`, `none`, or a list such as `80,8000-8099`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum ForwardPorts {
    /// All of them.
    #[default]
    Any,
    /// These; empty: none.
    Only(BTreeSet<u16>),
}

impl FromStr for ForwardPorts {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.trim() {
            "any" => return Ok(Self::Any),
            "none" => return Ok(Self::Only(BTreeSet::new())),
            _ => {}
        }
        let mut ports = BTreeSet::new();
        for part in text.split(',').map(str::trim) {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (parse_port(first)?, parse_port(last)?);
            if first > last {
                return Err(format!("the range {part} ends before it begins"));
            }
            ports.extend(first..=last);
        }
        Ok(Self::Only(ports))
    }
}

fn parse_port(text: &str) -> Result<u16, String> {
    text.trim()
        .parse()
        .ok()
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("{text:?} is not a port: write `any`, `none`, or a list such as 80,8000-8099"))
}

/// `unix:PATH` or `ADDRESS:PORT`. No name is looked up: where a port leads should not depend on a resolver.
///
/// # Errors
/// Says how to write it.
pub fn parse_route(text: &str) -> Result<Route, String> {
    if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
        return Ok(Route::Unix(PathBuf::from(path)));
    }
    text.parse::<SocketAddr>().map(Route::Tcp).map_err(|_| {
        format!("{text:?} is no target: write unix:PATH, such as unix:/run/docker.sock, or ADDRESS:PORT")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_words_lists_and_ranges() {
        let only = |ports: &[u16]| Ok(ForwardPorts::Only(ports.iter().copied().collect()));
        assert_eq!("any".parse(), Ok(ForwardPorts::Any));
        assert_eq!("none".parse(), only(&[]));
        assert_eq!("80, 8000-8002,65535".parse(), only(&[80, 8000, 8001, 8002, 65535]));
        for (text, part) in [("", "is not a port"), ("0", "\"0\""), ("80,x", "\"x\""), ("2-1", "ends before")]
        {
            let error = text.parse::<ForwardPorts>().unwrap_err();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn routes_name_their_kind() {
        assert_eq!(parse_route("unix:/run/x"), Ok(Route::Unix("/run/x".into())));
        assert_eq!(parse_route("192.0.2.7:80"), Ok(Route::Tcp(([192, 0, 2, 7], 80).into())));
        for text in ["", "unix:", "example.com:80", "80"] {
            assert!(parse_route(text).unwrap_err().contains("unix:PATH"), "{text}");
        }
    }

    #[test]
    fn a_route_leads_also_where_no_port_is_allowed() {
        let mut spec = ForwardSpec { ports: "none".parse().unwrap(), ..ForwardSpec::default() };
        spec.routes.insert(2375, parse_route("unix:/run/x").unwrap());
        let routes = spec.build();
        assert!(routes.allows(2375) && !routes.allows(80));
        assert!(ForwardSpec::default().build().allows(80));
    }
}
