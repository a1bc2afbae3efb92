//! A pair of ports as a person types it.

/// Which local port leads to which port of the pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PortPair {
    /// 0: any that is free.
    pub(crate) local: u16,
    /// Of the pod.
    pub(crate) remote: u16,
}

/// `REMOTE`, `LOCAL:REMOTE`, `:REMOTE` or `0:REMOTE`; used as a clap value parser.
///
/// # Errors
/// Says how to write it.
pub(crate) fn parse(typed: &str) -> Result<PortPair, String> {
    let port = |text: &str| {
        text.parse::<u16>().map_err(|_| {
            format!("`{text}` is not a port: write REMOTE, LOCAL:REMOTE or :REMOTE with numbers up to 65535")
        })
    };
    let (local, remote) = match typed.split_once(':') {
        None => (port(typed)?, port(typed)?),
        Some(("", remote)) => (0, port(remote)?),
        Some((local, remote)) => (port(local)?, port(remote)?),
    };
    if remote == 0 {
        return Err(
            "port 0 of the pod cannot be connected to; write :REMOTE for any free local port".to_owned()
        );
    }
    Ok(PortPair { local, remote })
}

#[cfg(test)]
mod tests {
    use super::{PortPair, parse};

    #[test]
    fn pairs_as_kubectl_takes_them() {
        let pair = |local, remote| Ok(PortPair { local, remote });
        assert_eq!(parse("5000"), pair(5000, 5000));
        assert_eq!(parse("8888:5000"), pair(8888, 5000));
        assert_eq!(parse(":5000"), pair(0, 5000));
        assert_eq!(parse("0:5000"), pair(0, 5000));
        for (typed, part) in [
            ("", "is not a port"),
            ("http", "`http`"),
            ("80:http", "`http`"),
            ("1:2:3", "`2:3`"),
            ("65536", "65535"),
            ("80:", "is not a port"),
            ("0", "port 0"),
            ("80:0", "port 0"),
        ] {
            let error = parse(typed).unwrap_err();
            assert!(error.contains(part), "{typed}: {error}");
        }
    }
}
