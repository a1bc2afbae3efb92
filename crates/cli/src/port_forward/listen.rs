//! The local side: where connections come in.

use super::ports::PortPair;
use crate::failure::Failure;
use futures_util::future::select_all;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};

/// How long to wait before accepting again after a shortage, such as of descriptors.
const PAUSE: Duration = Duration::from_millis(100);

/// Where to listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Address {
    /// 127.0.0.1 and ::1, as far as this machine has them.
    Localhost,
    /// Exactly there.
    Ip(IpAddr),
}

/// Used as a clap value parser. No name is looked up but `localhost`.
pub(crate) fn parse_address(typed: &str) -> Result<Address, String> {
    if typed == "localhost" {
        return Ok(Address::Localhost);
    }
    let ip = typed.trim_start_matches('[').trim_end_matches(']').parse().map(Address::Ip);
    ip.map_err(|_| format!("`{typed}` is not an IP address, and no name but localhost is looked up"))
}

/// Everything that is listened on.
#[derive(Debug)]
pub(crate) struct Listeners(Vec<(TcpListener, PortPair)>);

impl Listeners {
    /// Listens on every address for every pair.
    pub(crate) async fn bind(addresses: &[Address], pairs: &[PortPair]) -> Result<Self, Failure> {
        let mut listeners = Vec::new();
        for pair in pairs {
            for address in addresses {
                match address {
                    Address::Ip(ip) => {
                        let listener = TcpListener::bind((*ip, pair.local)).await;
                        let at = SocketAddr::new(*ip, pair.local);
                        listeners.push((listener.map_err(|error| cannot(at, &error))?, *pair));
                    }
                    Address::Localhost => listeners.extend(localhost(*pair).await?),
                }
            }
        }
        Ok(Self(listeners))
    }

    /// What is said when all is ready, in kubectl's words.
    pub(crate) fn lines(&self) -> impl Iterator<Item = String> {
        self.0.iter().filter_map(|(listener, pair)| {
            let address = listener.local_addr().ok()?;
            Some(format!("Forwarding from {address} -> {}", pair.remote))
        })
    }

    /// The next connection, and where it leads, with the local port it came to. Cancel-safe.
    pub(crate) async fn accept(&self) -> (TcpStream, PortPair) {
        loop {
            let all = self.0.iter().map(|(listener, pair)| -> Pin<Box<dyn Future<Output = _> + Send>> {
                Box::pin(async { (listener.accept().await, *pair) })
            });
            let ((accepted, mut pair), _, _) = select_all(all).await;
            match accepted {
                Ok((socket, _)) => {
                    if let Ok(address) = socket.local_addr() {
                        pair.local = address.port();
                    }
                    // A key press is a packet.
                    let _ = socket.set_nodelay(true);
                    return (socket, pair);
                }
                // Somebody who was gone before we came, or a shortage that passes.
                Err(error) => {
                    tracing::debug!(%error, "cannot accept");
                    tokio::time::sleep(PAUSE).await;
                }
            }
        }
    }
}

/// Both families, with the same port also where any will do. One that this machine does not have is left out; one where
/// the port is taken is not, unlike kubectl, which fails only when it gets neither: `localhost` would lead to somebody else
/// as often as here.
async fn localhost(pair: PortPair) -> Result<Vec<(TcpListener, PortPair)>, Failure> {
    let (four, six) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let mut tries = 0;
    loop {
        let first = TcpListener::bind((four, pair.local)).await;
        let port = match &first {
            Ok(listener) => listener.local_addr().map_or(pair.local, |address| address.port()),
            Err(_) => pair.local,
        };
        let second = TcpListener::bind((six, port)).await;
        tries += 1;
        match (first, second) {
            (Ok(first), Ok(second)) => return Ok(vec![(first, pair), (second, pair)]),
            // Free in one family and taken in the other: another one will do.
            (_, Err(error)) if is_taken(&error) && pair.local == 0 && tries < TRIES => {}
            (Err(error), _) if is_taken(&error) => return Err(cannot((four, port).into(), &error)),
            (_, Err(error)) if is_taken(&error) => return Err(cannot((six, port).into(), &error)),
            (Ok(one), Err(_)) | (Err(_), Ok(one)) => return Ok(vec![(one, pair)]),
            (Err(error), Err(_)) => return Err(cannot((four, port).into(), &error)),
        }
    }
}

/// How many free ports are tried in both families.
const TRIES: u32 = 16;

/// The family is there, but not for us.
fn is_taken(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}

fn cannot(address: SocketAddr, error: &io::Error) -> Failure {
    let failure = Failure::local(format!("cannot listen on {address}: {error}"));
    match error.kind() {
        io::ErrorKind::AddrInUse => failure
            .next("something listens there already; choose another local port, or :REMOTE for any free one"),
        io::ErrorKind::PermissionDenied => {
            failure.next("ports below 1024 need privileges; choose another local port, such as 8080:80")
        }
        io::ErrorKind::AddrNotAvailable => failure.next("this machine does not have that address"),
        _ => failure,
    }
}

#[cfg(test)]
mod tests {
    use super::{Address, Listeners, PortPair, parse_address};
    use tokio::net::TcpListener;

    #[test]
    fn addresses_are_numbers_or_localhost() {
        assert_eq!(parse_address("localhost"), Ok(Address::Localhost));
        for typed in ["127.0.0.1", "::1", "[::1]", "0.0.0.0"] {
            assert!(matches!(parse_address(typed), Ok(Address::Ip(_))), "{typed}");
        }
        for typed in ["", "example.com", "127.0.0.1:80"] {
            parse_address(typed).unwrap_err();
        }
    }

    #[tokio::test]
    async fn localhost_is_refused_where_one_family_is_somebody_elses() {
        let Ok(taken) = TcpListener::bind("[::1]:0").await else {
            eprintln!("SKIP: there is no IPv6 here");
            return;
        };
        let local = taken.local_addr().unwrap().port();
        let pair = PortPair { local, remote: 80 };
        let failure = Listeners::bind(&[Address::Localhost], &[pair]).await.unwrap_err();
        assert!(failure.to_string().contains(&format!("cannot listen on [::1]:{local}")), "{failure}");
    }
}
