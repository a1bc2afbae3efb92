//! A ready-made forwarder: which port leads where, over TCP or to a unix socket.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;

use super::{ForwardError, PortForwarder, PortStream, RelayOptions, relay, relay_tcp};

/// How long a port may take to accept. Loopback answers at once; a host behind a network gets the usual time of
/// interactive clients.
const CONNECT: Duration = Duration::from_secs(10);

/// Where connections to one port go.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Route {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix socket in the file system.
    #[cfg(unix)]
    Unix(PathBuf),
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            #[cfg(unix)]
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// What is done with a port that has no route of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Others {
    /// It is refused.
    Refused,
    /// The same port of these hosts is tried, in order.
    Hosts(Vec<IpAddr>),
}

/// A connection to a port.
enum Socket {
    Tcp(TcpStream),
    #[cfg(unix)]
    Unix(tokio::net::UnixStream),
}

/// Leads ports to sockets of this machine, or of another host. A connection that a client breaks off is reset; a unix
/// socket, which knows no reset, is closed.
///
/// ```
/// use wsstream::portforward::Routes;
///
/// // Ports 80 and 8080 of localhost, and a unix socket that the client calls port 2375; nothing else.
/// let routes = Routes::loopback().only([80, 8080]).unix(2375, "/run/docker.sock");
/// assert!(routes.allows(8080) && routes.allows(2375) && !routes.allows(22));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routes {
    others: Others,
    only: Option<BTreeSet<u16>>,
    routes: BTreeMap<u16, Route>,
    connect: Duration,
    half_closed: Option<Duration>,
}

impl Routes {
    /// No port leads anywhere, until it is given a route.
    #[must_use]
    pub fn none() -> Self {
        Self::new(Others::Refused)
    }

    /// Every port leads to the same port of this machine's loopback: 127.0.0.1, and ::1 where that refuses.
    #[must_use]
    pub fn loopback() -> Self {
        Self::hosts([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)])
    }

    /// Every port leads to the same port of the first of `hosts` that takes the connection.
    #[must_use]
    pub fn hosts(hosts: impl IntoIterator<Item = IpAddr>) -> Self {
        Self::new(Others::Hosts(hosts.into_iter().collect()))
    }

    fn new(others: Others) -> Self {
        let RelayOptions { half_closed, .. } = RelayOptions::default();
        Self { others, only: None, routes: BTreeMap::new(), connect: CONNECT, half_closed }
    }

    /// Refuses all ports but these, and those that have a route of their own.
    #[must_use]
    pub fn only(mut self, ports: impl IntoIterator<Item = u16>) -> Self {
        self.only.get_or_insert_default().extend(ports);
        self
    }

    /// Leads a port to an address.
    #[must_use]
    pub fn tcp(mut self, port: u16, address: SocketAddr) -> Self {
        self.routes.insert(port, Route::Tcp(address));
        self
    }

    /// Leads a port to a unix socket.
    #[cfg(unix)]
    #[must_use]
    pub fn unix(mut self, port: u16, path: impl Into<PathBuf>) -> Self {
        self.routes.insert(port, Route::Unix(path.into()));
        self
    }

    /// Leads a port there.
    #[must_use]
    pub fn route(mut self, port: u16, route: Route) -> Self {
        self.routes.insert(port, route);
        self
    }

    /// How long a port may take to accept. Default 10 s.
    #[must_use]
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect = timeout;
        self
    }

    /// See [`RelayOptions::half_closed`].
    #[must_use]
    pub fn half_closed(mut self, timeout: Option<Duration>) -> Self {
        self.half_closed = timeout;
        self
    }

    /// Whether connections to the port lead anywhere.
    #[must_use]
    pub fn allows(&self, port: u16) -> bool {
        let named = |only: &BTreeSet<u16>| only.contains(&port);
        self.routes.contains_key(&port)
            || (self.others != Others::Refused && self.only.as_ref().is_none_or(named))
    }

    async fn lead(&self, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        let options = RelayOptions { half_closed: self.half_closed };
        let fate = stream.fate();
        let socket = tokio::select! {
            socket = self.dial(port) => socket?,
            // A client that does not wait for the answer is not connected for.
            () = fate.reset() => return Err(ForwardError::Client(io::ErrorKind::ConnectionReset.into())),
        };
        match socket {
            Socket::Tcp(mut socket) => relay_tcp(stream, &mut socket, &options).await?,
            // Unix sockets know no reset: an abort looks like an end there.
            #[cfg(unix)]
            Socket::Unix(socket) => relay(stream, socket, &options).await?,
        };
        Ok(())
    }

    /// Connects to where the port leads.
    async fn dial(&self, port: u16) -> Result<Socket, ForwardError> {
        let addresses = match (self.routes.get(&port), &self.others) {
            #[cfg(unix)]
            (Some(route @ Route::Unix(path)), _) => {
                let connecting = self.within(tokio::net::UnixStream::connect(path)).await;
                return connecting.map(Socket::Unix).map_err(|error| {
                    let target = route.to_string();
                    ForwardError::Connect { target, error }
                });
            }
            (Some(Route::Tcp(address)), _) => vec![*address],
            (None, Others::Hosts(hosts)) if self.allows(port) => {
                hosts.iter().map(|host| SocketAddr::new(*host, port)).collect()
            }
            (None, _) => {
                let text = format!("port {port} is not forwarded by this server");
                return Err(ForwardError::Denied(text));
            }
        };
        self.connect(&addresses).await.map(Socket::Tcp)
    }

    /// The first that takes the connection; else what the first said, which is the one people mean.
    async fn connect(&self, addresses: &[SocketAddr]) -> Result<TcpStream, ForwardError> {
        let mut first = None;
        for address in addresses {
            match self.within(connect_or_reset(*address)).await {
                Ok(socket) => {
                    // Small writes are somebody's key presses.
                    let _ = socket.set_nodelay(true);
                    return Ok(socket);
                }
                Err(error) => {
                    first.get_or_insert(error);
                }
            }
        }
        let names: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        let error = first.unwrap_or_else(|| io::ErrorKind::AddrNotAvailable.into());
        Err(ForwardError::Connect { target: names.join(" or "), error })
    }

    async fn within<T>(&self, connecting: impl Future<Output = io::Result<T>>) -> io::Result<T> {
        timeout(self.connect, connecting).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }
}

/// Connects. A socket that is dropped on the way may have been accepted at the other end already: it is reset, so that
/// nobody there takes it for a client that had nothing to say. `relay_tcp` keeps it so until all is handed on.
async fn connect_or_reset(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket2::SockRef::from(&socket).set_linger(Some(Duration::ZERO))?;
    socket.connect(address).await
}

impl PortForwarder for Routes {
    async fn forward(&self, port: u16, stream: PortStream) -> Result<(), ForwardError> {
        self.lead(port, stream).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_of_its_own_wins_over_what_is_refused() {
        let routes = Routes::loopback().only([80]).only([81]).tcp(22, ([192, 0, 2, 7], 2222).into());
        assert_eq!([80, 81, 22, 23].map(|port| routes.allows(port)), [true, true, true, false]);
        assert_eq!([80, 81].map(|port| Routes::none().allows(port)), [false, false]);
        assert!(Routes::none().unix(1, "/run/x").allows(1));
        assert!(Routes::loopback().allows(1));
        assert!(!Routes::loopback().only([]).allows(1));
    }

    #[tokio::test]
    async fn a_connection_that_is_dropped_on_its_way_is_reset_at_the_port() {
        use tokio::io::AsyncReadExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut connecting = Box::pin(connect_or_reset(listener.local_addr().unwrap()));
        assert!(futures_util::poll!(&mut connecting).is_pending());
        drop(connecting);
        let (mut accepted, _) = listener.accept().await.unwrap();
        let error = accepted.read(&mut [0]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
}
