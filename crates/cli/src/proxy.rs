//! Which proxy leads to the server: kubectl's rules, which are Go's.
//!
//! `proxy-url` of the kubeconfig is taken as it is. Otherwise `HTTPS_PROXY` or `HTTP_PROXY` count (by the scheme
//! of the server), `NO_PROXY` excludes servers, and this machine is never reached through a proxy.

use http::Uri;
use std::net::IpAddr;

/// The proxy for `server`; `env` looks a variable up.
///
/// # Errors
/// Names the variable whose value is not a URL.
pub(crate) fn from_env(server: &Uri, env: impl Fn(&str) -> Option<String>) -> Result<Option<Uri>, String> {
    let (upper, lower) = match server.scheme_str() {
        Some("https") => ("HTTPS_PROXY", "https_proxy"),
        _ => ("HTTP_PROXY", "http_proxy"),
    };
    let get = |name: &'static str| env(name).filter(|value| !value.is_empty()).map(|value| (name, value));
    let Some((name, proxy)) = get(upper).or_else(|| get(lower)) else { return Ok(None) };
    let no_proxy = get("NO_PROXY").or_else(|| get("no_proxy")).map(|(_, value)| value).unwrap_or_default();
    if excluded(server, &no_proxy) {
        return Ok(None);
    }
    parse(&proxy).map(Some).ok_or_else(|| format!("{name} is not a URL: {proxy}"))
}

/// A proxy's URL; `host:port` alone means HTTP.
pub(crate) fn parse(proxy: &str) -> Option<Uri> {
    let full = if proxy.contains("://") { proxy.to_owned() } else { format!("http://{proxy}") };
    full.parse::<Uri>().ok().filter(|uri| uri.host().is_some())
}

fn excluded(server: &Uri, no_proxy: &str) -> bool {
    let Some(host) = server.host() else { return false };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    let ip = host.parse::<IpAddr>().ok();
    if host == "localhost" || ip.is_some_and(|ip| ip.is_loopback()) {
        return true;
    }
    let port = server.port_u16().unwrap_or(if server.scheme_str() == Some("https") { 443 } else { 80 });
    no_proxy.split(',').map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        let entry = entry.to_ascii_lowercase();
        if entry == "*" {
            return true;
        }
        if let Some((network, bits)) = entry.split_once('/') {
            return in_network(ip, network, bits);
        }
        if let Ok(address) = entry.parse::<IpAddr>() {
            return ip == Some(address);
        }
        let (name, entry_port) = match entry.rsplit_once(':') {
            Some((name, port)) => (name, port.parse::<u16>().ok()),
            None => (entry.as_str(), None),
        };
        if entry_port.is_some_and(|entry_port| entry_port != port) {
            return false;
        }
        if let Ok(address) = name.trim_matches(['[', ']']).parse::<IpAddr>() {
            return ip == Some(address);
        }
        // `example.com` stands for itself and what is below it, `.example.com` for what is below it.
        let name = name.strip_prefix('*').unwrap_or(name);
        match name.strip_prefix('.') {
            Some(domain) => below(&host, domain),
            None => host == name || below(&host, name),
        }
    })
}

fn below(host: &str, domain: &str) -> bool {
    host.strip_suffix(domain).is_some_and(|rest| rest.ends_with('.'))
}

fn in_network(ip: Option<IpAddr>, network: &str, bits: &str) -> bool {
    let (Some(ip), Ok(network), Ok(bits)) = (ip, network.parse::<IpAddr>(), bits.parse::<u32>()) else {
        return false;
    };
    match (ip, network) {
        (IpAddr::V4(ip), IpAddr::V4(network)) if bits <= 32 => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            (ip.to_bits() ^ network.to_bits()) & mask == 0
        }
        (IpAddr::V6(ip), IpAddr::V6(network)) if bits <= 128 => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            (ip.to_bits() ^ network.to_bits()) & mask == 0
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::{excluded, from_env, parse};

    fn chosen(server: &str, env: &[(&str, &str)]) -> Option<String> {
        let get = |name: &str| env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
        from_env(&server.parse().unwrap(), get).unwrap().map(|uri| uri.to_string())
    }

    #[test]
    fn the_scheme_of_the_server_chooses_the_variable() {
        let env = [("HTTPS_PROXY", "http://s:1"), ("http_proxy", "h:2")];
        assert_eq!(chosen("https://k8s.example:6443", &env).unwrap(), "http://s:1/");
        assert_eq!(chosen("http://k8s.example", &env).unwrap(), "http://h:2/");
        assert_eq!(chosen("https://k8s.example", &[("HTTPS_PROXY", "")]), None);
    }

    #[test]
    fn this_machine_is_never_behind_a_proxy() {
        for server in
            ["https://127.0.0.1:7443", "https://localhost:7443", "https://[::1]:7443", "https://127.1.2.3"]
        {
            assert_eq!(chosen(server, &[("HTTPS_PROXY", "http://p:1")]), None, "{server}");
        }
    }

    #[test]
    fn no_proxy_rows() {
        let table = [
            ("https://a.example", "*", true),
            ("https://a.example", "", false),
            ("https://a.example", "example", true),
            ("https://example", "example", true),
            ("https://badexample", "example", false),
            ("https://example", ".example", false),
            ("https://a.example", ".example", true),
            ("https://a.example", "*.example", true),
            ("https://a.example", "x, ,A.Example,", true),
            ("https://a.example:6443", "a.example:6443", true),
            ("https://a.example", "a.example:6443", false),
            ("https://a.example", "a.example:443", true),
            ("https://10.1.2.3:6443", "10.0.0.0/8", true),
            ("https://11.1.2.3:6443", "10.0.0.0/8", false),
            ("https://11.1.2.3:6443", "0.0.0.0/0", true),
            ("https://10.1.2.3:6443", "10.1.2.3", true),
            ("https://10.1.2.3:6443", "10.1.2.3:6443", true),
            ("https://10.1.2.3:6443", "10.1.2.3:443", false),
            ("https://[fd00::1]:6443", "fd00::/8", true),
            ("https://[fd00::1]:6443", "fd00::1", true),
            ("https://[fd00::1]:6443", "fe00::/8", false),
            ("https://a.example", "10.0.0.0/8,/,a/b,10.0.0.0/99", false),
        ];
        for (server, no_proxy, expected) in table {
            assert_eq!(excluded(&server.parse().unwrap(), no_proxy), expected, "{server} with {no_proxy}");
        }
    }

    #[test]
    fn a_bad_value_is_named() {
        let get = |name: &str| (name == "HTTPS_PROXY").then(|| "http://".to_owned());
        let error = from_env(&"https://a.example".parse().unwrap(), get).unwrap_err();
        assert!(error.contains("HTTPS_PROXY"), "{error}");
        assert_eq!(parse("proxy.example:3128").unwrap().scheme_str(), Some("http"));
        assert_eq!(parse("socks5://p:1080").unwrap().scheme_str(), Some("socks5"));
    }
}
